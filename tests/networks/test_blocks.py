"""Normalisations against their definitions, padding, residual blocks, up-sampling and the weights' start."""

import pytest
import torch
from torch import nn

from medgan.networks import blocks
from medgan.networks.blocks import (
    ConditionalNorm,
    InstanceNorm,
    ReflectionPad,
    UpSample,
    convolution,
    normalisation,
)

SHAPES = pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4)], ids=["2d", "3d"])
NORMS = ("instance", "batch", "group", "none")


def noise(channels, shape):
    """Three samples whose channels have unlike means and deviations."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1.0, 3 * channels + 1).reshape(3, channels, *[1] * len(shape))
    return scale * torch.randn(3, channels, *shape, generator=generator) + scale


@SHAPES
@pytest.mark.parametrize(
    ("kind", "view"),
    [
        ("instance", lambda x: x.reshape(3 * 16, -1)),
        ("group", lambda x: x.reshape(3 * 2, -1)),
        ("batch", lambda x: x.transpose(0, 1).reshape(16, -1)),
    ],
)
def test_a_norm_gives_mean_0_and_deviation_1_over_what_it_is_named_after(shape, kind, view):
    values = view(normalisation(kind, 16, len(shape))(noise(16, shape)))
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(len(values)), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(dim=1, correction=0), torch.ones(len(values)), atol=1e-3, rtol=0)


@SHAPES
@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_takes_any_number_of_channels_and_a_convolution_has_a_bias_unless_its_norm_shifts(shape, norm):
    for channels in (1, 4, 12, 28):
        x = noise(channels, shape)
        normed = normalisation(norm, channels, len(shape))(x)
        assert torch.equal(normed, x) if norm == "none" else normed.isfinite().all()
    layer = convolution(len(shape), 2, 8, 3, norm=norm)
    assert (layer[1].bias is None) is any(name.endswith("bias") for name, _ in layer[2].named_parameters())


@SHAPES
@pytest.mark.parametrize("layer", [blocks.CONVOLUTION, blocks.TRANSPOSED])
def test_a_bias_that_instance_norm_removes_is_held_and_not_trained(shape, layer):
    layer = layer[len(shape)]
    made, plain = blocks.before("instance", layer, 3, 4, 3), layer(3, 4, 3)
    assert [name for name, _ in made.named_parameters()] == ["weight"]
    assert made.state_dict().keys() == plain.state_dict().keys()
    made.load_state_dict(plain.state_dict())
    x = noise(3, shape)
    assert torch.equal(made(x), plain(x))


@SHAPES
@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(1, 5, 7), (5, 1, 7), (5, 1, 3)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [1, 2])  # torch computes a single small image by another kernel
def test_a_convolution_of_one_channel_gives_and_learns_what_any_other_does(shape, inputs, outputs, kernel, last, batch):
    made, plain = (layer[len(shape)](inputs, outputs, kernel) for layer in (blocks.ONE_CHANNEL, blocks.CONVOLUTION))
    assert type(convolution(len(shape), inputs, outputs, kernel)[1]) is type(made)
    plain.load_state_dict(made.state_dict())
    x = torch.randn(batch, inputs, *(size + kernel for size in shape))
    if last:
        layout = torch.channels_last if len(shape) == 2 else torch.channels_last_3d
        made, x = made.to(memory_format=layout), torch.empty_like(x, memory_format=layout).copy_(x)
    x.requires_grad_()
    results = []
    for layer in (made, plain):
        output = layer(x)
        output.square().mean().backward()
        results.append((output, x.grad, *(weight.grad for weight in layer.parameters())))
        x.grad = None
    torch.testing.assert_close(*results)


@SHAPES
@pytest.mark.parametrize(("kernel", "stride"), [(7, 1), (3, 1), (3, 2)])
def test_a_flat_image_has_no_frame_after_a_convolution(shape, kernel, stride):
    result = convolution(len(shape), 1, 1, kernel, stride=stride)(torch.full((1, 1, *shape), -1.0))
    assert result.shape[2:] == tuple(size // stride for size in shape)
    torch.testing.assert_close(result, result.mean().expand_as(result))


@SHAPES
def test_a_residual_block_without_weights_is_the_identity(shape):
    block = blocks.ResidualBlock(len(shape), 4, "none", dropout=0.5)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = noise(4, shape)
    assert torch.equal(block(x), x)


@SHAPES
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["resize", "transposed"])
def test_up_sampling_doubles_every_axis(shape, norm, kind):
    result = UpSample(len(shape), 16, 8, norm, kind)(noise(16, shape))
    assert result.shape == (3, 8, *(2 * size for size in shape))


@SHAPES
def test_only_transposed_up_sampling_draws_a_pattern_at_the_finest_frequency(shape):
    def finest(kind):
        """Share of a flat map's energy that alternates from voxel to voxel along the first axis."""
        result = UpSample(len(shape), 4, 4, "none", kind).double()(torch.ones(1, 4, *shape, dtype=torch.float64))
        inside = result[(..., *[slice(2, -2)] * len(shape))].detach()
        return float(inside.diff(dim=2).square().mean() / inside.square().mean())

    assert finest("resize") < 1e-20
    assert finest("transposed") > 0.01


@SHAPES
def test_the_start_is_the_references(shape):
    spatial = len(shape)
    network = nn.Sequential(*(convolution(spatial, 32, 32, 3, norm=norm) for norm in ("batch", "group", "none")))
    network.append(UpSample(spatial, 32, 32, "none", "transposed"))
    blocks.initialise(network)
    for name, values in network.state_dict().items():
        if name.endswith("bias"):
            assert not values.any(), name
        elif name.endswith("weight"):
            assert float(values.mean()) == pytest.approx(1.0 if values.dim() == 1 else 0.0, abs=0.015), name
            assert float(values.std()) == pytest.approx(0.02, rel=0.5), name


@SHAPES
@pytest.mark.parametrize("statistics", ["batch", "instance"])
def test_a_condition_scales_and_shifts_each_channel_of_the_plain_norm_by_linear_maps(shape, statistics):
    norm, plain = ConditionalNorm(len(shape), 4, 3, statistics), normalisation(statistics, 4, len(shape))
    x, condition = torch.randn(5, 4, *shape) * 3 + 1, torch.randn(5, 3, requires_grad=True)
    gamma, beta = (
        (condition @ part.weight.T + part.bias).view(5, 4, *[1] * len(shape)) for part in (norm.scale, norm.shift)
    )
    result = norm(x, condition)
    torch.testing.assert_close(result, gamma * plain(x) + beta)
    result.square().sum().backward()
    assert (condition.grad != 0).all()


def test_a_batchs_statistics_are_kept_for_later():
    norm = ConditionalNorm(2, 1, 2)
    for _ in range(200):
        norm(torch.randn(16, 1, 8, 8) * 2 + 5, torch.zeros(16, 2))
    norm.eval()
    with torch.no_grad():
        alone = norm(torch.full((1, 1, 8, 8), 7.0), torch.zeros(1, 2))
    torch.testing.assert_close(alone.mean(), norm.scale.bias[0].detach() * 1.0, rtol=0.1, atol=0)


def last(x):
    """``x`` with its channels innermost in memory."""
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


@SHAPES
@pytest.mark.parametrize("batch", [1, 3])
def test_instance_norm_is_pytorchs_and_its_gradient_and_keeps_the_layout(shape, batch):
    x = noise(16, shape)[:batch]
    ours, theirs = last(x).requires_grad_(), x.clone().requires_grad_()
    result, expected = InstanceNorm()(ours), nn.functional.instance_norm(theirs)
    torch.testing.assert_close(result, expected)
    assert last(result).data_ptr() == result.data_ptr(), "nothing has to be laid out anew"
    for each in (result, expected):
        (each * torch.arange(each.numel()).view_as(each).sin()).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@SHAPES
def test_instance_norm_of_narrow_maps_takes_its_statistics_in_32_bits(shape):
    x = (last(noise(16, shape)) + 100).bfloat16()
    result = InstanceNorm()(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), nn.functional.instance_norm(x.float()), atol=2**-7, rtol=2**-7)


@SHAPES
def test_instance_norm_has_a_second_derivative(shape):
    x = last(torch.randn(2, 3, *shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradgradcheck(InstanceNorm(), (x,), fast_mode=True)


@SHAPES
def test_padding_mirrors_in_the_precision_that_arrives(shape):
    x = last(noise(4, shape)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = ReflectionPad(len(shape), 2)(x)
    expected = nn.functional.pad(x.float(), (2,) * 2 * len(shape), mode="reflect").bfloat16()
    assert torch.equal(result, expected)
