"""Constant and look-up from another modality against per-bin loops; a shift by one voxel along left-right."""

import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.crossing import BINS, CONSTANT, LOOKUP, LOOKUP_MEDIAN, CrossingLookups, shifted, source_bins

SHAPES = pytest.mark.parametrize("shape", [(40, 50, 1), (20, 20, 6)], ids=["2d", "3d"])

DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1)}
"""RAS+ directions in which an axis counts."""


def mr(shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).uniform(0, 1000, shape)).astype(np.float32)


def everywhere(volume):
    return np.ones(volume.shape, dtype=bool)


def taught(pairs):
    lookups = CrossingLookups()
    for subject, (source, reference) in pairs.items():
        lookups.add(subject, source, reference, everywhere(reference))
    return lookups


@SHAPES
def test_each_bin_takes_the_mean_or_median_of_its_voxels_and_the_constant_the_median_of_all(shape):
    source = mr(shape)
    reference = np.rint(np.random.default_rng(1).gamma(2, 150, shape) - 100)
    found = taught({"a": (source, reference)}).without("b")
    volumes = found.arms(source, shape)
    bins = source_bins(source, shape)
    expected = {b: reference[bins == b] for b in np.unique(bins)}
    np.testing.assert_allclose(volumes[LOOKUP], np.vectorize(lambda b: expected[b].mean())(bins), rtol=1e-5)
    # Of an even count either middle value is a median.
    ranks = [(np.searchsorted(np.sort(v), found.median_hu[b], "left"), len(v)) for b, v in expected.items()]
    assert all(rank <= n / 2 for rank, n in ranks)
    assert np.abs(volumes[LOOKUP_MEDIAN] - reference).mean() <= np.abs(volumes[LOOKUP] - reference).mean()
    assert abs(found.constant_hu - np.median(reference)) <= 1
    np.testing.assert_array_equal(volumes[CONSTANT], np.full(shape, found.constant_hu))


@SHAPES
def test_a_look_up_learns_the_map_whatever_the_scale_of_an_mr(shape):
    trained, unseen = mr(shape, 0, scale=1.0), mr(shape, 1, scale=37.0)
    found = taught({"a": (trained, trained - 300)}).without("b")
    assert np.abs(found.arms(unseen, shape)[LOOKUP] - (unseen / 37 - 300)).mean() < 20


@SHAPES
def test_the_look_up_of_a_subject_never_saw_it(shape):
    pairs = {subject: (mr(shape, seed), mr(shape, seed + 9) - 100 * seed) for seed, subject in enumerate("abc")}
    found = taught(pairs).without("b")
    expected = taught({s: pairs[s] for s in "ac"}).without("nobody")
    np.testing.assert_array_equal(found.mean_hu, expected.mean_hu)
    np.testing.assert_array_equal(found.median_hu, expected.median_hu)


def test_without_sources_the_constant_is_known():
    reference = np.full((9, 9, 1), 30.0)
    reference[0] = 900
    found = taught({"a": (None, reference)}).without("b")
    assert found.constant_hu == 30
    assert set(found.arms(None, (9, 9, 1))) == {CONSTANT}


def test_only_the_region_teaches():
    reference = np.full((9, 9, 1), 30.0)
    reference[4:] = 900
    lookups = CrossingLookups()
    lookups.add("a", None, reference, reference < 100)
    assert all((volume == 30).all() for volume in lookups.without("b").arms(mr((9, 9, 1)), (9, 9, 1)).values())


def test_a_lone_subject_has_neither():
    source = mr((9, 9, 1))
    with pytest.raises(DataError, match="another subject"):
        taught({"a": (source, source)}).without("a")


def test_bins_are_bounded_by_the_percentiles_and_an_even_image_has_one():
    bins = source_bins(mr((60, 60, 1)), (60, 60, 1))
    assert (bins.min(), bins.max()) == (0, BINS - 1)
    assert not source_bins(np.full((4, 4, 1), 7.0), (4, 4, 1)).any()


@pytest.mark.parametrize(("axes", "axis"), [("RAS", 0), ("LPS", 0), ("PSR", 2), ("SLA", 1)])
def test_a_shift_is_by_one_voxel_left_right_however_the_file_is_stored(axes, axis):
    affine = np.eye(4)
    affine[:3, :3] = np.stack([DIRECTIONS[letter] for letter in axes], axis=1)
    volume = mr((6, 7, 8))
    found = shifted(volume, affine)
    moved = np.moveaxis(found, axis, 0), np.moveaxis(volume, axis, 0)
    np.testing.assert_array_equal(moved[0][1:], moved[1][:-1])
    np.testing.assert_array_equal(moved[0][0], moved[1][0])


def test_a_sagittal_slice_is_shifted_within_itself():
    volume = mr((6, 7, 1))
    affine = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
    assert np.count_nonzero(shifted(volume, affine) != volume) > 20
