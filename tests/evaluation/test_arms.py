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
    Unpaired,
    _PairedLookups,
    _UnpairedLookups,
    judge_each,
    shifted,
)
from medgan.evaluation.matching import Case, Image

SHAPES = pytest.mark.parametrize("shape", [(40, 40, 1), (16, 16, 12)], ids=["2d", "3d"])


def image(folder, subject, number, hu):
    path = folder / f"{subject}-{number}.nii"
    voxels = np.full((24, 24, 1), -1000.0)
    voxels[4:20, 4:20] = hu
    nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)).to_filename(path)
    return Image(subject, f"{subject}/{number}", path)


def test_what_cannot_be_judged_is_noted_and_stops_nothing_but_a_programming_error_does():
    def judge(item):
        if item.name == "bad":
            raise DataError("it is bad")
        return [{"image": item.name}]

    failures = []
    items = [Image("s", name, Path(name)) for name in ("a", "bad", "c")]
    rows, judged = judge_each(items, judge, failures)
    assert [row["image"] for row in rows] == [item.name for item in judged] == ["a", "c"]
    assert [(failure.image, failure.reason) for failure in failures] == [("bad", "it is bad")]
    with pytest.raises(ZeroDivisionError):
        judge_each(items, lambda item: [{"x": 1 / 0}], [])


def test_a_subject_weighs_the_same_whether_it_has_one_image_or_many(tmp_path):
    judge = Unpaired(None)
    rows = judge.real(image(tmp_path, "few", 0, 20))
    for number in range(9):
        rows += judge.real(image(tmp_path, "many", number, 60))
    fake = image(tmp_path, "fake", 0, 40)
    rows += judge.without_training(Case(fake.subject, fake.name, fake.path, {}))
    assert judge.add_distances(rows) == pytest.approx({SYNTHETIC: 20})
    assert rows[-1][DISTANCE] == pytest.approx(20)


def test_a_real_image_is_compared_with_other_subjects_only(tmp_path):
    judge = Unpaired(None)
    rows = [row for subject, hu in (("a", 20), ("b", 50)) for row in judge.real(image(tmp_path, subject, 0, hu))]
    judge.add_distances(rows)
    assert [row["arm"] for row in rows] == [REAL, REAL]
    assert [row[DISTANCE] for row in rows] == pytest.approx([30, 30])


def scan(shape, seed=0):
    return np.rint(np.random.default_rng(seed).uniform(-900, 600, shape)).astype(np.float32)


def everywhere(volume):
    return np.ones(volume.shape, dtype=bool)


def enhanced_to_plain(hu):
    """What iodine's removal does to an intensity: nothing below 50 HU, half of the rest above."""
    return np.where(hu < 50, hu, 50 + (hu - 50) / 2)


def paired(*pairs, mask=None):
    lookups = _PairedLookups()
    for number, (source, reference) in enumerate(pairs):
        lookups.add(str(number), source, reference, everywhere(source) if mask is None else mask)
    return lookups.without("nobody")


def matched(**images):
    """Look-ups of each subject's source and reference."""
    lookups = _UnpairedLookups()
    for subject, (source, reference) in images.items():
        lookups.sources.add(subject, source, everywhere(source))
        lookups.references.add(subject, reference, everywhere(reference))
    return lookups


@SHAPES
def test_a_look_up_learns_the_map_between_intensities(shape):
    trained, unseen = scan(shape, 0), scan(shape, 1)
    np.testing.assert_array_equal(paired((trained, trained))(trained), trained)
    lookup = paired((trained, enhanced_to_plain(trained)))
    assert np.abs(lookup(unseen) - enhanced_to_plain(unseen)).mean() < 2


def test_a_look_up_takes_the_median_change_inside_the_mask_also_beyond_the_known_intensities():
    source, mask = np.full((10, 10, 1), 100.0), np.zeros((10, 10, 1), dtype=bool)
    reference = np.full(source.shape, 40.0)
    reference[:4] = 900
    assert paired((source, reference))(source) == pytest.approx(40), "it has the least absolute error"
    mask[:2] = True
    lookup = paired((source, np.where(mask, 60.0, 3000.0)), mask=mask)
    assert lookup(source) == pytest.approx(60)
    np.testing.assert_allclose(lookup(np.array([-1024.0, 3500.0])), [-1064.0, 3460.0])


@SHAPES
def test_matching_carries_over_the_distribution_without_pairs(shape):
    source, target = scan(shape, 0), enhanced_to_plain(scan(shape, 1))
    quantiles = np.linspace(0.05, 0.95, 19)
    found = np.quantile(matched(a=(source, target)).without("nobody")(source), quantiles)
    assert np.abs(found - np.quantile(target, quantiles)).max() < 3
    np.testing.assert_allclose(matched(a=(source, source)).without("nobody")(source), source, atol=1e-3)


def test_without_a_voxel_or_another_subject_there_is_no_look_up():
    source = scan((4, 4, 1))
    with pytest.raises(DataError, match=r"no voxel to fit .* masks that are not empty"):
        paired((source, source), mask=np.zeros(source.shape, dtype=bool))
    for lookups in (_PairedLookups(), _UnpairedLookups(), taught({"a": (source, source)})):
        with pytest.raises(DataError, match="another subject"):
            lookups.without("a")


@SHAPES
def test_the_look_up_for_a_subject_is_that_of_the_other_subjects(shape):
    pairs = {subject: (scan(shape, seed), scan(shape, seed) - 20 * seed) for seed, subject in enumerate("abc")}
    lookups = _PairedLookups()
    for subject, (source, reference) in pairs.items():
        lookups.add(subject, source, reference, everywhere(source))
        lookups.add(subject, reference, source, everywhere(source))
    expected = paired(*(pair for subject in "ac" for pair in (pairs[subject], pairs[subject][::-1])))
    probe = scan(shape, 9)
    np.testing.assert_array_equal(lookups.without("b")(probe), expected(probe))
    image = pairs["a"][0]
    unpaired = matched(a=(image, image - 30), b=(image + 500, image + 470))
    np.testing.assert_allclose(unpaired.without("b")(image), image - 30, atol=0.1)


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
def test_a_look_up_learns_the_map_whatever_the_scale_of_an_mr_and_never_from_the_subject_itself(shape):
    trained, unseen = mr(shape, 0, scale=1.0), mr(shape, 1, scale=37.0)
    found = taught({"a": (trained, trained - 300)}).without("b")
    assert np.abs(found.arms(unseen, shape)[LOOKUP] - (unseen / 37 - 300)).mean() < 20
    pairs = {subject: (mr(shape, seed), mr(shape, seed + 9) - 100 * seed) for seed, subject in enumerate("abc")}
    found, expected = taught(pairs).without("b"), taught({s: pairs[s] for s in "ac"}).without("nobody")
    np.testing.assert_array_equal(found.mean_hu, expected.mean_hu)
    np.testing.assert_array_equal(found.median_hu, expected.median_hu)


def test_without_sources_the_constant_is_known_and_only_the_region_teaches():
    reference = np.full((9, 9, 1), 30.0)
    reference[0] = 900
    found = taught({"a": (None, reference)}).without("b")
    assert found.constant_hu == 30
    assert set(found.arms(None, (9, 9, 1))) == {CONSTANT}
    lookups = CrossingLookups()
    lookups.add("a", None, reference, reference > 100)
    assert all((volume == 900).all() for volume in lookups.without("b").arms(mr((9, 9, 1)), (9, 9, 1)).values())


def test_bins_are_bounded_by_the_percentiles_and_an_even_image_has_one():
    source = mr((60, 60, 1))
    mean_hu = taught({"a": (source, bins_of(source))}).without("b").mean_hu
    np.testing.assert_allclose(mean_hu, np.arange(128))
    even = np.full((4, 4, 1), 7.0)
    assert np.ptp(taught({"a": (even, mr((4, 4, 1)))}).without("b").arms(even, even.shape)[LOOKUP]) == 0


DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1)}
"""RAS+ directions in which an axis counts."""


@pytest.mark.parametrize(
    ("axes", "shape", "axis"),
    [("RAS", (6, 7, 8), 0), ("LPS", (6, 7, 8), 0), ("PSR", (6, 7, 8), 2), ("SLA", (6, 7, 8), 1), ("ASR", (6, 7, 1), 0)],
)
def test_a_shift_is_by_one_voxel_left_right_however_the_file_is_stored_or_within_a_sagittal_slice(axes, shape, axis):
    affine = np.eye(4)
    affine[:3, :3] = np.stack([DIRECTIONS[letter] for letter in axes], axis=1)
    volume = mr(shape)
    found, true = (np.moveaxis(each, axis, 0) for each in (shifted(volume, affine), volume))
    np.testing.assert_array_equal(found[1:], true[:-1])
    np.testing.assert_array_equal(found[0], true[0])
