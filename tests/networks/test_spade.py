"""SPADE against its formula by hand, and what the generator made of it sees."""

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.spade import SpadeGenerator, _Spade, _SpadeBlock

SHAPES = {2: (16, 24), 3: (16, 8, 16)}
BOTH = pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])
NORMS = pytest.mark.parametrize("norm", ["instance", "group"])
CONV = {2: F.conv2d, 3: F.conv3d}


def by_hand(image, layer):
    """A 3-wide convolution of the image mirrored at its rim."""
    padded = F.pad(image, [1, 1] * (image.dim() - 2), mode="reflect")
    return CONV[image.dim() - 2](padded, layer[1].weight, layer[1].bias)


@BOTH
@NORMS
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
def test_a_flat_map_survives_the_norm(spatial):
    # The paper's argument: instance norm takes a flat map for zero, whatever its value; SPADE does not.
    layer = _Spade(spatial, 1, 8, 4, "instance")
    flat = [torch.full((1, 1, *SHAPES[spatial]), value) for value in (0.0, 1.0)]
    x = torch.randn(1, 8, *SHAPES[spatial])
    without, with_mask = (layer(x, maps) for maps in flat)
    assert not torch.allclose(without, with_mask, atol=1e-3)
    torch.testing.assert_close(*(F.instance_norm(value) for value in flat))


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


@BOTH
@NORMS
def test_the_output_has_the_inputs_size_and_every_layer_learns(spatial, norm, learns):
    network = SpadeGenerator(spatial, 3, 2, channels=4, hidden=4, norm=norm)
    result = network(torch.randn(2, 3, *SHAPES[spatial]))
    assert result.shape == (2, 2, *SHAPES[spatial])
    learns(network, result)
