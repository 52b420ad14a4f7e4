import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medgan.benefit.routes.bone import bone_scores, cleaned, thresholded
from medgan.evaluation.bone import Bone

ML = 0.01
"""A part of ten voxels or more is kept."""


def trunk(table_hu=0.0):
    """A slab of soft tissue in air, (24, 24, 3), with bone in it and a table under it."""
    hu = np.full((24, 24, 3), -1000.0)
    hu[4:20, 6:20] = 40.0
    hu[10:13, 10:13] = 700.0
    hu[4:20, 0:2] = table_hu
    return hu


def test_what_is_above_200_hu_in_the_body_is_bone_and_a_table_is_none():
    bone = thresholded(trunk(table_hu=900.0))
    assert bone.sum() == 27
    assert bone[10:13, 10:13].all()


def test_200_hu_itself_is_no_bone():
    hu = trunk()
    hu[10, 10] = 200.0
    assert thresholded(hu).sum() == 24


@pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])
def test_a_crack_is_closed_and_a_speck_goes(slices):
    mask = np.zeros((20, 20, slices), dtype=bool)
    mask[5:12, 5:12] = True
    whole = mask.copy()
    mask[8, 5:12] = False
    mask[16, 16, 0] = True
    # The ends of the crack open to the outside, where a cross of one voxel does not reach across it.
    np.testing.assert_array_equal(cleaned(mask, ML)[:, 6:11], whole[:, 6:11])
    assert not cleaned(mask, ML)[16, 16].any()


@pytest.mark.parametrize(("voxels", "kept"), [(9, False), (10, True)])
def test_a_part_of_a_tenth_of_a_millilitre_is_kept(voxels, kept):
    mask = np.zeros((20, 4, 1), dtype=bool)
    mask[2 : 2 + voxels, 2] = True
    assert cleaned(mask, ML).any() == kept


def test_bone_that_the_edge_of_the_image_cuts_stays_whole():
    mask = np.zeros((12, 12, 2), dtype=bool)
    mask[:4, :4] = mask[8:, 3:] = True
    np.testing.assert_array_equal(cleaned(mask, ML), mask)


@settings(max_examples=25, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)), elements=st.booleans()))
def test_what_is_clean_stays_as_it_is(mask):
    once = cleaned(mask, 0.03)
    np.testing.assert_array_equal(cleaned(once, 0.03), once)


def block(first, last, shape=(20, 20, 4)):
    mask = np.zeros(shape, dtype=bool)
    mask[first:last, 5:15] = True
    return Bone(mask, (1.0, 1.0, 3.0))


def test_only_the_region_counts_and_its_border_makes_no_surface():
    where = np.zeros((20, 20, 4), dtype=bool)
    where[:9] = True
    scores = bone_scores(block(2, 10), block(2, 18), where)
    assert scores == {"dice": 1.0, "surface_dice": 1.0}


def test_dice_is_that_of_the_voxels_by_hand():
    everywhere = np.ones((20, 20, 4), dtype=bool)
    # 8 of 10 and 8 of 8 rows are shared.
    assert bone_scores(block(2, 12), block(4, 12), everywhere)["dice"] == pytest.approx(16 / 18)


@pytest.mark.parametrize(("found", "true", "expected"), [(0, 0, np.nan), (0, 8, 0.0), (8, 0, 0.0)])
def test_nothing_to_find_is_undefined_and_finding_nothing_is_zero(found, true, expected):
    scores = bone_scores(block(0, found), block(0, true), np.ones((20, 20, 4), dtype=bool))
    np.testing.assert_equal(list(scores.values()), [expected, expected])
