import pytest
import torch

from medgan.synthesis.dcgan import DCGAN, DCGANConfig
from medgan.synthesis.patches import LesionConfig

PATCHES = {"2d": {"size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}
SMALL = {"generator": {"latent": 8, "channels": 4}, "discriminator": {"channels": 4}}


def lesions(patch, **changes):
    return LesionConfig(patch=PATCHES[patch], **changes)


@pytest.mark.parametrize("patch", PATCHES)
def test_image_and_a_map_for_each_label_come_out(patch):
    two = lesions(patch, labels={"anterior": 1, "posterior": 2})
    made = DCGANConfig(**SMALL).build(two)(torch.randn(3, 8), torch.zeros(3, 0))
    assert made.shape == (3, 3, *two.shape)
    assert made.abs().max() <= 1


def test_nothing_is_asked_whatever_the_patches_condition_says():
    asked = lesions("2d", condition={"classes": True, "location": True})
    learner = DCGAN(DCGANConfig(**SMALL), asked)
    z, joint = torch.randn(4, 8), torch.randn(4, 2, *asked.shape)
    for network, shown in ((learner.generator.eval(), z), (learner.discriminator.eval(), joint)):
        assert torch.equal(network(shown, torch.zeros(4, 5)), network(shown, torch.ones(4, 5)))
