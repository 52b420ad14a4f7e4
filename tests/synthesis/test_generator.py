"""What all lesion generators share; each generator's own file trains one."""

import numpy as np
import pytest
import torch
from torch import nn

from medgan.data.preparation import Prepared
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.synthesis.generator import ALL_ALIKE, GENERATOR, JUDGED, Sampler, joint, spread, unvaried
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

PATCHES = {"2d": {"dimensions": 2, "size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 4}}


class Drawn(Sampler):
    """A sampler whose networks are given, not trained."""

    def networks(self):
        return {}

    def optimizers(self):
        return {}

    def attach(self, fabric, networks, optimizers):
        self.fabric = fabric

    def training_step(self, batch):
        return {}


class Fixed(nn.Module):
    """Gives the same patches whatever z is."""

    def __init__(self, patches):
        super().__init__()
        self.patches = patches

    def forward(self, z, condition):
        return self.patches[: len(z)]


@pytest.fixture(params=PATCHES)
def sampler(request):
    made = Drawn(LesionConfig(patch=PATCHES[request.param]), latent=3)
    made.attach(make_fabric("cpu", "32"), {}, {})
    return made


def held_out(lesion=True):
    random = np.random.default_rng(0)
    labels = np.zeros((40, 40, 8), dtype=np.uint8)
    labels[16:22, 18:23, 2:6] = lesion
    voxels = (100 + 60 * labels + random.normal(0, 10, labels.shape)).astype(np.float32)
    image = Prepared(voxels, np.eye(4), ((0, 40), (0, 40), (0, 8)), (0.0, 200.0))
    return LabelledHeldOut.of([Labelled("s0", image, labels)])


def real(sampler):
    patches = sampler.held_out_patches(held_out())
    return joint(patches["image"], patches["labels"], 1)


def test_it_is_judged_on_the_same_unvaried_patches_each_time(sampler):
    one, again = (sampler.held_out_patches(held_out()) for _ in range(2))
    assert len(one["image"]) == JUDGED
    assert all(torch.equal(one[key], again[key]) for key in one)
    still = unvaried(sampler.lesions).patch
    assert (still.rotation_degrees, still.scaling, still.flip) == (0, 0, False)
    assert still.shape == sampler.lesions.shape


def test_nobody_to_judge_by_is_said(sampler):
    with pytest.raises(DataError, match="no validation subject has a lesion to judge by"):
        sampler.held_out_patches(held_out(lesion=False))


def test_samples_that_are_the_real_patches_are_at_no_distance(sampler):
    judgement = sampler.validate(held_out(), {GENERATOR: Fixed(real(sampler))})
    assert judgement.metrics["val/sliced_wasserstein"] == pytest.approx(0, abs=1e-6)
    assert judgement.metrics["val/diversity"] == pytest.approx(1)
    assert sampler.diagnose({}) is None


def test_samples_that_are_one_and_the_same_are_called_collapsed(sampler):
    patches = real(sampler)
    judgement = sampler.validate(held_out(), {GENERATOR: Fixed(patches[:1].expand_as(patches))})
    assert judgement.metrics["val/diversity"] < ALL_ALIKE
    assert "mode collapse: samples differ by 0%" in sampler.diagnose({})


def test_a_resumed_run_remembers_how_much_samples_differed(sampler):
    sampler.diversity = 0.03
    other = Drawn(sampler.lesions, latent=3)
    other.load_state_dict(sampler.state_dict())
    assert "differ by 3%" in other.diagnose({})


@pytest.mark.parametrize("spatial", [(4, 4), (4, 4, 2)], ids=["2d", "3d"])
def test_spread_is_the_mean_distance_of_two_patches(spatial):
    patches = torch.stack([torch.full((1, *spatial), value) for value in (0.0, 0.0, 3.0)])
    assert spread(patches) == pytest.approx((0 + 3 + 3) / 3)
