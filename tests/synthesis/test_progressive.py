"""When the networks grow, that a resumed run grows alike, and that only a grown generator becomes the model."""

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medgan.data.preparation import Prepared
from medgan.errors import ConfigError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.patches import LesionConfig, LesionPatches
from medgan.synthesis.progressive import Progressive, ProgressiveConfig, growth
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig, Interrupted
from medgan.training.recorder import Recorder
from medgan.training.state import load_checked

PATCHES = {
    "2d": {"dimensions": 2, "size_voxels": 8, "length_voxels": 12},
    "3d": {"dimensions": 3, "size_voxels": 8, "length_voxels": 12, "depth_voxels": 4},
}
KINDS = pytest.mark.parametrize("kind", PATCHES)
FIT = {"epochs": 3, "iterations_per_epoch": 4, "batch_size": 3, "precision": "32", "average_decay": 0.9}


def case(number):
    random = np.random.default_rng(number)
    labels = np.zeros((24, 24, 8), dtype=np.uint8)
    labels[8:14, 8:16, 2:6] = 1
    labels[8:14, 12:16, 2:6] = 2
    voxels = (100 + 40 * labels + random.normal(0, 5, labels.shape)).astype(np.float32)
    return Labelled(f"s{number}", Prepared(voxels, np.eye(4), ((0, 24), (0, 24), (0, 8)), (0.0, 200.0)), labels)


def lesions(kind="2d", **changes):
    labels = {"anterior": 1, "posterior": 2}
    return LesionConfig(patch=PATCHES[kind], labels=labels, condition={"classes": True}, **changes)


def config(**changes):
    tiny = {"latent": 4, "channels": 2, "most_channels": 4, "shares": (1, 1, 1)}
    return ProgressiveConfig(**(tiny | changes))


class Stopping(LesionPatches):
    """Patches, and a Ctrl-C of the user while a certain one is drawn."""

    stop_at = None

    def __getitem__(self, number):
        if number == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(number)


@pytest.fixture
def start(tmp_path):
    """A tiny training in a folder: ``start("one", "3d", stop_at=9)``."""

    def make(name, kind="2d", *, stop_at=None, learner=Progressive, keep="best", **changes):
        torch.manual_seed(0)
        patches = Stopping([case(0), case(1)], lesions(kind), seed=0)
        patches.stop_at = stop_at
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Fit(
            learner(config(**changes), lesions(kind)), patches, LabelledHeldOut.of([case(2)]),
            FitConfig(**FIT, keep=keep), fabric=make_fabric("cpu", "32"), folder=folder,
            recorder=Recorder(folder, None, Console(quiet=True)),
        )  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("done", "grown"),
    [
        (0, 0),
        (0.19, 0),
        (0.2, 0),
        (0.25, 0.25),
        (0.3, 0.5),
        (0.4, 1),
        (0.59, 1),
        (0.6, 1),
        (0.7, 1.5),
        (0.9, 2),
        (1, 2),
    ],
)
def test_levels_take_their_shares_and_fade_in_for_a_part_of_them(done, grown):
    # Shares .2, .4 and .4; half of the second, .2 to .4, and half of the third, .6 to .8, fade.
    assert growth(done, (1, 2, 2), 0.5) == pytest.approx(grown, abs=1e-9)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.floats(0, 1), st.integers(1, 60))
def test_growth_never_goes_back_and_every_run_ends_at_full_size(shares, fade_share, budget):
    settings = ProgressiveConfig(shares=tuple(shares), fade_share=fade_share)
    grown = [settings.grown(iteration, budget) for iteration in range(budget)]
    assert grown == sorted(grown)
    assert grown[0] == 0 or budget == 1 or fade_share == 0
    assert grown[-1] == settings.levels == len(shares) - 1


def test_a_fade_has_no_jump():
    steps = np.array([growth(done, (3, 2, 1), 0.5) for done in np.linspace(0, 1, 2001)])
    assert np.diff(steps).max() <= 1 / (0.5 / 6) / 2000 * 1.01


@KINDS
@pytest.mark.parametrize("stop_at", [10, 14], ids=["before-the-border", "while-it-fades"])
def test_a_run_that_is_resumed_across_a_level_border_equals_one_that_was_not_stopped(start, tmp_path, kind, stop_at):
    start("whole", kind).run()
    with pytest.raises(Interrupted):
        start("halves", kind, stop_at=stop_at).run()
    stopped = load_checked(tmp_path / "halves" / "last.pt")
    assert stopped["progress"]["iteration"] == stop_at // FIT["batch_size"] + 1
    start("halves", kind).run(resume=True)
    whole, halves = (load_checked(tmp_path / name / "last.pt") for name in ("whole", "halves"))
    assert whole["memory"] == halves["memory"]
    assert whole["progress"]["history"] == halves["progress"]["history"]
    for part in ("networks", "averages"):
        for network, weights in whole[part].items():
            for name, weight in weights.items():
                assert torch.equal(weight, halves[part][network][name]), f"{part} {network} {name}"


@KINDS
def test_the_average_has_grown_exactly_as_far_as_the_networks(start, tmp_path, kind):
    with pytest.raises(Interrupted):
        start("run", kind, stop_at=16).run()
    state = load_checked(tmp_path / "run" / "last.pt")
    iteration = state["progress"]["iteration"]
    expected = np.float32(config().grown(iteration - 1, FIT["epochs"] * FIT["iterations_per_epoch"]))
    assert 0 < expected % 1 < 1
    for held in (state["networks"]["generator"], state["networks"]["critic"], state["averages"]["generator"]):
        assert held["grown"].item() == expected


@KINDS
def test_only_a_grown_generator_becomes_the_model_however_well_a_coarse_one_does(start, kind):
    class EverWorse(Progressive):
        def validate(self, held_out, kept):
            judgement = super().validate(held_out, kept)
            judgement.metrics[self.best] = float(self.iteration)
            return judgement

    fitted = start("run", kind, learner=EverWorse, shares=(1, 1), fade_share=1).run()
    assert fitted.epoch == FIT["epochs"]
    assert fitted.networks[GENERATOR].grown.item() == 1
    # Where the last level is reached earlier, the first epoch on it is the best of those.
    assert start("early", kind, learner=EverWorse, shares=(1, 5), fade_share=0.1).run().epoch == 1


@KINDS
def test_the_kept_network_draws_full_joint_patches_and_both_networks_learn(start, kind):
    run = start("run", kind)
    before = {name: [p.detach().clone() for p in each.parameters()] for name, each in run.learner.networks().items()}
    network = run.run().networks[GENERATOR]
    joint = network(torch.randn(5, 4), torch.zeros(5, 3))
    assert joint.shape == (5, 3, *lesions(kind).shape)
    assert joint.abs().max() <= 1
    for name, each in run.state.networks.items():
        assert not all(torch.equal(a, b) for a, b in zip(before[name], each.parameters(), strict=True)), name
    history = run.state.progress.history[-1]
    assert history["val/grown_levels"] == 2
    assert {"train/critic", "train/gradient_penalty", "train/drift", "train/generator"} < set(history)


def test_a_coarse_generator_is_not_said_to_have_collapsed(start):
    run = start("run")
    learner, held_out = run.learner, LabelledHeldOut.of([case(2)])
    kept = run.state.ema.networks
    with torch.no_grad():
        for parameter in kept[GENERATOR].parameters():
            parameter.zero_()
    kept[GENERATOR].grown.fill_(1.0)
    assert not learner.validate(held_out, kept).complete
    assert learner.diagnose({}) is None
    kept[GENERATOR].grown.fill_(2.0)
    assert learner.validate(held_out, kept).complete
    assert "mode collapse" in learner.diagnose({})


def test_patches_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(ConfigError, match=r"8 x 12 voxels cannot be halved 3 times; make its edges multiples of 8"):
        Progressive(config(shares=(1, 1, 1, 1)), lesions())
