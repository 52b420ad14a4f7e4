import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from medgan.data.components import boxes, components, voxels_of

SHAPES = {"2d": (7, 6), "3d": (6, 5, 4)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("corners", [True, False])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_components_are_those_of_scikit_image(shape, corners, data):
    mask = data.draw(arrays(bool, shape))
    numbers, count = components(mask, corners=corners)
    theirs, their_count = label(mask, connectivity=mask.ndim if corners else 1, return_num=True)
    assert count == their_count
    # The same parts, in whatever order they are numbered.
    assert len(set(zip(numbers.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count + (not mask.all())


def test_corners_join_lesions_and_not_bodies():
    mask = np.eye(3, dtype=np.uint8)
    assert components(mask)[1] == 1
    assert components(mask, corners=False)[1] == 3


def test_names_do_not_part_a_component():
    assert components(np.array([[0, 1, 2, 0, 1]]))[1] == 2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_voxels_and_boxes_are_told_by_component(shape):
    mask = np.random.default_rng(0).random(shape) < 0.25
    numbers, count = components(mask)
    told = voxels_of(mask)
    assert len(told) == len(boxes(numbers)) == count > 1
    for number, (voxels, box) in enumerate(zip(told, boxes(numbers), strict=True), start=1):
        np.testing.assert_array_equal(voxels, np.argwhere(numbers == number))
        assert [extent.start for extent in box] == voxels.min(axis=0).tolist()
        assert [extent.stop - 1 for extent in box] == voxels.max(axis=0).tolist()


def test_where_nothing_is_marked_there_is_none():
    assert voxels_of(np.zeros((3, 3))) == []
