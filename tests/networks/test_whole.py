"""Whole-patch discriminators: answers, conditions, and DCGAN finding every mode of a toy."""

import pytest
import torch
from torch import nn

from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.whole import ConditionalPatches, WholeDiscriminator, constant_maps

SHAPES = pytest.mark.parametrize(
    "shape", [(32, 32), (48, 32), (20, 12), (18, 7), (16, 16, 16), (32, 48, 32), (24, 16, 10)], ids=str
)
TWO_AND_THREE = pytest.mark.parametrize("shape", [(16, 24), (16, 8, 24)], ids=["2d", "3d"])
ENTRIES = pytest.mark.parametrize("entry", ["concatenation", "projection"])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@SHAPES
def test_a_patch_of_any_shape_gets_one_answer(shape):
    network = WholeDiscriminator(shape, 2, channels=4)
    assert network(torch.randn(3, 2, *shape)).shape == (3, 1)
    assert network.features(torch.randn(3, 2, *shape)).shape[1] == network.width


@TWO_AND_THREE
@ENTRIES
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_the_gradient_reaches_image_condition_and_every_weight(shape, entry, norm):
    network = WholeDiscriminator(shape, 2, outputs=3, condition=2, entry=entry, channels=8, norm=norm)
    image, condition = torch.randn(4, 2, *shape, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    network(image, condition).square().sum().backward()
    assert (image.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert (condition.grad.abs().sum(dim=1) > 0).all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert not name.endswith("weight") or parameter.grad.abs().sum() > 0, name


@TWO_AND_THREE
@ENTRIES
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


def test_it_is_built_by_dcgans_guidelines():
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
    seen = torch.cat([image, maps], dim=1)
    assert torch.equal(ConditionalPatches(network, 0)(seen, condition), network(seen))


@TWO_AND_THREE
def test_without_batch_norm_one_images_answer_is_its_own(shape):
    network = WholeDiscriminator(shape, channels=8, norm="instance")
    image = torch.randn(3, 1, *shape, requires_grad=True)
    network(image)[0].sum().backward()
    assert image.grad[0].abs().sum() > 0
    assert image.grad[1:].abs().sum() == 0
