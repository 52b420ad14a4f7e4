"""Receptive fields by gradients, parameter counts by the reference's own sums."""

import pytest
import torch

from medgan.networks.discriminators import STRIDED_LAYERS, LastChannel, PatchDiscriminator

FIELDS = [(2, field) for field in (1, 16, 34, 70, 142, 286)] + [(3, field) for field in (1, 16, 34, 70)]


def parameters(network):
    """As the references count, with the biases that instance norm removes; without a batch norm's statistics."""
    state = network.state_dict().items()
    return sum(value.numel() for name, value in state if name.endswith(("weight", "bias")))


@pytest.mark.parametrize(("spatial", "field"), FIELDS)
def test_one_score_sees_exactly_its_receptive_field(spatial, field):
    # In double precision no gradient is lost; without a norm no statistic couples far voxels.
    network = PatchDiscriminator(spatial, receptive_field=field, channels=1, norm="none").double()
    room = 2 * 2 ** STRIDED_LAYERS.get(field, 0)
    image = torch.randn(1, 1, *[field + room] * spatial, dtype=torch.float64, requires_grad=True)
    scores = network(image)
    scores[(0, 0, *(size // 2 for size in scores.shape[2:]))].backward()
    seen = image.grad[0, 0].nonzero()
    assert (seen.amax(dim=0) - seen.amin(dim=0) + 1).tolist() == [field] * spatial
    assert len(seen) == field**spatial


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
@pytest.mark.parametrize("spatial", [2, 3])
def test_scores_are_raw_and_every_layer_learns(spatial, norm, learns):
    network = PatchDiscriminator(spatial, inputs=2, receptive_field=16, channels=8, norm=norm)
    scores = network(torch.randn(2, 2, *[32] * spatial))
    assert scores.shape == (2, 1, *[14] * spatial)
    assert scores.min() < 0 < scores.max()
    learns(network, scores)


def test_the_default_has_the_references_grid_of_scores():
    assert PatchDiscriminator(channels=1)(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize(("inputs", "norm", "millions"), [(3, "instance", 2.765), (6, "batch", 2.769)])
def test_the_default_has_as_many_parameters_as_the_reference_prints_and_a_pixels_as_its_layers(inputs, norm, millions):
    with torch.device("meta"):
        assert round(parameters(PatchDiscriminator(inputs=inputs, norm=norm)) / 1e6, 3) == millions
        pixels = PatchDiscriminator(inputs=inputs, receptive_field=1, norm="none")
    assert parameters(pixels) == (inputs * 64 + 64) + (64 * 128 + 128) + (128 * 1 + 1)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 16)], ids=["2d", "3d"])
def test_the_last_channel_is_judged_whatever_stands_before_it(shape):
    torch.manual_seed(0)
    network = PatchDiscriminator(len(shape), receptive_field=16, channels=4)
    image = torch.randn(2, 3, *shape)
    assert torch.equal(LastChannel(network)(image), network(image[:, 2:]))
