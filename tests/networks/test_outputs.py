"""What change maps may and may not do to a voxel, whatever the network says."""

import pytest
import torch

from medgan.networks.generators import ResNetGenerator, UNetGenerator
from medgan.networks.outputs import ChangeOutput, ImageOutput, centre_channel

SHAPES = pytest.mark.parametrize("shape", [(16, 24), (16, 8, 16)], ids=["2d", "3d"])
LIMITS = {"largest": 0.5, "lower": -0.4, "upper": 0.6, "ramp": 0.1}


def image(shape, channels=1):
    """Every intensity from beyond -1 to beyond 1, in no order."""
    generator = torch.Generator().manual_seed(0)
    size = 2 * channels * torch.Size(shape).numel()
    return torch.linspace(-1.2, 1.2, size)[torch.randperm(size, generator=generator)].reshape(2, channels, *shape)


def wild(spatial, inputs=1):
    """A network whose raw map takes large values of both signs."""
    network = ResNetGenerator(spatial, inputs, channels=4, blocks=1)
    with torch.no_grad():
        network.last[1].weight.mul_(1000)
    return network


@SHAPES
@pytest.mark.parametrize("amount", ["sigmoid", "linear"])
@pytest.mark.parametrize(("one_sided", "sign"), [(True, 1), (True, -1), (False, 1)])
def test_a_change_has_its_sign_and_size_and_voxels_outside_the_bounds_pass_to_the_bit(shape, sign, one_sided, amount):
    output = ChangeOutput(wild(len(shape)), one_sided=one_sided, sign=sign, amount=amount, **LIMITS)
    before = image(shape)
    after, change = output(before).detach(), sign * output.change(before).detach()
    assert change.min() >= 0 if one_sided else -0.5 <= change.min() < -0.3
    assert (0.45 if one_sided else 0.3) < change.max() <= 0.5
    outside = (before <= LIMITS["lower"]) | (before >= LIMITS["upper"])
    assert outside.any()
    assert torch.equal(after[outside], before[outside])
    assert not change[outside].any()
    assert not torch.equal(after[~outside], before[~outside])


@SHAPES
def test_a_linear_amount_starts_where_a_sigmoid_does_and_grows_evenly_to_the_largest_change(shape):
    sigmoid, linear = (
        ChangeOutput(wild(len(shape)), one_sided=True, sign=1, amount=amount, **LIMITS)
        for amount in ("sigmoid", "linear")
    )
    torch.testing.assert_close(linear.share(torch.zeros(1)), sigmoid.share(torch.zeros(1)))
    grown = linear.share(torch.arange(0.9, 1.4, 0.1, dtype=torch.float64))
    torch.testing.assert_close(grown.diff(), torch.full_like(grown[1:], 0.1), atol=0.01, rtol=0)
    assert linear.share(torch.tensor([9.0])) == 1


@SHAPES
def test_the_change_fades_in_and_out_over_the_ramp(shape):
    network = wild(len(shape))
    with torch.no_grad():
        network.last[1].weight.zero_()
        network.last[1].bias.fill_(100.0)
    output = ChangeOutput(network, one_sided=True, sign=1, **LIMITS)
    before = image(shape)
    away = torch.minimum(before - LIMITS["lower"], LIMITS["upper"] - before).clamp(0, LIMITS["ramp"])
    torch.testing.assert_close(output.change(before).detach(), 0.5 * away / LIMITS["ramp"])


@SHAPES
@pytest.mark.parametrize(("one_sided", "amount"), [(True, "sigmoid"), (True, "linear"), (False, "sigmoid")])
@pytest.mark.parametrize("upsampling", ["resize", "transposed"])
@pytest.mark.parametrize("kind", [ResNetGenerator, UNetGenerator])
def test_an_untrained_map_is_near_the_identity_by_its_last_layer_and_can_learn(
    shape, one_sided, amount, kind, upsampling
):
    options = {"blocks": 1} if kind is ResNetGenerator else {"downs": 3}
    network = kind(len(shape), channels=8, upsampling=upsampling, **options).eval()
    raw = network(image(shape)).detach()
    output = ChangeOutput(network, one_sided=one_sided, sign=1, amount=amount, **LIMITS)
    torch.testing.assert_close(network(image(shape)), 0.1 * raw)
    changed = (output.change(image(shape)).abs() / LIMITS["largest"]).mean()
    assert changed < (0.03 if one_sided else 0.1)
    changed.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.last.parameters())


@SHAPES
def test_an_image_output_is_bounded_and_every_output_shows_its_networks_encoder(shape):
    result = ImageOutput(wild(len(shape)))(image(shape)).detach()
    assert result.shape == (2, 1, *shape)
    assert -1 <= result.min() < -0.9
    assert 0.9 < result.max() <= 1
    network = ResNetGenerator(len(shape), channels=4, blocks=1)
    maps = network.encode(image(shape))
    for output in (ImageOutput(network), ChangeOutput(network, one_sided=True, sign=1, **LIMITS)):
        assert all(map(torch.equal, output.encode(image(shape)), maps))


@SHAPES
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_middle_slice_is_the_one_that_is_translated(shape, channels):
    stack = image(shape, channels)
    assert torch.equal(centre_channel(stack), stack[:, channels // 2, None])
    output = ChangeOutput(wild(len(shape), channels), one_sided=True, sign=1, **LIMITS)
    torch.testing.assert_close(output(stack), stack[:, channels // 2, None] + output.change(stack))
    outside = stack[:, channels // 2, None] < LIMITS["lower"]
    assert torch.equal(output(stack)[outside], stack[:, channels // 2, None][outside])
