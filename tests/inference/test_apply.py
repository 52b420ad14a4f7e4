import numpy as np
import pytest
import torch

from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared
from medgan.inference.apply import MARGIN_VOXELS, apply, looked_at, maps
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import ResNetConfig

BOUNDS = (-1000.0, 1000.0)


def study(shape, body):
    voxels = np.random.default_rng(0).uniform(-1000, 1000, shape).astype(np.float32)
    return Prepared(voxels, np.eye(4), body=body, bounds=BOUNDS)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_output_is_the_networks_over_the_body_and_the_input_elsewhere(fabric, dimensions):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16)
    given = study((50, 44, 6), body=((20, 31), (18, 25), (1, 5)))
    found = apply(lambda image: -centre_channel(image), given, patch, 4, fabric)
    expected = given.normalised()
    expected[20 - MARGIN_VOXELS : 31 + MARGIN_VOXELS, 18 - MARGIN_VOXELS : 25 + MARGIN_VOXELS, 1:5] *= -1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_mirroring_averages_what_is_seen_in_the_mirror(fabric, dimensions):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, mirroring=True)
    size = 16 if dimensions == "3" else 40  # one block, or a plane that needs not be grown
    given = study((size, size, 16), body=((0, size), (0, size), (0, 16)))

    def brighter_to_the_right(image):
        ramp = torch.linspace(0, 1, image.shape[2]).reshape(1, 1, -1, *[1] * (image.dim() - 3))
        return centre_channel(image) * ramp

    found = apply(brighter_to_the_right, given, patch, 4, fabric)
    np.testing.assert_allclose(found, given.normalised() / 2, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 1), (40, 9, 2)])
def test_a_study_that_is_smaller_than_the_networks_halvings_converts(fabric, shape):
    network = ResNetConfig(channels=4, downs=4, blocks=1, skips=True).build(2, 1)
    given = study(shape, body=tuple((0, size) for size in shape))
    found = apply(network, given, PatchConfig(), 16, fabric)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_a_thin_stack_continues_with_its_last_slice_as_in_training(fabric):
    given = study((16, 16, 3), body=((0, 16), (0, 16), (0, 3)))
    given.voxels[:] = 500

    def mean_along_z(image):
        return image.mean(dim=-1, keepdim=True).repeat(1, 1, 1, 1, image.shape[-1])

    found = apply(mean_along_z, given, PatchConfig(dimensions="3", size_voxels=16), 4, fabric)
    np.testing.assert_allclose(found, given.normalised(), atol=1e-5)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("mirroring", [False, True])
def test_all_maps_of_the_part_that_is_looked_at_are_given(fabric, dimensions, mirroring):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, mirroring=mirroring)
    given = study((50, 44, 16), body=((20, 31), (18, 25), (1, 15)))

    def two(image):
        return torch.cat([centre_channel(image), -centre_channel(image)], dim=1)

    found = maps(two, given, patch, 4, fabric)
    part = given.normalised()[looked_at(given)]
    np.testing.assert_allclose(found, np.stack([part, -part]), atol=1e-5)
