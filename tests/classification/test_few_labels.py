import signal

import numpy as np
import pytest
import torch

from labelled_cases import boxed_case
from medgan.classification.classifier import CLASS, UNLABELLED, ClassifierDescription, ClassPatches
from medgan.classification.few_labels import FewLabels, FewLabelsConfig, VariationConfig, _vary, classifier_task
from medgan.classification.sgan import SGAN
from medgan.errors import ConfigError, DataError
from medgan.training.device import make_fabric
from medgan.training.fit import Interrupted
from medgan.training.model_folder import Origin, read_model

STILL = VariationConfig(mirroring=False, contrast=0, brightness=0, noise=0)
SHAPES = {"2d": (6, 6), "3d": (6, 6, 4)}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def patches(count, shape):
    """Each patch is one value, by which it is known again; even ones are healthy."""
    values = torch.arange(count) / count - 0.5
    images = values.view(-1, 1, *[1] * len(shape)).expand(-1, 1, *shape).clone()
    return ClassPatches(images, torch.arange(count) % 2)


def test_an_item_is_a_function_of_seed_and_number(shape):
    known, unknown = patches(4, shape), torch.rand(9, 1, *shape)
    first, again, other = (FewLabels(known, unknown, VariationConfig(), seed=seed) for seed in (3, 3, 4))
    for number in (7, 0, 7):
        assert all(torch.equal(first[number][key], again[number][key]) for key in first[number])
    assert any(not torch.equal(first[number][UNLABELLED], other[number][UNLABELLED]) for number in range(3))


def test_a_patch_comes_with_its_own_class_all_are_drawn_and_unlabelled_ones_where_there_are_any(shape):
    known = patches(5, shape)
    items = [FewLabels(known, torch.zeros(3, 1, *shape), STILL, seed=0)[number] for number in range(60)]
    drawn = {(item["image"].mean().item(), item[CLASS].item()) for item in items}
    assert drawn == set(zip(known.images.flatten(1).mean(1).tolist(), known.classes.tolist(), strict=True))
    assert set(FewLabels(known, torch.zeros(0, 1, *shape), STILL, seed=0)[0]) == {"image", CLASS}


def test_mirroring_turns_the_plane_over_in_every_way_and_leaves_the_third_axis(shape):
    patch = torch.rand(1, *shape) * 2 - 1
    torch.testing.assert_close(_vary(patch, STILL, np.random.default_rng(0)), patch)
    config = STILL.model_copy(update={"mirroring": True})
    turned = {tuple(_vary(patch, config, np.random.default_rng(n)).flatten().tolist()) for n in range(100)}
    plane = [each.flip(axes) for each in (patch, patch.transpose(1, 2)) for axes in ([], [1], [2], [1, 2])]
    assert len(turned) == 8
    for found in turned:
        assert min((torch.tensor(found) - each.flatten()).abs().max() for each in plane) < 1e-6


@pytest.mark.parametrize(("name", "amount"), [("contrast", 0.2), ("brightness", 0.1), ("noise", 0.05)])
def test_intensities_vary_within_their_share_of_the_window(shape, name, amount):
    patch = torch.linspace(-0.4, 0.4, int(np.prod(shape))).reshape(1, *shape)
    config = STILL.model_copy(update={name: amount})
    changed = [_vary(patch, config, np.random.default_rng(n)) - patch for n in range(200)]
    size = {
        "contrast": lambda change: (change / patch).abs().max(),
        "brightness": lambda change: change.abs().max() / 2,
        "noise": lambda change: change.std() / 2,
    }[name]
    assert 0.8 * amount < max(map(size, changed)) <= amount * (1.6 if name == "noise" else 1.0001)
    far = VariationConfig(brightness=0.9)
    assert all(_vary(torch.ones(1, *shape), far, np.random.default_rng(n)).abs().max() <= 1 for n in range(20))


# Learning from them.

PATCHES = {"2d": {"dimensions": 2, "size_voxels": 8}, "3d": {"dimensions": 3, "size_voxels": 8, "depth_voxels": 8}}
METHODS = {"sgan": {"kind": "sgan", "channels": 4, "latent": 3}, "supervised": {"kind": "supervised"}}


def settings(dimensions="2d", method="sgan", **fit):
    fit = {"epochs": 2, "iterations_per_epoch": 3, "batch_size": 4, "precision": "32", "keep": "last"} | fit
    return FewLabelsConfig(
        patch=PATCHES[dimensions], method=METHODS[method] | {"rate": 0.003}, network={"channels": 4}, fit=fit
    )


def spots(count, config, seed=0):
    """Noise, and a bright spot in every second patch."""
    images = 0.1 * torch.randn(count, 1, *config.shape, generator=torch.Generator().manual_seed(seed)) - 0.4
    classes = torch.arange(count) % 2
    images[(classes == 1, slice(None), *(slice(3, 6) for _ in config.shape))] += 0.9
    return ClassPatches(images, classes)


def trained(folder, config, *, seed=3, labelled=None, unlabelled=None, validation=(), **how):
    known = spots(6, config) if labelled is None else labelled
    unknown = spots(30, config, seed=1).images if unlabelled is None else unlabelled
    task = classifier_task(known, unknown, validation, config, seed=seed)
    return task.train(folder, make_fabric("cpu", "32"), **how)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.network.state_dict().values()])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", PATCHES)
def test_it_learns_to_tell_patches_apart_that_it_never_saw(tmp_path, dimensions, method):
    config = settings(dimensions, method, epochs=1, iterations_per_epoch=40, average_decay=0.5)
    model = trained(tmp_path, config)
    unseen = spots(40, config, seed=9)
    assert (model.network(unseen.images).argmax(1) == unseen.classes).float().mean() == 1


@pytest.mark.parametrize("dimensions", PATCHES)
def test_the_model_folder_holds_the_discriminator_and_its_class_scores(tmp_path, dimensions, monkeypatch):
    steps, step = [], SGAN.training_step
    monkeypatch.setattr(SGAN, "training_step", lambda self, batch: steps.append(self) or step(self, batch))
    config = settings(dimensions, average_decay=0.0)
    trained(tmp_path, config, origin=Origin(split_hash="abc", phantom=True))
    loaded = read_model(tmp_path / "model", ClassifierDescription)
    patches = spots(5, config, seed=4).images
    # Without averaging the kept network is the discriminator of the last step; how tensors lie in memory may round
    # its scores differently.
    discriminator = steps[-1].classifier.eval()
    torch.testing.assert_close(loaded.network(patches), discriminator(patches).detach(), rtol=1e-5, atol=1e-7)
    # Given that a patch is real, its C + 1 probabilities are those of the C scores alone.
    scores = loaded.network(patches).double()
    with_fake = torch.softmax(torch.cat([scores, torch.zeros(5, 1)], dim=1), dim=1)
    torch.testing.assert_close(
        with_fake[:, :-1] / (1 - with_fake[:, -1:]), torch.softmax(scores, dim=1), rtol=1e-9, atol=1e-12
    )
    learnt = loaded.description
    assert (learnt.method, learnt.unlabelled, learnt.labelled) == ("sgan", 30, {"healthy": 3, "lesion": 3})
    assert learnt.origin.phantom


@pytest.mark.parametrize("dimensions", PATCHES)
def test_equal_seeds_give_equal_models_also_of_a_resumed_training(tmp_path, dimensions, monkeypatch):
    config, step, done = settings(dimensions), SGAN.training_step, []

    def stopping(self, batch):
        done.append(1)
        if len(done) == 4:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(SGAN, "training_step", stopping)
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", config)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        trained(tmp_path / "parts", settings(dimensions, batch_size=5), resume=True)
    parts = trained(tmp_path / "parts", config, resume=True)
    whole, other = (trained(tmp_path / str(seed), config, seed=seed) for seed in (3, 4))
    assert torch.equal(weights(parts), weights(whole))
    assert not torch.equal(weights(other), weights(whole))


def test_the_supervised_method_does_not_look_at_unlabelled_patches(tmp_path):
    config = settings(method="supervised")
    one, other = (trained(tmp_path / str(n), config, unlabelled=torch.full((9, 1, 8, 8), n)) for n in (0.0, 1.0))
    assert torch.equal(weights(one), weights(other))
    assert one.description.unlabelled == 0


def test_there_must_be_something_to_learn_from_and_somebody_kept_apart_who_chooses_the_epoch(tmp_path, monkeypatch):
    config, best = settings(), settings(keep="best")
    with pytest.raises(DataError, match="no labelled patch to learn from"):
        trained(tmp_path, config, labelled=spots(0, config))
    with pytest.raises(DataError, match=r"give some, or set method.kind=supervised"):
        trained(tmp_path, config, unlabelled=torch.zeros(0, 1, 8, 8))
    with pytest.raises(DataError, match=r"no labelled subject to choose the epoch; add one, or set fit.keep=last"):
        trained(tmp_path, best)
    monkeypatch.setattr("medgan.classification.classifier.JUDGED", 16)
    held_out = [boxed_case((24, 24, 8), [np.s_[4:7, 4:7, 3:6]], number, level=60, contrast=90) for number in (0, 1)]
    assert set(trained(tmp_path, best, validation=held_out).description.metrics) == {
        "val/cross_entropy", "val/accuracy"
    }  # fmt: skip
