"""A painter leaves what it was given, and its arguments say all that it draws."""

import pytest
import torch
from torch import nn

from medgan.networks.generators import ResNetGenerator
from medgan.networks.painter import Painter
from medgan.networks.spade import SpadeGenerator

SHAPES = {2: (16, 16), 3: (16, 16, 8)}
NAMES, CONDITION, NOISE = 2, 3, 1
CASES = [(spatial, network) for spatial in (2, 3) for network in ("spade", "concatenation")]
TABLE = pytest.mark.parametrize(("spatial", "network"), CASES)


def painter(spatial, network, condition=CONDITION, noise=NOISE):
    torch.manual_seed(0)
    inputs = Painter.inputs(NAMES, condition, noise)
    if network == "spade":
        return Painter(SpadeGenerator(spatial, inputs, channels=4, hidden=4), noise)
    return Painter(ResNetGenerator(spatial, inputs, channels=4, blocks=1, skips=True), noise)


def arguments(spatial, condition=CONDITION):
    torch.manual_seed(1)
    shape = SHAPES[spatial]
    image, hidden = torch.rand(2, 1, *shape) * 2 - 1, (torch.rand(2, 1, *shape) < 0.4).float()
    masks = (torch.rand(2, NAMES, *shape) < 0.2).float()
    return image * (1 - hidden), hidden, masks, torch.randn(2, condition)


@TABLE
def test_outside_the_hidden_region_the_context_comes_back_to_the_bit(spatial, network):
    context, hidden, masks, condition = arguments(spatial)
    result = painter(spatial, network)(context, hidden, masks, condition)
    assert result.shape == context.shape
    assert torch.equal(result[hidden == 0], context[hidden == 0])
    assert (result[hidden == 1] != context[hidden == 1]).all()
    assert result.abs().max() <= 1
    # Neither condition nor noise is needed.
    bare = painter(spatial, network, condition=0, noise=0)(*arguments(spatial, condition=0))
    assert bare.isfinite().all()


@TABLE
def test_noise_makes_several_lesions_of_one_mask(spatial, network):
    paint, given = painter(spatial, network), arguments(spatial)
    one, other = (torch.randn(2, NOISE, *SHAPES[spatial]) for _ in range(2))
    assert torch.equal(paint(*given, noise=one), paint(*given, noise=one))
    assert not torch.equal(paint(*given, noise=one), paint(*given, noise=other))
    assert not torch.equal(paint(*given), paint(*given))
    paint.eval()
    assert torch.equal(paint(*given), paint(*given))
    assert not torch.equal(paint(*given), paint(*given, noise=torch.zeros_like(one)))


def test_the_channels_are_context_hidden_masks_condition_and_noise():
    seen = []

    class Network(nn.Module):
        def forward(self, maps):
            seen.append(maps)
            return maps[:, :1]

    context, hidden, masks, condition = arguments(2)
    noise = torch.randn(2, NOISE, *SHAPES[2])
    # What is hidden is not shown, and masks count there alone.
    Painter(Network(), NOISE)(context + 0.3 * hidden, hidden, masks, condition, noise)
    (maps,) = seen
    assert maps.shape[1] == Painter.inputs(NAMES, CONDITION, NOISE)
    everywhere = condition[..., None, None] * torch.ones(SHAPES[2])
    assert torch.equal(maps, torch.cat([context, hidden, masks * hidden, everywhere, noise], dim=1))
