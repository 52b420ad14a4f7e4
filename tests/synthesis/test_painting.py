"""A painter's step: what is hidden, what each term is, who moves, and that a resumed run is the same run."""

import copy
import os
import signal

import numpy as np
import pytest
import torch
from rich.console import Console

from medgan.config import load
from medgan.data.preparation import Prepared
from medgan.losses import grain
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.synthesis.generator import masks
from medgan.synthesis.painting import MaskToLesion, MaskToLesionConfig, of_hidden
from medgan.synthesis.patches import LesionConfig, LesionPatches
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig, Interrupted
from medgan.training.recorder import Recorder
from medgan.training.state import load_checked

BOTH = pytest.mark.parametrize("dimensions", ["2", "3"], ids=["2d", "3d"])
SMALL = {
    "network": {"kind": "spade", "channels": 4, "hidden": 4},
    "discriminator": {"receptive_field": 16, "channels": 4, "norm": "none"},
    "warm_up_iterations": 0,
}
CONCATENATION = {"kind": "resnet", "channels": 4, "blocks": 1, "skips": True}
FIT = FitConfig(epochs=2, iterations_per_epoch=3, batch_size=2, precision="32", average_decay=0.5)


def lesions(dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 16, "depth_voxels": 8 if dimensions == "3" else None}
    return LesionConfig(labels={"bright": 1, "dark": 2}, patch=patch, condition={"classes": True})


def learner(dimensions, **settings):
    torch.manual_seed(0)
    made = MaskToLesion(load(MaskToLesionConfig, SMALL, settings), lesions(dimensions))
    fabric = make_fabric("cpu", "32")
    wrapped = {name: fabric.setup_module(network) for name, network in made.networks().items()}
    placed = {name: fabric.setup_optimizers(each) for name, each in made.optimizers().items()}
    made.attach(fabric, wrapped, placed)
    return made


def batch(dimensions, seed=0):
    random = torch.Generator().manual_seed(seed)
    shape = lesions(dimensions).shape
    labels = torch.zeros(2, 1, *shape, dtype=torch.long)
    labels[:, :, 5:8, 6:9], labels[1, :, 5:8, 6:9] = 1, 2
    condition = torch.nn.functional.one_hot(labels.flatten(1).amax(1), 3).float()
    image = torch.rand(2, 1, *shape, generator=random) * 2 - 1
    return {"image": image, "labels": labels, "condition": condition}


def subjects(count, first=0):
    """Noise with one lesion of each name."""
    made = []
    for seed in range(first, first + count):
        voxels = np.random.default_rng(seed).normal(size=(24, 24, 10)).astype(np.float32)
        labels = np.zeros(voxels.shape, dtype=np.uint8)
        labels[6:9, 6:9, 3:6], labels[15:18, 15:18, 4:7] = 1, 2
        image = Prepared(
            voxels + 2 * (labels == 1) - 2 * (labels == 2), np.eye(4), ((0, 24), (0, 24), (0, 10)), (-4, 4)
        )
        made.append(Labelled(f"s{seed}", image, labels))
    return made


def weights(network):
    return torch.cat([value.detach().flatten().clone() for value in network.parameters()])


@BOTH
@pytest.mark.parametrize("adversarial", ["vanilla", "least_squares", "hinge", "wasserstein", "none"])
@pytest.mark.parametrize("network", ["spade", "concatenation"])
def test_every_game_trains_all_networks(dimensions, adversarial, network):
    settings = {"network": CONCATENATION} if network == "concatenation" else {}
    made = learner(dimensions, adversarial=adversarial, **settings)
    before = {name: weights(each) for name, each in made.networks().items()}
    terms = made.training_step(batch(dimensions))
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert not any(torch.equal(before[name], weights(each)) for name, each in made.networks().items())
    assert ("gradient_penalty" in terms) == (adversarial == "wasserstein")
    assert ("discriminator" in before) == (adversarial != "none")
    assert made.optimizers().keys() == before.keys()


@BOTH
def test_the_terms_are_weighted_l1_in_the_hidden_region_and_the_conditional_game(dimensions):
    made, given = (
        learner(dimensions, adversarial="least_squares", l1=10.0, grain=5.0, lesion_weight=3.0, noise=0),
        batch(dimensions),
    )
    painter, judge = (copy.deepcopy(made.networks()[name].module) for name in ("generator", "discriminator"))
    torch.manual_seed(5)
    hidden = made.hidden(given, np.random.default_rng(int(torch.randint(2**31, (1,)))))
    torch.manual_seed(5)
    terms = made.training_step(given)
    wanted = masks(given["labels"], 2) * hidden
    real = given["image"]
    with torch.no_grad():
        fake = painter(real * (1 - hidden), hidden, wanted, given["condition"])
        scores = [of_hidden(judge(torch.cat([hidden, wanted, patch], dim=1)), hidden) for patch in (real, fake)]
    assert 0 < hidden.mean() < 1
    weight = hidden * torch.where(wanted.sum(dim=1, keepdim=True) > 0, 3.0, 1.0)
    torch.testing.assert_close(terms["l1"], 10 * (weight * (fake - real).abs()).sum() / weight.sum())
    torch.testing.assert_close(terms["grain"], 5 * grain(fake, real, hidden))
    game = (((scores[0] - 1) ** 2).mean() + (scores[1] ** 2).mean()) / 2
    torch.testing.assert_close(terms["discriminator"], game)


@BOTH
def test_the_game_is_about_places_where_something_is_hidden(dimensions):
    hidden = torch.zeros(1, 1, *lesions(dimensions).shape)
    scores = torch.arange(4.0**2 if dimensions == "2" else 4.0**3).view(1, 1, *[4] * (hidden.dim() - 2))
    assert torch.equal(of_hidden(scores, hidden), scores.flatten())
    hidden[(0, 0, 5, 9, 3)[: hidden.dim()]] = 1
    assert of_hidden(scores, hidden).tolist() == [scores[(0, 0, 1, 2, 1)[: hidden.dim()]]]


@BOTH
def test_the_game_begins_after_the_warm_up_and_a_resumed_run_knows_when(dimensions):
    made, given = learner(dimensions, warm_up_iterations=2), batch(dimensions)
    before = weights(made.networks()["discriminator"])
    assert [set(made.training_step(given)) for _ in range(2)] == [{"l1"}, {"l1"}]
    assert torch.equal(before, weights(made.networks()["discriminator"]))
    resumed = learner(dimensions, warm_up_iterations=2)
    resumed.load_state_dict(made.state_dict())
    for each in (made, resumed):
        assert set(each.training_step(given)) == {"l1", "generator", "discriminator"}


def test_each_step_moves_its_own_network_only():
    made, given = learner("2"), batch("2")
    for moved, still in (("discriminator", "generator"), ("generator", "discriminator")):
        rates = {moved: 1e-3, still: 0.0}
        for name, optimizer in made.optimizers().items():
            optimizer.param_groups[0]["lr"] = rates[name]
        before = {name: weights(network) for name, network in made.networks().items()}
        made.training_step(given)
        assert torch.equal(before[still], weights(made.networks()[still]))
        assert not torch.equal(before[moved], weights(made.networks()[moved]))


class Perfect(torch.nn.Module):
    """Knows what lies in the hidden region of its patches, but for a constant."""

    def __init__(self, truth, error):
        super().__init__()
        self.truth, self.error = truth, error

    def forward(self, context, hidden, wanted, condition, noise=None):
        return torch.where(hidden > 0, self.truth + self.error, context)


@BOTH
def test_validation_measures_the_hidden_region_alone(dimensions):
    made = learner(dimensions)
    held_out = LabelledHeldOut.of(subjects(2))
    truth = made.held_out_patches(held_out)["image"]
    exact, off = (made.validate(held_out, {"generator": Perfect(truth, error)}) for error in (0.0, 0.1))
    assert exact.metrics["val/mae_percent"] == exact.metrics["val/noise_percent"] == 0
    assert exact.metrics["val/sliced_wasserstein"] == 0 < off.metrics["val/sliced_wasserstein"]
    assert off.metrics["val/mae_percent"] == pytest.approx(5, rel=1e-4)
    assert made.best in off.metrics
    assert off.panel.shape == (4 * 16, 4 * 16)
    context, wanted, painted, real = np.hsplit(exact.panel, 4)
    assert np.array_equal(painted, real)
    assert set(np.unique(wanted)) == {0, 255}
    assert (context == 0).sum() > (wanted == 255).sum()


@BOTH
def test_validation_says_whether_noise_is_used(dimensions):
    made = learner(dimensions)
    painter = copy.deepcopy(made.networks()["generator"].module).eval()
    assert made.validate(LabelledHeldOut.of(subjects(2)), {"generator": painter}).metrics["val/noise_percent"] > 0


class StoppingPatches(LesionPatches):
    """Patches, and a Ctrl-C of the user while a certain one is drawn."""

    stop_at = None

    def __getitem__(self, number):
        if number == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(number)


@BOTH
def test_a_stopped_and_resumed_run_equals_one_that_was_not(dimensions, tmp_path):
    def start(name, stop_at=None):
        torch.manual_seed(0)
        made = MaskToLesion(load(MaskToLesionConfig, SMALL, {"warm_up_iterations": 2}), lesions(dimensions))
        patches = StoppingPatches(subjects(2), lesions(dimensions), seed=0)
        patches.stop_at = stop_at
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        recorder = Recorder(folder, None, Console(quiet=True))
        held_out = LabelledHeldOut.of(subjects(1, 7))
        return Fit(made, patches, held_out, FIT, fabric=make_fabric("cpu", "32"), folder=folder, recorder=recorder)

    start("whole").run()
    with pytest.raises(Interrupted, match="stopped after iteration 3"):
        start("parts", stop_at=5).run()
    torch.rand(7)
    start("parts").run(resume=True)
    whole, parts = (load_checked(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for name in ("generator", "discriminator"):
        for one, other in zip(whole["networks"][name].values(), parts["networks"][name].values(), strict=True):
            assert torch.equal(one, other)
    assert whole["progress"] == parts["progress"]
    assert whole["memory"] == parts["memory"] == {"iteration": 6}
