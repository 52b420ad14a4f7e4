"""Latent generators: shapes, what reaches the patch, and what a layered one keeps."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from medgan.networks.blocks import ConditionalNorm, constant_maps
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.latent import ConditionalPatches, LatentGenerator, LayeredGenerator, WholeDiscriminator, halvings

SHAPES = pytest.mark.parametrize(
    "shape", [(32, 32), (48, 32), (20, 12), (18, 7), (16, 16, 16), (32, 48, 32), (24, 16, 10)], ids=str
)
TWO_AND_THREE = pytest.mark.parametrize("shape", [(16, 24), (16, 8, 24)], ids=["2d", "3d"])
ENTRIES = pytest.mark.parametrize("entry", ["concatenation", "normalisation"])


@pytest.mark.parametrize(
    ("shape", "smallest"),
    [
        ((64, 64), (4, 4)),
        ((48, 32), (6, 4)),
        ((32, 8), (4, 4)),
        ((20, 12), (5, 6)),
        ((18, 7), (9, 7)),
        ((32, 48, 32), (4, 6, 4)),
        ((40, 16, 4), (5, 4, 4)),
    ],
    ids=str,
)
def test_axes_are_halved_while_they_are_even_and_four_voxels_are_left(shape, smallest):
    strides = halvings(shape)
    halved = (math.prod(axis) for axis in zip(*strides, strict=True))
    assert tuple(whole // factor for whole, factor in zip(shape, halved, strict=True)) == smallest
    assert all(max(stride) == 2 for stride in strides)


def test_a_patch_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"\(7, 6\) voxels: no axis is even and at least 8 long"):
        LatentGenerator((7, 6))


@SHAPES
def test_a_patch_has_the_asked_shape_and_channels_and_gets_one_answer(shape):
    for upsampling in ("transposed", "resize"):
        patch = LatentGenerator(shape, 3, latent=8, channels=4, upsampling=upsampling)(torch.randn(2, 8))
        assert patch.shape == (2, 3, *shape)
        assert patch.abs().max() <= 1
    network = WholeDiscriminator(shape, 3, channels=4)
    assert network(patch).shape == (2, 1)
    assert network.features(patch).shape[1] == network.width


@TWO_AND_THREE
@ENTRIES
def test_the_gradient_reaches_latent_condition_and_every_weight(shape, entry, learns):
    network = LatentGenerator(shape, 2, latent=8, condition=3, entry=entry, channels=4)
    z, condition = torch.randn(4, 8, requires_grad=True), torch.eye(3)[[0, 1, 2, 0]].requires_grad_()
    learns(network, network(z, condition))
    for given in (z, condition):
        assert (given.grad.abs().sum(dim=1) > 0).all()


@TWO_AND_THREE
@ENTRIES
def test_the_condition_changes_the_patch_and_without_one_it_does_not(shape, entry):
    z, one, other = torch.randn(1, 8), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    conditional = LatentGenerator(shape, latent=8, condition=2, entry=entry, channels=4).eval()
    plain = LatentGenerator(shape, latent=8, entry=entry, channels=4).eval()
    assert not torch.equal(conditional(z, one), conditional(z, other))
    assert torch.equal(plain(z, one), plain(z))
    with pytest.raises(ValueError, match="was shown none"):
        conditional(z)


def test_every_norm_sees_the_condition_and_one_that_takes_none_is_refused():
    network = LatentGenerator((32, 32), condition=2, entry="normalisation", channels=4)
    assert sum(isinstance(layer, ConditionalNorm) for layer in network.modules()) == len(halvings((32, 32)))
    with pytest.raises(ValueError, match="norm=group takes no condition"):
        LatentGenerator((16, 16), condition=2, entry="normalisation", norm="group")


@pytest.mark.parametrize(
    ("network", "convolution", "widths", "normed"),
    [
        (partial(LatentGenerator, latent=100), nn.ConvTranspose2d, [256, 128, 64, 32, 3], slice(4)),
        (partial(WholeDiscriminator, outputs=3), nn.Conv2d, [32, 64, 128, 256, 3], slice(1, 4)),
    ],
    ids=["generator", "discriminator"],
)
def test_they_are_built_by_dcgans_guidelines(network, convolution, widths, normed):
    layers = list(network((64, 64), 3, channels=32).modules())
    assert not any(isinstance(layer, (nn.Linear, nn.MaxPool2d, nn.AvgPool2d)) for layer in layers)
    convolutions = [layer for layer in layers if isinstance(layer, convolution)]
    assert [layer.out_channels for layer in convolutions] == widths
    assert [layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d)] == widths[normed]
    slopes = {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)}
    assert slopes == ({0.2} if convolution is nn.Conv2d else set())
    spread = torch.cat([layer.weight.detach().flatten() for layer in convolutions]).std()
    torch.testing.assert_close(float(spread), 0.02, rtol=0.01, atol=0)


@TWO_AND_THREE
def test_layers_are_joined_by_the_largest_map_and_where_that_is_none_the_class_changes_nothing(shape):
    background = LatentGenerator(shape, 1, latent=8, condition=1, channels=4)
    lesion = LatentGenerator(shape, 3, latent=8, condition=3, entry="normalisation", channels=4)
    network = LayeredGenerator(background, lesion, own=2).eval()
    z, condition = torch.randn(3, 8), torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 1.0, -0.5]])
    joint = network(z, condition)
    behind, drawn = network.background(z, condition[:, 2:]), network.lesion(z, condition)
    share = (drawn[:, 1:].amax(dim=1, keepdim=True) + 1) / 2
    torch.testing.assert_close(joint[:, :1], (1 - share) * behind + share * drawn[:, :1])
    assert torch.equal(joint[:, 1:], drawn[:, 1:])
    with torch.no_grad():
        network.lesion.last.bias[1:] = -1e4
    for classes in (condition[:, :2], condition[:, :2].flip(1)):
        assert torch.equal(network(z, torch.cat([classes, condition[:, 2:]], dim=1))[:, :1], behind)


JUDGED = pytest.mark.parametrize("entry", ["concatenation", "projection"])


@TWO_AND_THREE
@JUDGED
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_the_gradient_reaches_image_condition_and_every_weight(shape, entry, norm, learns):
    network = WholeDiscriminator(shape, 2, outputs=3, condition=2, entry=entry, channels=8, norm=norm)
    image, condition = torch.randn(4, 2, *shape, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    learns(network, network(image, condition))
    assert (image.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert (condition.grad.abs().sum(dim=1) > 0).all()


@TWO_AND_THREE
@JUDGED
def test_a_network_without_a_condition_ignores_it_and_one_with_a_condition_asks_for_it(shape, entry):
    image, condition = torch.randn(2, 1, *shape), torch.randn(2, 3)
    plain = WholeDiscriminator(shape, entry=entry, channels=4).eval()
    assert torch.equal(plain(image, condition), plain(image))
    with pytest.raises(ValueError, match="was shown none"):
        WholeDiscriminator(shape, condition=3, entry=entry, channels=4)(image)


@TWO_AND_THREE
def test_a_projection_adds_the_features_along_the_conditions_direction_to_the_first_answer(shape):
    network = WholeDiscriminator(shape, outputs=2, condition=3, entry="projection", channels=4).eval()
    image, condition = torch.randn(2, 1, *shape), torch.eye(3)[:2]
    features = network.features(image)
    summed = features.flatten(2).sum(dim=2)
    expected = network.last(features).flatten(1).clone()
    for number in range(2):
        expected[number, 0] += network.direction.weight[:, number] @ summed[number]
    torch.testing.assert_close(network(image, condition), expected)


@TWO_AND_THREE
def test_a_condition_is_laid_over_the_image_as_constant_maps(shape):
    condition = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    maps = constant_maps(condition, torch.zeros(2, 1, *shape))
    assert maps.shape == (2, 2, *shape)
    assert torch.equal(maps.flatten(2).amin(dim=2), condition)
    assert torch.equal(maps.flatten(2).amax(dim=2), condition)
    network = PatchDiscriminator(len(shape), 3, receptive_field=1, channels=4)
    image = torch.randn(2, 1, *shape)
    assert torch.equal(ConditionalPatches(network, 2)(image, condition), network(torch.cat([image, maps], dim=1)))
    both = torch.cat([image, maps], dim=1)
    assert torch.equal(ConditionalPatches(network, 0)(both, condition), network(both))


@TWO_AND_THREE
def test_without_batch_norm_one_images_answer_is_its_own(shape):
    network = WholeDiscriminator(shape, channels=8, norm="instance")
    image = torch.randn(3, 1, *shape, requires_grad=True)
    network(image)[0].sum().backward()
    assert image.grad[0].abs().sum() > 0
    assert image.grad[1:].abs().sum() == 0
