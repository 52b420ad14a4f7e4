import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.synthesis.placement import body_coordinates, voxel_at


def prepared(shape, body):
    return Prepared(np.zeros(shape, dtype=np.float32), np.eye(4), body, (0.0, 1.0))


VOLUME = prepared((20, 30, 5), ((4, 16), (0, 30), (0, 5)))
SLICE = prepared((20, 30, 1), ((4, 16), (0, 30), (0, 1)))


@pytest.mark.parametrize(("image", "heights"), [(VOLUME, (0, 4, 2)), (SLICE, (0,))], ids=["3d", "one slice"])
def test_places_in_the_body_and_back(image, heights):
    for height in heights:
        for voxel in ((4, 0, height), (15, 29, height), (9, 3, height)):
            place = body_coordinates(image, voxel)
            assert np.abs(place).max() < 1
            assert voxel_at(image, place) == voxel


def test_the_ends_are_the_bodys_faces_and_the_middle_is_0():
    np.testing.assert_allclose(body_coordinates(VOLUME, (4, 0, 2)), [-1 + 1 / 12, -1 + 1 / 30, 0])
    np.testing.assert_allclose(body_coordinates(VOLUME, (3.5, 29.5, 2.0)), [-1, 1, 0])
    assert body_coordinates(SLICE, (9.5, 14.5, 0)).tolist() == [0, 0, 0]


def test_many_voxels_are_told_at_once_and_what_lies_beside_the_body_is_beyond():
    voxels = np.array([[4, 0, 2], [0, 15, 2]])
    both = body_coordinates(VOLUME, voxels)
    np.testing.assert_allclose(both, [body_coordinates(VOLUME, tuple(voxel)) for voxel in voxels])
    assert both[1, 0] < -1
