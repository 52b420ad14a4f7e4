"""Warps against SciPy, and what an untrained registration network does."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.networks.registration import RegistrationNetwork, warp

SHAPES = pytest.mark.parametrize("shape", [(9, 12), (9, 6, 7), (9, 12, 1)], ids=["2d", "3d", "one-slice"])


@SHAPES
def test_a_warp_is_scipys_linear_interpolation_at_the_displaced_places(shape):
    image, displacement = torch.randn(2, 3, *shape), 3 * torch.randn(2, len(shape), *shape)
    found = warp(image, displacement)
    places = np.indices(shape) + displacement.numpy()
    for item in range(2):
        for channel in range(3):
            expected = ndimage.map_coordinates(image[item, channel].numpy(), places[item], order=1, mode="nearest")
            np.testing.assert_allclose(found[item, channel], expected, atol=2e-5)


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
    noise = np.random.default_rng(0).standard_normal((4, 1, *shape))
    fixed = torch.from_numpy(ndimage.gaussian_filter(noise, 1)).float()
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
