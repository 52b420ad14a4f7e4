"""SPADE against its formula by hand, and what the generator made of it sees."""

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.spade import _Spade, _SpadeBlock

SHAPES = {2: (16, 24), 3: (16, 8, 16)}
BOTH = pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])


def by_hand(image, layer):
    """A 3-wide convolution of the image mirrored at its rim."""
    padded = F.pad(image, [1, 1] * (image.dim() - 2), mode="reflect")
    return (F.conv2d if image.dim() == 4 else F.conv3d)(padded, layer[1].weight, layer[1].bias)


@BOTH
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_gamma_and_beta_of_the_maps_scale_and_shift_the_normalised_map(spatial, norm):
    layer = _Spade(spatial, 2, 16, 5, norm)
    x, maps = torch.randn(3, 16, *SHAPES[spatial]) * 4 + 7, torch.randn(3, 2, *[2 * n for n in SHAPES[spatial]])
    # Statistics by hand: of each image's channels, or of its groups of 8.
    shaped = x.view(3, 2, 8, *SHAPES[spatial]) if norm == "group" else x
    variance, mean = torch.var_mean(shaped, dim=tuple(range(2, shaped.dim())), correction=0, keepdim=True)
    normalised = ((shaped - mean) / (variance + 1e-5).sqrt()).view_as(x)
    small = maps[(slice(None), slice(None), *[slice(None, None, 2)] * spatial)]
    shared = by_hand(small, layer.shared[0]).relu()
    gamma, beta = by_hand(shared, layer.gamma), by_hand(shared, layer.beta)
    torch.testing.assert_close(layer(x, maps), normalised * (1 + gamma) + beta, rtol=1e-4, atol=1e-4)


@BOTH
@pytest.mark.parametrize("outputs", [6, 8, 12])
def test_a_block_adds_to_its_input(spatial, outputs):
    block = _SpadeBlock(spatial, 8, outputs, 2, 4, "instance")
    x, maps = torch.randn(2, 8, *SHAPES[spatial]), torch.randn(2, 2, *SHAPES[spatial])
    assert block(x, maps).shape == (2, outputs, *SHAPES[spatial])
    with torch.no_grad():
        for parameter in block.convolutions.parameters():
            parameter.zero_()
    assert torch.equal(block(x, maps), block.beside(x))
    assert outputs != 8 or torch.equal(block(x, maps), x)
