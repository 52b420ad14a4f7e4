"""Regions against discs whose extent is known, and the tissues that a true CT has in them."""

import numpy as np
import pytest

from medgan.evaluation.regions import air_around, body, core, overlap, true_tissues

SLICES = pytest.mark.parametrize("slices", [1, 5], ids=["2d", "3d"])


def disc(radius, slices, centre=(32, 32)):
    x, y = np.mgrid[:64, :64]
    return np.repeat((np.hypot(x - centre[0], y - centre[1]) < radius)[..., None], slices, axis=2)


def square(half, slices):
    mask = np.zeros((64, 64, slices), dtype=bool)
    mask[32 - half : 32 + half, 32 - half : 32 + half] = True
    return mask


@SLICES
@pytest.mark.parametrize(("modality", "tissue", "air"), [("CT", 40.0, -1000.0), ("MR", 600.0, 8.0)])
def test_the_body_is_found_in_either_modality(slices, modality, tissue, air):
    true = disc(20, slices)
    volume = np.where(true, tissue, air) + np.random.default_rng(0).normal(0, 2, true.shape)
    found = body(volume, modality)
    assert overlap(found, true) > 0.98


@SLICES
def test_the_core_of_two_squares_is_their_overlap_less_three_voxels_on_each_side(slices):
    one, other = square(15, slices), np.roll(square(15, slices), 4, axis=0)
    found = core(one, other)
    assert np.count_nonzero(found) == (30 - 4 - 6) * (30 - 6) * slices
    assert not found[:24].any()
    assert found[24, 32].all()


@SLICES
def test_the_edge_of_the_image_is_no_rim(slices):
    everything = np.ones((20, 20, slices), dtype=bool)
    assert core(everything, everything).all()


def test_a_slice_is_eroded_without_its_neighbours():
    mask = disc(20, 3)
    mask[..., 2] = False
    alone = core(mask, mask)
    assert not alone[..., 2].any()
    np.testing.assert_array_equal(alone[..., 1], core(disc(20, 1), disc(20, 1))[..., 0])


def test_tissues_part_the_region_at_their_bounds():
    hu = np.array([-301.0, -300.0, 200.0, 201.0, 40.0]).reshape(5, 1, 1)
    where = np.array([1, 1, 1, 1, 0], dtype=bool).reshape(5, 1, 1)
    found = {name: mask.ravel().tolist() for name, mask in true_tissues(hu, where).items()}
    assert found == {
        "soft_tissue": [False, True, True, False, False],
        "bone": [False, False, False, True, False],
        "air_inside": [True, False, False, False, False],
    }


@SLICES
def test_air_around_is_air_outside_within_five_steps(slices):
    inside = square(10, slices)
    hu = np.where(inside, 40.0, -1000.0)
    hu[32 - 14 : 32 - 12, 30:34] = 100  # a table two voxels below
    found = air_around(hu, inside)
    assert not (found & inside).any()
    assert found[32 + 10 : 32 + 15, 32].all()
    assert not found[32 + 15, 32].any()
    assert not found[32 - 14 : 32 - 12, 30:34].any()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 1, 0], [0, 1, 0], 2 / 3), ([1, 0, 0], [0, 1, 0], 0), ([0, 0, 0], [0, 0, 0], np.nan)],
)
def test_overlap_is_dice_and_nothing_without_voxels(one, other, expected):
    np.testing.assert_equal(overlap(np.array(one, bool), np.array(other, bool)), expected)
