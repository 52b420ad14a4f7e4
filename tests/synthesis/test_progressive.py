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
from medgan.synthesis.progressive import Progressive, ProgressiveConfig
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


def start(folder, kind="2d", *, stop_at=None, learner=Progressive, keep="best", **changes):
    """A tiny training in a folder: ``start(tmp_path, "3d", stop_at=9)``."""
    torch.manual_seed(0)
    patches = Stopping([case(0), case(1)], lesions(kind), seed=0)
    patches.stop_at = stop_at
    folder.mkdir(exist_ok=True)
    return Fit(
        learner(config(**changes), lesions(kind)), patches, LabelledHeldOut.of([case(2)]), FitConfig(**FIT, keep=keep),
        fabric=make_fabric("cpu", "32"), folder=folder, recorder=Recorder(folder, None, Console(quiet=True)),
    )  # fmt: skip


@pytest.fixture(scope="module", params=PATCHES)
def whole(request, tmp_path_factory):
    """A run that was not stopped: its kind, weights at the start, the run, what it kept, and its last state."""
    folder = tmp_path_factory.mktemp("whole")
    run = start(folder, request.param)
    before = {name: [p.detach().clone() for p in each.parameters()] for name, each in run.learner.networks().items()}
    return request.param, before, run, run.run(), load_checked(folder / "last.pt")


@pytest.mark.parametrize(
    ("percent", "grown"),
    [(0, 0), (19, 0), (20, 0), (25, 0.25), (30, 0.5), (40, 1), (59, 1), (60, 1), (70, 1.5), (90, 2), (100, 2)],
)
def test_levels_take_their_shares_and_fade_in_for_a_part_of_them(percent, grown):
    # Shares .2, .4 and .4; half of the second, .2 to .4, and half of the third, .6 to .8, fade.
    settings = ProgressiveConfig(shares=(1, 2, 2), fade_share=0.5)
    assert settings.grown(percent, 101) == pytest.approx(grown, abs=1e-9)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.floats(0, 1), st.integers(1, 60))
def test_growth_never_goes_back_and_every_run_ends_at_full_size(shares, fade_share, budget):
    settings = ProgressiveConfig(shares=tuple(shares), fade_share=fade_share)
    grown = [settings.grown(iteration, budget) for iteration in range(budget)]
    assert grown == sorted(grown)
    assert grown[0] == 0 or budget == 1 or fade_share == 0
    assert grown[-1] == settings.levels == len(shares) - 1


def test_a_fade_has_no_jump():
    settings = ProgressiveConfig(shares=(3, 2, 1), fade_share=0.5)
    steps = [settings.grown(iteration, 2001) for iteration in range(2001)]
    assert np.diff(steps).max() <= 1 / (0.5 / 6) / 2000 * 1.01


@pytest.mark.parametrize("stop_at", [10, 14], ids=["before-the-border", "while-it-fades"])
def test_a_run_that_is_resumed_across_a_level_border_equals_one_that_was_not_stopped(whole, tmp_path, stop_at):
    kind, *_, expected = whole
    with pytest.raises(Interrupted):
        start(tmp_path, kind, stop_at=stop_at).run()
    stopped = load_checked(tmp_path / "last.pt")
    iteration = stopped["progress"]["iteration"]
    assert iteration == stop_at // FIT["batch_size"] + 1
    if stop_at == 14:  # the average has grown exactly as far as the networks
        grown = np.float32(config().grown(iteration - 1, FIT["epochs"] * FIT["iterations_per_epoch"]))
        assert 0 < grown % 1 < 1
        for held in (stopped["networks"]["generator"], stopped["networks"]["critic"], stopped["averages"]["generator"]):
            assert held["grown"].item() == grown
    start(tmp_path, kind).run(resume=True)
    resumed = load_checked(tmp_path / "last.pt")
    assert expected["memory"] == resumed["memory"]
    assert expected["progress"]["history"] == resumed["progress"]["history"]
    for part in ("networks", "averages"):
        for network, weights in expected[part].items():
            for name, weight in weights.items():
                assert torch.equal(weight, resumed[part][network][name]), f"{part} {network} {name}"


@KINDS
def test_only_a_grown_generator_becomes_the_model_however_well_a_coarse_one_does(tmp_path, kind):
    class EverWorse(Progressive):
        def validate(self, held_out, kept):
            judgement = super().validate(held_out, kept)
            judgement.metrics[self.best] = float(self.iteration)
            return judgement

    fitted = start(tmp_path / "run", kind, learner=EverWorse, shares=(1, 1), fade_share=1).run()
    assert fitted.epoch == FIT["epochs"]
    assert fitted.networks[GENERATOR].grown.item() == 1
    # Where the last level is reached earlier, the first epoch on it is the best of those.
    early = start(tmp_path / "early", kind, learner=EverWorse, shares=(1, 5), fade_share=0.1)
    assert early.run().epoch == 1


def test_the_kept_network_draws_full_joint_patches_and_both_networks_learn(whole):
    kind, before, run, fitted, _ = whole
    joint = fitted.networks[GENERATOR](torch.randn(5, 4), torch.zeros(5, 3))
    assert joint.shape == (5, 3, *lesions(kind).shape)
    assert joint.abs().max() <= 1
    for name, each in run.state.networks.items():
        assert not all(torch.equal(a, b) for a, b in zip(before[name], each.parameters(), strict=True)), name
    history = run.state.progress.history[-1]
    assert history["val/grown_levels"] == 2
    assert {"train/critic", "train/gradient_penalty", "train/drift", "train/generator"} < set(history)


def test_a_coarse_generator_is_not_said_to_have_collapsed(tmp_path):
    run = start(tmp_path)
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
