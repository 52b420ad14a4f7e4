"""Label-keeping against maps that were drawn by hand, in slices and in blocks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from medgan.errors import GeometryError
from medgan.evaluation.faithfulness import SMALLEST_MM3, Keeping, KeepingRule, label_keeping
from medgan.evaluation.segmentation import LesionCounts

SPACING = (2.0, 2.0, 5.0)
NAMES = {"liver": 1, "kidney": [2, 3], "lesion": 4}
DEPTHS = pytest.mark.parametrize("depth", [1, 6], ids=["2d", "3d"])


def ball(*boxes, depth=1):
    """Boxes (x, y, width) of ones, over all slices but those at the ends of a block."""
    mask = np.zeros((40, 40, depth), dtype=bool)
    for x, y, width in boxes:
        mask[x : x + width, y : y + width, 1 if depth > 1 else 0 : max(depth - 1, 1)] = True
    return mask


def compared(before, after, **changes):
    return label_keeping(before, after, NAMES, spacing_mm=SPACING, lesions=["lesion"], **changes)


def became(before, after, spacing_mm=SPACING):
    """How many lesions were kept, erased and invented."""
    kept = label_keeping(before, after, {"lesion": 1}, spacing_mm=spacing_mm, lesions=["lesion"])
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


def test_a_lesion_is_kept_from_a_tenth_of_its_voxels_on():
    before = ball((5, 5, 10))
    after = np.zeros_like(before)
    after[5, 5:15] = True
    assert became(before, after)[0] == 1
    after[5, 5] = False
    assert became(before, after)[0] == 0


@given(arrays.arrays(np.bool_, (2, 9, 9, 3)))
def test_swapping_the_maps_swaps_erased_and_invented(masks):
    assert became(*masks, (3.0, 3.0, 3.0))[1:] == became(*masks[::-1], (3.0, 3.0, 3.0))[:0:-1]


def test_maps_on_different_grids_are_refused():
    with pytest.raises(GeometryError, match=r"\(4, 4, 1\) and \(4, 4, 2\).*on the grid of its input"):
        compared(np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 2), np.uint8))


KEPT = Keeping({"liver": 0.9, "kidney": math.nan}, {"lesion": lesions(2, 0, 0)})


@pytest.mark.parametrize(
    ("keeping", "rule", "why"),
    [
        (KEPT, KeepingRule(), None),
        (KEPT, KeepingRule(dice=0.95), "dice of liver 0.90 is below 0.95"),
        (Keeping({"liver": 0.6, "kidney": 0.3}, {}), KeepingRule(), "dice of kidney 0.30 is below 0.7"),
        (Keeping({}, {"lesion": lesions(0, 2, 0)}), KeepingRule(erased=1), "2 lesions erased, more than 1"),
        (Keeping({}, {"lesion": lesions(0, 2, 0)}), KeepingRule(erased=2), None),
        (Keeping({}, {"a": lesions(0, 0, 1), "b": lesions(0, 0, 1)}), KeepingRule(invented=1), "2 lesions invented"),
        (Keeping({}, {"lesion": lesions(0, 9, 9)}), KeepingRule(erased=None, invented=None), None),
    ],
)
def test_an_image_is_rejected_with_its_reason(keeping, rule, why):
    objection = rule.objection(keeping)
    assert objection is None if why is None else str(objection).startswith(why)


def test_the_worst_organ_is_one_that_is_there_and_the_row_has_a_column_for_each_organ_and_count():
    assert KEPT.worst == 0.9
    assert math.isnan(Keeping({"kidney": math.nan}, {}).worst)
    counts = {"lesion_kept": 2, "lesion_erased": 0, "lesion_invented": 0}
    assert KEPT.figures() == pytest.approx({"dice_liver": 0.9, "dice_kidney": math.nan} | counts, nan_ok=True)
