"""When the networks grow, and that only a grown generator becomes the model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from labelled_cases import boxed_case
from medgan.errors import ConfigError
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.patches import LesionConfig, LesionPatches
from medgan.synthesis.progressive import Progressive, ProgressiveConfig
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.recorder import Recorder

PATCHES = {
    "2d": {"dimensions": 2, "size_voxels": 8, "length_voxels": 12},
    "3d": {"dimensions": 3, "size_voxels": 8, "length_voxels": 12, "depth_voxels": 4},
}
KINDS = pytest.mark.parametrize("kind", PATCHES)
FIT = {"epochs": 3, "iterations_per_epoch": 4, "batch_size": 3, "precision": "32", "average_decay": 0.9}


def case(number):
    return boxed_case((24, 24, 8), [np.s_[8:14, 8:12, 2:6], np.s_[8:14, 12:16, 2:6]], number, contrast=40)


def lesions(kind="2d", **changes):
    labels = {"anterior": 1, "posterior": 2}
    return LesionConfig(patch=PATCHES[kind], labels=labels, condition={"classes": True}, **changes)


def config(**changes):
    tiny = {"latent": 4, "channels": 2, "most_channels": 4, "shares": (1, 1, 1)}
    return ProgressiveConfig(**(tiny | changes))


def start(folder, kind="2d", *, learner=Progressive, keep="best", **changes):
    """A tiny training in a folder: ``start(tmp_path, "3d", shares=(1, 1))``."""
    torch.manual_seed(0)
    patches = LesionPatches([case(0), case(1)], lesions(kind), seed=0)
    return Fit(
        learner(config(**changes), lesions(kind)), patches, LabelledHeldOut.of([case(2)]), FitConfig(**FIT, keep=keep),
        fabric=make_fabric("cpu", "32"), folder=folder, recorder=Recorder(folder, None, Console(quiet=True)),
    )  # fmt: skip


def test_levels_take_their_shares_and_fade_in_for_a_part_of_them():
    # Shares .2, .4 and .4; half of the second, .2 to .4, and half of the third, .6 to .8, fade.
    settings = ProgressiveConfig(shares=(1, 2, 2), fade_share=0.5)
    grown = {0: 0, 19: 0, 20: 0, 25: 0.25, 30: 0.5, 40: 1, 59: 1, 60: 1, 70: 1.5, 90: 2, 100: 2}
    assert {percent: settings.grown(percent, 101) for percent in grown} == pytest.approx(grown, abs=1e-9)


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


@KINDS
def test_the_kept_network_draws_full_joint_patches_and_both_networks_learn(tmp_path, kind):
    run = start(tmp_path, kind)
    before = {name: [p.detach().clone() for p in each.parameters()] for name, each in run.learner.networks().items()}
    joint = run.run().networks[GENERATOR](torch.randn(5, 4), torch.zeros(5, 3))
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
