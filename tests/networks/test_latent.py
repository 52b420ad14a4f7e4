"""Latent generators: shapes, what reaches the patch, and what a layered one keeps."""

import math

import pytest
import torch
from torch import nn

from medgan.networks.blocks import ConditionalNorm, constant_maps
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.latent import (
    ConditionalPatches,
    LatentGenerator,
    LayeredGenerator,
    WholeDiscriminator,
    halvings,
)

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


def test_a_norm_that_takes_no_condition_is_refused():
    with pytest.raises(ValueError, match="norm=group takes no condition"):
        LatentGenerator((16, 16), condition=2, entry="normalisation", norm="group")


def test_it_is_built_by_dcgans_guidelines():
    network = LatentGenerator((64, 64), 3, latent=100, channels=128)
    layers = list(network.modules())
    assert not any(isinstance(layer, (nn.Linear, nn.MaxPool2d, nn.AvgPool2d)) for layer in layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in convolutions] == [1024, 512, 256, 128, 3]
    assert [layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d)] == [1024, 512, 256, 128]
    spread = torch.cat([layer.weight.detach().flatten() for layer in convolutions]).std()
    torch.testing.assert_close(float(spread), 0.02, rtol=0.01, atol=0)


def test_every_norm_sees_the_condition():
    network = LatentGenerator((32, 32), condition=2, entry="normalisation", channels=4)
    assert sum(isinstance(layer, ConditionalNorm) for layer in network.modules()) == len(halvings((32, 32)))


def layered(shape, names=2):
    background = LatentGenerator(shape, 1, latent=8, condition=1, channels=4)
    lesion = LatentGenerator(shape, 1 + names, latent=8, condition=3, entry="normalisation", channels=4)
    return LayeredGenerator(background, lesion, own=2)


@TWO_AND_THREE
def test_layers_are_joined_by_the_largest_map(shape):
    network = layered(shape).eval()
    z, condition = torch.randn(3, 8), torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 1.0, -0.5]])
    joint = network(z, condition)
    behind, drawn = network.background(z, condition[:, 2:]), network.lesion(z, condition)
    share = (drawn[:, 1:].amax(dim=1, keepdim=True) + 1) / 2
    torch.testing.assert_close(joint[:, :1], (1 - share) * behind + share * drawn[:, :1])
    assert torch.equal(joint[:, 1:], drawn[:, 1:])


class Drawn(nn.Module):
    """A lesion layer whose maps are -1 but for a corner that the class decides."""

    latent = 8

    def forward(self, z, condition):
        joint = torch.zeros(len(z), 2, 16, 16)
        joint[:, 1] = -1
        for patch, lesion in zip(joint, condition[:, 0], strict=True):
            if lesion:
                patch[:, :4, :4] = 1
        return joint


def test_where_no_lesion_is_drawn_the_class_changes_nothing():
    network = LayeredGenerator(LatentGenerator((16, 16), latent=8, channels=4).eval(), Drawn(), own=1)
    z = torch.randn(2, 8)
    with_lesion, without = network(z, torch.ones(2, 1)), network(z, torch.zeros(2, 1))
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[:4, :4] = False
    assert torch.equal(with_lesion[:, 0][:, outside], without[:, 0][:, outside])
    assert not torch.equal(with_lesion[:, 0][:, ~outside], without[:, 0][:, ~outside])


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


def test_the_discriminator_is_built_by_dcgans_guidelines():
    layers = list(WholeDiscriminator((64, 64), 3, channels=128).modules())
    assert not any(isinstance(layer, (nn.Linear, nn.MaxPool2d, nn.AvgPool2d)) for layer in layers)
    assert [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)] == [128, 256, 512, 1024, 1]
    assert [layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d)] == [256, 512, 1024]
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}


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
