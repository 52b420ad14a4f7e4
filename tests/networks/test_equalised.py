"""He's constant by torch's own initialisation, norms and deviations by hand."""

import math

import pytest
import torch
from torch import nn

from medgan.networks.equalised import equalised, minibatch_deviation, pixel_norm

SHAPES = pytest.mark.parametrize("shape", [(6, 8), (4, 6, 4)], ids=["2d", "3d"])
LAYERS = {
    "conv-2d": (lambda: nn.Conv2d(24, 64, 3), (8, 24, 12, 12)),
    "conv-3d": (lambda: nn.Conv3d(24, 64, 3), (2, 24, 8, 8, 8)),
    "linear": (lambda: nn.Linear(96, 512), (64, 96)),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_runtime_scale_is_hes_constant_and_the_optimiser_moves_weights_of_deviation_one(make, shape):
    torch.manual_seed(0)
    layer = equalised(make())
    original = layer.parametrizations.weight.original
    fan = nn.init._calculate_correct_fan(original, "fan_in")
    he = nn.init.calculate_gain("relu") / math.sqrt(fan)
    torch.testing.assert_close(layer.weight, he * original)
    assert [id(each) for each in layer.parameters() if each.dim() > 1] == [id(original)]
    assert original.std().item() == pytest.approx(1, rel=0.02)
    assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_at_the_start_a_signal_keeps_its_size(make, shape):
    # A leaky rectifier of slope .2 keeps (1 + .04) / 2 of the mean square, and He's gain doubles it.
    torch.manual_seed(0)
    signal = torch.randn(shape)
    assert equalised(make(), gain=1.0)(signal).var().item() == pytest.approx(1, rel=0.1)
    rectified = nn.functional.leaky_relu(equalised(make())(signal), 0.2)
    assert rectified.square().mean().item() == pytest.approx(1.04, rel=0.1)


def test_adam_changes_all_layers_at_one_speed():
    # The point of the equalised rate: relative to its range, a wide layer's weight moves as far as a narrow one's.
    torch.manual_seed(0)
    moved = []
    for inputs in (16, 400):
        layer = equalised(nn.Linear(inputs, 256))
        before = layer.weight.detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        layer(torch.randn(8, inputs)).square().sum().backward()
        optimizer.step()
        moved.append(((layer.weight - before).abs().mean() / before.std()).item())
    assert moved[0] == pytest.approx(moved[1], rel=0.1)


@SHAPES
@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_pixel_norm_gives_every_place_unit_mean_square_and_keeps_directions(shape, size):
    features = size * torch.randn(2, 16, *shape)
    normed = pixel_norm(features)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones(2, *shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(nn.functional.cosine_similarity(normed, features, dim=1), torch.ones(2, *shape))


@SHAPES
def test_the_minibatch_deviation_is_the_mean_deviation_over_the_batch(shape):
    # Two items that differ by 2 in one of two features: deviations 1 and 0, the mean 1/2.
    features = torch.zeros(2, 2, *shape)
    features[1, 0] = 2
    seen = minibatch_deviation(features)
    assert seen.shape == (2, 3, *shape)
    torch.testing.assert_close(seen[:, :2], features)
    torch.testing.assert_close(seen[:, 2], torch.full((2, *shape), 0.5), atol=1e-4, rtol=0)
    drawn = torch.randn(5, 3, *shape)
    torch.testing.assert_close(minibatch_deviation(drawn)[0, 3, 0, 0].mean(), drawn.std(dim=0, correction=0).mean())


@SHAPES
def test_the_minibatch_deviation_of_one_item_or_of_equal_ones_is_about_none_and_has_a_slope(shape):
    for batch in (1, 3):
        features = torch.ones(batch, 2, *shape, requires_grad=True)
        deviation = minibatch_deviation(features)[:, 2]
        assert deviation.max().item() == pytest.approx(1e-4, rel=0.01)
        deviation.sum().backward()
        assert features.grad.isfinite().all()
