"""Arms: what may not be judged is noted, subjects weigh the same, and look-ups never saw whom they are judged on."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.arms import (
    CONSTANT,
    DISTANCE,
    LOOKUP,
    LOOKUP_MEDIAN,
    REAL,
    SYNTHETIC,
    CrossingLookups,
    PairedLookups,
    Unpaired,
    UnpairedLookups,
    judge_each,
    shifted,
)
from medgan.evaluation.matching import Case, Image


def image(folder, subject, number, hu):
    path = folder / f"{subject}-{number}.nii"
    voxels = np.full((24, 24, 1), -1000.0)
    voxels[4:20, 4:20] = hu
    nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)).to_filename(path)
    return Image(subject, f"{subject}/{number}", path)


def as_case(image):
    return Case(image.subject, image.name, image.path, {})


def test_what_cannot_be_judged_is_noted_and_stops_nothing():
    def judge(item):
        if item.name == "bad":
            raise DataError("it is bad")
        return [{"image": item.name}]

    failures = []
    items = [Image("s", name, Path(name)) for name in ("a", "bad", "c")]
    rows, judged = judge_each(items, judge, failures)
    assert [row["image"] for row in rows] == [item.name for item in judged] == ["a", "c"]
    assert [(failure.image, failure.reason) for failure in failures] == [("bad", "it is bad")]


def test_a_programming_error_is_not_taken_for_a_bad_image():
    with pytest.raises(ZeroDivisionError):
        judge_each([Image("s", "a", Path("a"))], lambda item: [{"x": 1 / 0}], [])


def test_a_subject_weighs_the_same_whether_it_has_one_image_or_many(tmp_path):
    judge = Unpaired(None)
    rows = judge.real(image(tmp_path, "few", 0, 20))
    for number in range(9):
        rows += judge.real(image(tmp_path, "many", number, 60))
    rows += judge.without_training(as_case(image(tmp_path, "fake", 0, 40)))
    pooled = judge.add_distances(rows)
    assert pooled == pytest.approx({SYNTHETIC: 20})
    assert rows[-1][DISTANCE] == pytest.approx(20)


def test_a_real_image_is_compared_with_other_subjects_only(tmp_path):
    judge = Unpaired(None)
    rows = [row for subject, hu in (("a", 20), ("b", 50)) for row in judge.real(image(tmp_path, subject, 0, hu))]
    judge.add_distances(rows)
    assert [row["arm"] for row in rows] == [REAL, REAL]
    assert [row[DISTANCE] for row in rows] == pytest.approx([30, 30])


SHAPES = pytest.mark.parametrize("shape", [(40, 40, 1), (16, 16, 12)], ids=["2d", "3d"])


def scan(shape, seed=0):
    return np.rint(np.random.default_rng(seed).uniform(-900, 600, shape)).astype(np.float32)


def everywhere(volume):
    return np.ones(volume.shape, dtype=bool)


def enhanced_to_plain(hu):
    """What iodine's removal does to an intensity: nothing below 50 HU, half of the rest above."""
    return np.where(hu < 50, hu, 50 + (hu - 50) / 2)


def paired(*pairs):
    """The look-up of some pairs, all inside or with a mask."""
    lookups = PairedLookups()
    for number, (source, reference, *mask) in enumerate(pairs):
        lookups.add(str(number), source, reference, *(mask or [everywhere(source)]))
    return lookups.without("nobody")


def matched(source, reference):
    lookups = UnpairedLookups()
    lookups.sources.add("s", source, everywhere(source))
    lookups.references.add("r", reference, everywhere(reference))
    return lookups.without("nobody")


@SHAPES
def test_a_look_up_learns_the_map_between_intensities(shape):
    trained, unseen = scan(shape, 0), scan(shape, 1)
    np.testing.assert_array_equal(paired((trained, trained))(trained), trained)
    lookup = paired((trained, enhanced_to_plain(trained)))
    assert np.abs(lookup(unseen) - enhanced_to_plain(unseen)).mean() < 2


def test_a_look_up_takes_the_median_since_that_has_the_least_absolute_error():
    source = np.full((10, 10, 1), 100.0)
    reference = np.full((10, 10, 1), 40.0)
    reference[:4] = 900
    assert paired((source, reference))(source) == pytest.approx(40)


def test_a_look_up_reads_only_what_the_mask_holds():
    source, mask = np.full((10, 10, 1), 100.0), np.zeros((10, 10, 1), dtype=bool)
    mask[:2] = True
    reference = np.where(mask, 60.0, 3000.0)
    assert paired((source, reference, mask))(source) == pytest.approx(60)


def test_an_intensity_beyond_the_known_ones_changes_like_the_nearest_known():
    source = np.full((4, 4, 1), 100.0)
    lookup = paired((source, source - 50))
    np.testing.assert_allclose(lookup(np.array([[[-1024.0, 3500.0]]])), [[[-1074.0, 3450.0]]])


@SHAPES
def test_matching_carries_over_the_distribution_without_pairs(shape):
    source, other = scan(shape, 0), scan(shape, 1)
    target = enhanced_to_plain(other)
    quantiles = np.linspace(0.05, 0.95, 19)
    assert np.abs(np.quantile(matched(source, target)(source), quantiles) - np.quantile(target, quantiles)).max() < 3
    np.testing.assert_allclose(matched(source, source)(source), source, atol=1e-3)


def test_without_a_voxel_or_another_subject_there_is_no_look_up():
    source = scan((4, 4, 1))
    with pytest.raises(DataError, match=r"no voxel to fit .* masks that are not empty"):
        paired((source, source, np.zeros(source.shape, dtype=bool)))
    for lookups in (PairedLookups(), UnpairedLookups(), taught({"a": (source, source)})):
        with pytest.raises(DataError, match="another subject"):
            lookups.without("a")


@SHAPES
def test_the_look_up_for_a_subject_is_that_of_the_other_subjects_pairs(shape):
    pairs = {subject: (scan(shape, seed), scan(shape, seed) - 20 * seed) for seed, subject in enumerate("abc")}
    lookups = PairedLookups()
    for subject, (source, reference) in pairs.items():
        lookups.add(subject, source, reference, everywhere(source))
        lookups.add(subject, reference, source, everywhere(source))
    others = [pair for subject in "ac" for pair in (pairs[subject], pairs[subject][::-1])]
    expected = paired(*others)
    probe = scan(shape, 9)
    np.testing.assert_array_equal(lookups.without("b")(probe), expected(probe))


def test_matching_for_a_subject_reads_neither_its_source_nor_its_reference():
    lookups, image = UnpairedLookups(), scan((20, 20, 1))
    mask = everywhere(image)
    for subject, shift in (("a", 0), ("b", 500)):
        lookups.sources.add(subject, image + shift, mask)
        lookups.references.add(subject, image + shift - 30, mask)
    np.testing.assert_allclose(lookups.without("b")(image), image - 30, atol=0.1)


DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1)}
"""RAS+ directions in which an axis counts."""


def mr(shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).uniform(0, 1000, shape)).astype(np.float32)


def bins_of(source):
    """The 128 bins between the .5th and the 99.5th percentile; the two ends hold what lies beyond."""
    return np.clip(np.digitize(source, np.linspace(*np.percentile(source, (0.5, 99.5)), 129)) - 1, 0, 127)


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
    bins = bins_of(source)
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


def test_bins_are_bounded_by_the_percentiles_and_an_even_image_has_one():
    source = mr((60, 60, 1))
    mean_hu = taught({"a": (source, bins_of(source))}).without("b").mean_hu
    np.testing.assert_allclose(mean_hu, np.arange(128))
    even = np.full((4, 4, 1), 7.0)
    assert np.ptp(taught({"a": (even, mr((4, 4, 1)))}).without("b").arms(even, even.shape)[LOOKUP]) == 0


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
