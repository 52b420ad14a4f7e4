import pytest
import torch

from medgan.synthesis.generator import joint, masks, split_joint

SHAPES = {"2d": (6, 5), "3d": (6, 5, 4)}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def patch(request):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 1, *request.param, generator=generator) * 2 - 1
    return image, torch.randint(0, 3, (3, 1, *request.param), generator=generator)


def test_image_and_labels_come_back_from_their_stack(patch):
    image, labels = split_joint(joint(*patch, names=2))
    assert torch.equal(image, patch[0])
    assert torch.equal(labels, patch[1])


def test_each_name_has_a_map_of_one_inside_and_minus_one_outside(patch):
    stack = joint(*patch, names=2)
    assert stack.shape[1] == 3
    for name in (1, 2):
        assert torch.equal(stack[:, name : name + 1] > 0, patch[1] == name)
        assert stack[:, name].abs().eq(1).all()


def test_masks_are_the_maps_as_zeros_and_ones(patch):
    assert torch.equal(masks(patch[1], 2), (joint(*patch, names=2)[:, 1:] > 0).long())


def test_a_voxel_has_the_highest_positive_map_or_none():
    stack = torch.tensor([[0.5, -0.1, -0.2], [0.5, 0.3, -0.2], [0.5, 0.3, 0.4]]).reshape(3, 3, 1, 1)
    assert split_joint(stack)[1].flatten().tolist() == [0, 1, 2]
