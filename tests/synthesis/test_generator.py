"""What all lesion generators share; each generator's own file trains one."""

import numpy as np
import pytest
import torch
from torch import nn

from labelled_cases import boxed_case
from medgan.errors import DataError
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis import generator
from medgan.synthesis.generator import ALL_ALIKE, GENERATOR, Sampler, joint, masks, split_joint, spread
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric


class Fixed(nn.Module):
    """Gives the same patches whatever z is."""

    latent = 3

    def __init__(self, patches=None):
        super().__init__()
        self.weight, self.patches = nn.Parameter(torch.zeros(1)), patches

    def forward(self, z, condition):
        return self.patches[: len(z)]


class Idle(Sampler):
    """A sampler whose networks are given, not trained."""

    def training_step(self, batch):
        return {}


def idle(lesions):
    learner = Idle(lesions, {GENERATOR: Fixed()}, {GENERATOR: 1e-3}, (0.5, 0.999))
    learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
    return learner


@pytest.fixture
def sampler(patch):
    return idle(LesionConfig(patch=patch))


def held_out(lesion=True):
    return LabelledHeldOut.of([boxed_case((40, 40, 8), [np.s_[16:22, 18:23, 2:6]] * lesion, noise=10)])


def test_it_is_judged_on_the_same_unvaried_patches_each_time_if_there_is_anybody_to_judge_by(sampler):
    with pytest.raises(DataError, match="no validation subject has a lesion to judge by"):
        sampler.held_out_patches(held_out(lesion=False))
    one, again = (sampler.held_out_patches(held_out()) for _ in range(2))
    assert len(one["image"]) == generator.JUDGED
    assert all(torch.equal(one[key], again[key]) for key in one)
    still = sampler.lesions.still().patch
    assert (still.rotation_degrees, still.scaling, still.flip) == (0, 0, False)
    assert still.shape == sampler.lesions.shape


def test_samples_as_good_as_real_ones_are_at_no_distance_and_equal_ones_are_called_collapsed(sampler):
    real = sampler.joint(sampler.held_out_patches(held_out()))
    judgement = sampler.validate(held_out(), {GENERATOR: Fixed(real)})
    assert judgement.metrics["val/sliced_wasserstein"] == pytest.approx(0, abs=1e-6)
    assert judgement.metrics["val/diversity"] == pytest.approx(1)
    assert sampler.diagnose({}) is None
    judgement = sampler.validate(held_out(), {GENERATOR: Fixed(real[:1].expand_as(real))})
    assert judgement.metrics["val/diversity"] < ALL_ALIKE
    assert "mode collapse: samples differ by 0%" in sampler.diagnose({})
    resumed = idle(sampler.lesions)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.diagnose({}) == sampler.diagnose({})


@pytest.mark.parametrize("spatial", [(4, 4), (4, 4, 2)], ids=["2d", "3d"])
def test_spread_is_the_mean_distance_of_two_patches(spatial):
    patches = torch.stack([torch.full((1, *spatial), value) for value in (0.0, 0.0, 3.0)])
    assert spread(patches) == pytest.approx((0 + 3 + 3) / 3)


@pytest.mark.parametrize("spatial", [(6, 5), (6, 5, 4)], ids=["2d", "3d"])
def test_image_and_labels_become_a_stack_of_signed_maps_and_come_back(spatial):
    image, labels = torch.rand(3, 1, *spatial) * 2 - 1, torch.randint(0, 3, (3, 1, *spatial))
    stack = joint(image, labels, names=2)
    assert stack.shape[1] == 3
    for name in (1, 2):
        assert torch.equal(stack[:, name : name + 1] > 0, labels == name)
        assert stack[:, name].abs().eq(1).all()
    assert torch.equal(masks(labels, 2), (stack[:, 1:] > 0).long())
    assert all(torch.equal(*pair) for pair in zip(split_joint(stack), (image, labels), strict=True))


def test_a_voxel_has_the_highest_positive_map_or_none():
    stack = torch.tensor([[0.5, -0.1, -0.2], [0.5, 0.3, -0.2], [0.5, 0.3, 0.4]]).reshape(3, 3, 1, 1)
    assert split_joint(stack)[1].flatten().tolist() == [0, 1, 2]
