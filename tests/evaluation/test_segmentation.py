"""Figures of label maps against values and maps by hand, plain loops over surfaces, and SimpleITK."""

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from medgan.errors import GeometryError
from medgan.evaluation.segmentation import (
    METRICS,
    SMALLEST_MM3,
    LabelAgreement,
    LesionCounts,
    label_agreement,
    lesion_counts,
    score_labels,
    score_mask,
)

MASKS = st.tuples(*(arrays(bool, (6, 5, 4)) for _ in range(2)))
SPACING = (1.5, 2.0, 5.0)


def box(shape, *ranges):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*extent) for extent in ranges)] = True
    return mask


def surface(mask):
    """Indices of the voxels with a neighbour, along an axis, that is not in the mask."""
    padded = np.pad(mask, 1)
    steps = [step for axis in range(mask.ndim) for step in ((axis, 1), (axis, -1))]
    inside = np.all([np.roll(padded, shift, axis) for axis, shift in steps], axis=0)
    return np.argwhere(padded & ~inside)


def hd95_by_hand(found, truth, spacing):
    distances = cdist(surface(found) * spacing, surface(truth) * spacing)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


@settings(max_examples=25, deadline=None)
@given(MASKS)
def test_figures_agree_with_plain_loops_and_with_simpleitk(masks):
    found, truth = masks
    found[0, 0, 0] = truth[5, 4, 3] = True
    scores = score_mask(found, truth, SPACING)
    assert scores["hd95_mm"] == pytest.approx(hd95_by_hand(found, truth, SPACING), rel=1e-5, abs=1e-4)
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, found)))
    assert scores["dice"] == pytest.approx(theirs.GetDiceCoefficient())
    assert scores["volume_error_percent"] == pytest.approx(100 * (found.sum() / truth.sum() - 1))
    assert 0 <= scores["surface_dice"] <= 1


@settings(max_examples=12, deadline=None)
@given(MASKS, st.sampled_from(list(itertools.permutations(range(3)))))
def test_figures_do_not_hang_on_the_order_of_axes_or_of_the_two_but_for_the_volume(masks, order):
    found, truth = masks
    scores = score_mask(found, truth, SPACING, counted=True)
    turned = [mask.transpose(order)[::-1] for mask in (found, truth)]
    again = score_mask(*turned, [SPACING[axis] for axis in order], counted=True)
    swapped = score_mask(truth, found, SPACING)
    for name in METRICS:
        assert again[name] == pytest.approx(scores[name], nan_ok=True, rel=1e-5)
        if name not in ("volume_error_percent", "lesion_f1", "false_lesions"):
            assert swapped[name] == pytest.approx(scores[name], nan_ok=True, rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_off_as_it_was_shifted_in_mm(axis):
    truth = box((20, 20, 20), (5, 15), (5, 15), (5, 15))
    found = np.roll(truth, 2, axis)
    scores = score_mask(found, truth, SPACING, tolerance_mm=2 * SPACING[axis])
    assert scores["hd95_mm"] == pytest.approx(2 * SPACING[axis])
    assert scores["dice"] == pytest.approx(0.8)
    assert scores["volume_error_percent"] == 0
    assert scores["surface_dice"] == pytest.approx(1)
    assert score_mask(found, truth, SPACING, tolerance_mm=2 * SPACING[axis] - 0.1)["surface_dice"] < 0.9


@pytest.mark.parametrize("shape", [(20, 16), (20, 16, 1)], ids=["2d", "one slice"])
def test_surface_dice_weighs_outlines_by_their_length(shape):
    width, height, across, along = 8, 6, 3.0, 10.0
    rest = [(0, 1)] * (len(shape) - 2)
    truth = box(shape, (4, 4 + width), (5, 5 + height), *rest)
    found = np.roll(truth, 1, axis=0)
    # Corners are cut: an outline runs through the middles between voxels.
    corner = math.hypot(across, along) / 2
    outline = 2 * (width - 1) * across + 2 * (height - 1) * along + 4 * corner
    # 3 mm off: the far side with its corners, and the near side but for its corners, where the other's long sides pass.
    missed = 2 * (height - 1) * along + 2 * corner
    spacing = (across, along, 5.0)[: len(shape)]
    scores = score_mask(found, truth, spacing, tolerance_mm=2.9)
    assert scores["surface_dice"] == pytest.approx(1 - missed / outline, abs=1e-6)
    assert score_mask(found, truth, spacing, tolerance_mm=3.0)["surface_dice"] == 1


EMPTY, SOME = np.zeros((4, 3, 2), dtype=bool), box((4, 3, 2), (1, 3), (1, 2), (0, 1))
DIAGONAL = math.hypot(4 * 1.5, 3 * 2.0, 2 * 5.0)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        (EMPTY, EMPTY, [*[math.nan] * 5, 0]),
        (SOME, EMPTY, [0, DIAGONAL, 0, math.nan, 0, 1]),
        (EMPTY, SOME, [0, DIAGONAL, 0, -100, 0, 0]),
        (SOME, SOME, [1, 0, 1, 0, 1, 0]),
        (~EMPTY, ~EMPTY, [1, 0, 1, 0, 1, 0]),
    ],
    ids=["nothing to find", "found where nothing is", "missed", "found", "all, with a surface at the edge"],
)
def test_the_rule_for_empty_masks(found, truth, expected):
    scores = score_mask(found, truth, SPACING, counted=True)
    assert list(scores) == list(METRICS)
    assert list(scores.values()) == pytest.approx(expected, nan_ok=True)


def test_lesions_are_counted_one_by_one():
    truth = box((30, 10), (0, 10), (0, 1)) | box((30, 10), (12, 22), (0, 1)) | box((30, 10), (24, 29), (5, 6))
    found = box((30, 10), (0, 1), (0, 1))  # a tenth of the first
    found |= box((30, 10), (24, 29), (5, 9))  # the third and as much again thrice
    found |= box((30, 10), (12, 14), (8, 9))  # nothing there
    assert lesion_counts(found, truth) == LesionCounts(found=2, missed=1, false=1, apart=1)
    assert LesionCounts(2, 1, 1, 0).f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert score_mask(found, truth, (1.0, 1.0), counted=True)["lesion_f1"] == pytest.approx(2 / 3)
    uncounted = score_mask(found, truth, (1.0, 1.0))
    assert math.isnan(uncounted["lesion_f1"])
    assert math.isnan(uncounted["false_lesions"])


@pytest.mark.parametrize("rest", [(), (1,), (3,)], ids=["2d", "one slice", "3d"])
def test_false_lesions_are_counted_in_healthy_subjects_and_touch_no_true_one(rest):
    shape, thin = (30, 10, *rest), [(0, 1)] * len(rest)
    twice = box(shape, (0, 2), (0, 2), *thin) | box(shape, (8, 9), (7, 8), *thin)
    healthy = score_mask(twice, np.zeros(shape, dtype=bool), [1.0] * len(shape), counted=True)
    assert healthy["false_lesions"] == 2
    truth = box(shape, (2, 3), (0, 1), *thin)  # beside the first finding, and in one of the next
    beside = score_mask(twice, truth, [1.0] * len(shape), counted=True)
    assert beside["false_lesions"] == 2
    larger = box(shape, (2, 26), (0, 1), *thin) | twice
    assert score_mask(larger, truth, [1.0] * len(shape), counted=True)["false_lesions"] == 1


LINE, CORNERS = box((30, 2), (0, 20), (0, 1)), box((20, 20), (2, 3), (2, 3)) | box((20, 20), (10, 11), (10, 11))
TOUCHING = box((4, 4, 4), (0, 1), (0, 1), (0, 1)) | box((4, 4, 4), (1, 2), (1, 2), (1, 2))


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        (box((30, 2), (19, 20), (0, 2)), LINE, LesionCounts(found=0, missed=1, false=0, apart=0)),
        (np.ones((20, 20), dtype=bool), CORNERS, LesionCounts(found=2, missed=0, false=1, apart=0)),
        (TOUCHING, TOUCHING, LesionCounts(found=1, missed=0, false=0, apart=0)),
    ],
    ids=["hardly touched is missed", "covering everything finds all and is false", "touching at a corner are one"],
)
def test_what_is_a_lesion_and_when_it_is_found(found, truth, expected):
    assert lesion_counts(found, truth) == expected


def test_every_name_is_judged_by_its_own_voxels():
    truth = np.zeros((8, 8, 3), dtype=np.uint8)
    truth[:4], truth[4:6] = 1, 2
    found = truth.copy()
    found[2:4], found[4:6] = 0, 2
    scores = score_labels(found, truth, {1: "liver", 2: "lesion", 3: "kidney"}, SPACING, lesions=["lesion"])
    assert scores["liver"]["dice"] == pytest.approx(2 / 3)
    assert scores["liver"]["volume_error_percent"] == -50
    assert scores["lesion"]["dice"] == scores["lesion"]["lesion_f1"] == 1
    assert math.isnan(scores["liver"]["lesion_f1"])
    assert all(math.isnan(value) for value in scores["kidney"].values())


def test_spacing_may_be_a_headers():
    truth = box((8, 8, 8), (2, 6), (2, 6), (2, 6))
    header = np.array([1.0, 1.0, 2.5], dtype=np.float32)
    assert score_mask(np.roll(truth, 1, axis=2), truth, header)["hd95_mm"] == pytest.approx(2.5)


def test_maps_on_different_grids_are_refused():
    with pytest.raises(GeometryError, match=r"\(4, 3, 2\) .* \(4, 3, 3\)"):
        score_labels(np.zeros((4, 3, 2), np.uint8), np.zeros((4, 3, 3), np.uint8), {1: "liver"}, SPACING)
    with pytest.raises(GeometryError, match=r"\(4, 4, 1\) and \(4, 4, 2\).*on the grid of its input"):
        compared(np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 2), np.uint8))


VOXEL_MM = (2.0, 2.0, 5.0)
NAMES = {"liver": 1, "kidney": [2, 3], "lesion": 4}
DEPTHS = pytest.mark.parametrize("depth", [1, 6], ids=["2d", "3d"])


def ball(*boxes, depth=1):
    """Boxes (x, y, width) of ones, over all slices but those at the ends of a block."""
    mask = np.zeros((40, 40, depth), dtype=bool)
    for x, y, width in boxes:
        mask[x : x + width, y : y + width, 1 if depth > 1 else 0 : max(depth - 1, 1)] = True
    return mask


def compared(before, after, **changes):
    return label_agreement(before, after, NAMES, spacing_mm=VOXEL_MM, lesions=["lesion"], **changes)


def became(before, after, spacing_mm=VOXEL_MM):
    """How many lesions were kept, erased and invented."""
    kept = label_agreement(before, after, {"lesion": 1}, spacing_mm=spacing_mm, lesions=["lesion"])
    return tuple(kept.figures().values())


def lesions(kept, erased, invented):
    return LesionCounts(kept, erased, invented, invented)


@DEPTHS
def test_organs_are_compared_by_dice_with_values_merged(depth):
    before, after = np.zeros((2, 40, 40, depth), dtype=np.uint8)
    before[:10, :10], after[:10, 5:15] = 1, 1
    before[20:30, :10], after[20:30, :10] = 2, 3
    found = compared(before, after)
    assert found.dice == {"liver": 0.5, "kidney": 1.0}
    assert found.lesions == {"lesion": lesions(0, 0, 0)}
    assert compared(before, np.zeros_like(after)).dice["liver"] == 0
    without_kidney = np.where(before == 1, 1, 0)
    assert math.isnan(compared(without_kidney, without_kidney).dice["kidney"])


@DEPTHS
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([(5, 5, 8)], [(5, 5, 8)], (1, 0, 0)),
        ([(5, 5, 8)], [], (0, 1, 0)),
        ([], [(5, 5, 8)], (0, 0, 1)),
        ([(5, 5, 8), (25, 25, 8)], [(6, 6, 8), (5, 25, 8)], (1, 1, 1)),
        ([(5, 5, 8)], [(13, 5, 8)], (0, 1, 1)),
        ([(5, 5, 20)], [(10, 10, 5)], (0, 1, 0)),
        ([(10, 10, 5)], [(5, 5, 20)], (1, 0, 1)),
        ([(5, 5, 4), (9, 9, 4)], [(9, 9, 4)], (1, 0, 0)),
        ([(5, 5, 2)], [], (0, 0, 0)),
    ],
    ids=["kept", "erased", "invented", "one of each", "beside", "shrunk", "grown", "joined by a corner", "noise"],
)
def test_lesions_are_kept_erased_and_invented(before, after, expected, depth):
    assert became(ball(*before, depth=depth), ball(*after, depth=depth)) == expected


def test_the_smallest_lesion_is_one_by_volume_and_not_by_voxels():
    mask = ball((5, 5, 5))
    edge = SMALLEST_MM3 / 25
    assert became(mask, ~mask & False, (1.0, 1.0, edge)) == (0, 1, 0)
    assert became(mask, ~mask & False, (1.0, 1.0, 0.99 * edge)) == (0, 0, 0)


@settings(max_examples=25, deadline=None)
@given(arrays(np.bool_, (2, 9, 9, 3)))
def test_swapping_the_maps_swaps_erased_and_invented(masks):
    assert became(*masks, (3.0, 3.0, 3.0))[1:] == became(*masks[::-1], (3.0, 3.0, 3.0))[:0:-1]


KEPT = LabelAgreement({"liver": 0.9, "kidney": math.nan}, {"lesion": lesions(2, 0, 0)})


@pytest.mark.parametrize(
    ("keeping", "least_dice", "why"),
    [
        (KEPT, 0.7, None),
        (KEPT, 0.95, "dice of liver 0.90 is below 0.95"),
        (LabelAgreement({"liver": 0.6, "kidney": 0.3}, {}), 0.7, "dice of kidney 0.30 is below 0.7"),
        (LabelAgreement({}, {"lesion": lesions(0, 2, 0)}), 0.7, "2 lesions erased, more than 0"),
        (LabelAgreement({}, {"a": lesions(0, 0, 1), "b": lesions(0, 0, 1)}), 0.7, "2 lesions invented, more than 0"),
    ],
)
def test_an_image_is_rejected_with_its_reason(keeping, least_dice, why):
    assert keeping.objection(least_dice) == why


def test_the_worst_organ_is_one_that_is_there_and_the_row_has_a_column_for_each_organ_and_count():
    assert KEPT.worst == 0.9
    assert math.isnan(LabelAgreement({"kidney": math.nan}, {}).worst)
    counts = {"lesion_kept": 2, "lesion_erased": 0, "lesion_invented": 0}
    assert KEPT.figures() == pytest.approx({"dice_liver": 0.9, "dice_kidney": math.nan} | counts, nan_ok=True)
