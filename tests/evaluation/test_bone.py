"""Bone against MONAI's surface Dice, and against cubes whose overlap is known."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from medgan.evaluation.bone import TOLERANCE_MM, Bone, bone_figures, bone_surface_dice
from medgan.evaluation.tissues import overlap

SHAPES = pytest.mark.parametrize("shape", [(40, 44, 1), (30, 32, 14)], ids=["2d", "3d"])
SPACING = (0.9, 1.1, 3.0)


def blobs(shape, seed):
    """Bone as a few boxes, away from the edge of the volume."""
    rng = np.random.default_rng(seed)
    hu = np.full(shape, 40.0)
    for _ in range(4):
        x, y = (rng.integers(6, side - 14) for side in shape[:2])
        z = 0 if shape[2] == 1 else rng.integers(2, shape[2] - 6)
        hu[x : x + rng.integers(3, 8), y : y + rng.integers(3, 8), z : z + 4] = 700
    return hu


def everywhere(shape):
    return np.ones(shape, dtype=bool)


def by_monai(found, true, spacing):
    """MONAI's figure; it takes slices as images of two dimensions."""
    if found.shape[2] == 1:
        found, true, spacing = found[..., 0], true[..., 0], spacing[:2]
    one_hot = [torch.tensor(np.stack([~mask, mask])[None]) for mask in (found, true)]
    return compute_surface_dice(*one_hot, class_thresholds=[TOLERANCE_MM], spacing=spacing).item()


@SHAPES
@pytest.mark.parametrize("seed", range(3))
def test_surface_dice_is_that_of_monai(shape, seed):
    true, found = (Bone.of(blobs(shape, s), SPACING) for s in (seed, seed + 10))
    moved = Bone(found.mask | np.roll(true.mask, 2, axis=0), SPACING)
    expected = by_monai(moved.mask, true.mask, SPACING)
    assert 0.1 < expected < 0.95
    assert bone_surface_dice(moved, true, everywhere(shape)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("spacing_mm", "expected"), [(0.9, 1.0), (1.1, 2 / 3)])
def test_a_surface_two_voxels_away_agrees_if_that_is_within_the_tolerance(spacing_mm, expected):
    mask = np.zeros((20, 9, 1), dtype=bool)
    mask[8] = True
    true, found = Bone(mask, (spacing_mm,) * 3), Bone(mask | np.roll(mask, 2, axis=0), (spacing_mm,) * 3)
    # All of the true surface is hit; of the found one the half that is no true bone only if 2 voxels are near enough.
    assert bone_surface_dice(found, true, everywhere(mask.shape)) == pytest.approx(expected)


@SHAPES
def test_only_the_region_counts_and_its_border_makes_no_surface(shape):
    true, found = (Bone.of(blobs(shape, seed), SPACING) for seed in (1, 2))
    where = everywhere(shape)
    where[shape[0] // 2 :] = False
    figures = bone_figures(found, true, where)
    assert figures["bone_dice"] == overlap(found.mask & where, true.mask & where)
    solid = Bone(everywhere(shape), SPACING)
    assert not (solid.surface & where)[1:, 1:-1, 1:-1].any()


def test_false_bone_is_what_lies_more_than_two_voxels_from_true_bone():
    hu = np.zeros((30, 9, 1))
    hu[5] = 500
    made_up = hu.copy()
    made_up[[7, 8, 20], 4] = 500
    found = bone_figures(Bone.of(made_up, (1.0, 2.0, 5.0)), Bone.of(hu, (1.0, 2.0, 5.0)), everywhere(hu.shape))
    assert found["false_bone_percent"] == pytest.approx(100 * 2 / 270)
    assert found["false_bone_ml"] == pytest.approx(2 * 10 / 1000)


@SHAPES
def test_equal_bone_is_perfect_none_is_nothing_to_judge_and_bone_in_one_only_scores_zero(shape):
    bone, none = Bone.of(blobs(shape, 0), SPACING), Bone.of(np.zeros(shape), SPACING)
    empty = bone_figures(none, none, everywhere(shape))
    assert np.isnan([empty["bone_dice"], empty["bone_surface_dice"]]).all()
    assert empty["false_bone_ml"] == 0
    for pair in ((bone, none), (none, bone)):
        figures = bone_figures(*pair, everywhere(shape))
        assert (figures["bone_dice"], figures["bone_surface_dice"]) == (0, 0)
    equal = bone_figures(bone, bone, everywhere(shape))
    assert equal == {"bone_dice": 1, "bone_surface_dice": 1, "false_bone_percent": 0, "false_bone_ml": 0}
