"""Warps against SciPy, and what an untrained registration network does."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.networks.registration import RegistrationNetwork, warp

SHAPES = pytest.mark.parametrize("shape", [(9, 12), (9, 6, 7), (9, 12, 1)], ids=["2d", "3d", "one-slice"])


def smooth(shape, seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(ndimage.gaussian_filter(noise, 1)).float()


@SHAPES
def test_a_warp_is_scipys_linear_interpolation_at_the_displaced_places(shape):
    torch.manual_seed(0)
    image, displacement = torch.randn(2, 3, *shape), 3 * torch.randn(2, len(shape), *shape)
    found = warp(image, displacement)
    places = np.indices(shape) + displacement.numpy()
    for item in range(2):
        for channel in range(3):
            expected = ndimage.map_coordinates(image[item, channel].numpy(), places[item], order=1, mode="nearest")
            np.testing.assert_allclose(found[item, channel], expected, atol=2e-5)


@SHAPES
def test_without_displacement_an_image_stays_and_along_one_axis_it_moves_by_whole_voxels(shape):
    image = torch.randn(1, 1, *shape)
    displacement = torch.zeros(1, len(shape), *shape)
    torch.testing.assert_close(warp(image, displacement), image, atol=1e-5, rtol=0)
    displacement[:, 1] = 2
    border = image[:, :, :, -1:].expand_as(image[:, :, :, :2])
    torch.testing.assert_close(warp(image, displacement), torch.cat([image[:, :, :, 2:], border], 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(16, 24), (17, 9), (16, 12, 8), (16, 16, 1)], ids=str)
def test_an_untrained_network_moves_nothing_and_can_learn(shape):
    network = RegistrationNetwork(len(shape), channels=4)
    moving, fixed = torch.randn(2, 1, *shape), torch.randn(2, 1, *shape)
    displacement = network(moving, fixed)
    assert displacement.shape == (2, len(shape), *shape)
    assert not displacement.any()
    (warp(moving, displacement) - fixed).square().mean().backward()
    assert network.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 8)], ids=["2d", "3d"])
def test_descending_on_the_difference_finds_a_shift(shape):
    torch.manual_seed(0)
    fixed = smooth((4, 1, *shape))
    moving = torch.roll(fixed, 1, dims=2)
    network = RegistrationNetwork(len(shape), channels=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        displacement = network(moving, fixed)
        (warp(moving, displacement) - fixed).abs().mean().backward()
        optimizer.step()
    inside = warp(moving, displacement)[:, :, 2:-2]
    assert (inside - fixed[:, :, 2:-2]).abs().mean() < 0.5 * (moving - fixed)[:, :, 2:-2].abs().mean()
    assert displacement[:, 0].median() > 0.3  # the fixed image's content lies one voxel further in the moving one
