"""Projected features: where they are taken, and what they depend on."""

import pytest
import torch

from medgan.networks.projections import PatchProjections, random_places

SHAPES = pytest.mark.parametrize("shape", [(6, 8), (6, 4, 3)], ids=["2d", "3d"])


@SHAPES
def test_each_place_is_projected_by_its_maps_perceptron_to_length_one(shape):
    torch.manual_seed(0)
    maps = [torch.randn(2, 1, *shape), torch.randn(2, 5, *shape)]
    places = random_places(maps, 7)
    network = PatchProjections([1, 5], channels=16)
    for number, features in enumerate(network(maps, places)):
        assert features.shape == (2, 7, 16)
        torch.testing.assert_close(features.norm(dim=2), torch.ones(2, 7))
        for patch, place in enumerate(places[number]):
            index = torch.unravel_index(place, shape)
            raw = network.layers[number](maps[number][(1, slice(None), *index)])
            torch.testing.assert_close(features[1, patch], raw / raw.norm())


def test_parameters_exist_before_any_map_is_seen():
    shapes = [tuple(parameter.shape) for parameter in PatchProjections([3], channels=4).parameters()]
    assert shapes == [(4, 3), (4,), (4, 4), (4,)]


@SHAPES
def test_places_are_different_inside_and_those_of_the_global_random_state(shape):
    maps = [torch.zeros(1, 1, *shape), torch.zeros(1, 4, 2, 2)]
    torch.manual_seed(3)
    first = random_places(maps, 20)
    assert [len(set(chosen.tolist())) for chosen in first] == [20, 4]
    assert all(
        chosen.min() >= 0 and chosen.max() < found[0, 0].numel() for chosen, found in zip(first, maps, strict=True)
    )
    other = random_places(maps, 20)
    assert not torch.equal(first[0], other[0])
    torch.manual_seed(3)
    assert all(map(torch.equal, first, random_places(maps, 20)))
