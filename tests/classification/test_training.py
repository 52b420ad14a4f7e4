import signal

import numpy as np
import pytest
import torch

from medgan.classification.few_labels import ClassPatches
from medgan.classification.settings import ClassifierDescription
from medgan.classification.sgan import SGAN
from medgan.classification.training import FewLabelsConfig, classifier_task
from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, DataError
from medgan.segmentation.labelled import Labelled
from medgan.training.device import make_fabric
from medgan.training.fit import Interrupted
from medgan.training.model_folder import Origin, read_model

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


def trained(folder, config, **changes):
    known, seen = spots(6, config), spots(30, config, seed=1).images
    given = {"labelled": known, "unlabelled": seen, "validation": (), "seed": 3} | changes
    cases = [given.pop(name) for name in ("labelled", "unlabelled", "validation")]
    task = classifier_task(*cases, config, seed=given.pop("seed"))
    return task.train(folder, make_fabric("cpu", "32"), **given)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.network.state_dict().values()])


def case(number):
    labels = np.zeros((24, 24, 8), dtype=np.uint8)
    labels[4:7, 4:7, 3:6] = 1
    voxels = (60 + 90 * labels + np.random.default_rng(number).normal(0, 5, labels.shape)).astype(np.float32)
    return Labelled(f"s{number}", Prepared(voxels, np.eye(4), ((0, 24), (0, 24), (0, 8)), (0.0, 200.0)), labels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", PATCHES)
def test_it_learns_to_tell_patches_apart_that_it_never_saw(tmp_path, dimensions, method):
    config = settings(dimensions, method, epochs=1, iterations_per_epoch=40, average_decay=0.5)
    model = trained(tmp_path, config)
    unseen = spots(40, config, seed=9)
    assert (model.network(unseen.images).argmax(1) == unseen.classes).float().mean() == 1


@pytest.mark.parametrize("dimensions", PATCHES)
def test_the_model_folder_holds_the_discriminator_and_its_class_scores(tmp_path, dimensions, monkeypatch):
    steps = []
    step = SGAN.training_step
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
    description = loaded.description
    assert (description.method, description.unlabelled, description.labelled) == (
        "sgan",
        30,
        {"healthy": 3, "lesion": 3},
    )
    assert description.origin.phantom


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nobody stopped, trained once: ``whole("3d")`` gives its folder and its model."""
    done = {}

    def run(dimensions="2d"):
        if dimensions not in done:
            folder = tmp_path_factory.mktemp("whole")
            done[dimensions] = folder, trained(folder, settings(dimensions))
        return done[dimensions]

    return run


@pytest.mark.parametrize("dimensions", PATCHES)
def test_a_resumed_training_equals_one_that_was_not_stopped(tmp_path, whole, dimensions, monkeypatch):
    config = settings(dimensions)
    step, done = SGAN.training_step, []

    def stopping(self, batch):
        done.append(1)
        if len(done) == 4:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(SGAN, "training_step", stopping)
    with pytest.raises(Interrupted):
        trained(tmp_path, config)
    monkeypatch.undo()
    assert torch.equal(weights(trained(tmp_path, config, resume=True)), weights(whole(dimensions)[1]))


def test_equal_seeds_give_equal_models_and_others_do_not(tmp_path, whole):
    again, other = (trained(tmp_path / str(seed), settings(), seed=seed) for seed in (3, 4))
    assert torch.equal(weights(whole()[1]), weights(again))
    assert not torch.equal(weights(again), weights(other))


def test_the_supervised_method_does_not_look_at_unlabelled_patches(tmp_path):
    config = settings(method="supervised")
    one, other = (trained(tmp_path / str(n), config, unlabelled=torch.full((9, 1, 8, 8), n)) for n in (0.0, 1.0))
    assert torch.equal(weights(one), weights(other))
    assert one.description.unlabelled == 0


def test_subjects_that_were_kept_apart_choose_the_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr("medgan.classification.learner.JUDGED", 16)
    config = settings(keep="best")
    with pytest.raises(DataError, match=r"no labelled subject to choose the epoch; add one, or set fit.keep=last"):
        trained(tmp_path, config)
    model = trained(tmp_path, config, validation=[case(0), case(1)])
    assert set(model.description.metrics) == {"val/cross_entropy", "val/accuracy"}


def test_there_must_be_something_to_learn_from(tmp_path):
    config = settings()
    with pytest.raises(DataError, match="no labelled patch to learn from"):
        trained(tmp_path, config, labelled=spots(0, config))
    with pytest.raises(DataError, match=r"give some, or set method.kind=supervised"):
        trained(tmp_path, config, unlabelled=torch.zeros(0, 1, 8, 8))


def test_what_is_resumed_has_the_settings_it_was_begun_with(whole):
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        trained(whole()[0], settings(batch_size=5), resume=True)
