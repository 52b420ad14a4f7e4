"""Moved targets against scipy's shift, and what decides the direction."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.data.misalignment import DIRECTIONS, direction, misaligned, moved
from medgan.data.preparation import Prepared

SUBJECTS = [f"s{number}" for number in range(40)]


def study():
    voxels = np.random.default_rng(0).normal(size=(9, 7, 3)).astype(np.float32)
    return Prepared(voxels, np.diag([2.0, 2.0, 5.0, 1.0]), body=((1, 8), (1, 6), (0, 3)), bounds=(-3.0, 3.0))


@pytest.mark.parametrize("shape", [(9, 7, 3), (6, 6, 1)], ids=["3d", "2d"])
@pytest.mark.parametrize("step", [(2, 0), (-3, 0), (0, 1), (0, -4), (20, 0)], ids=str)
def test_a_move_is_scipys_shift_with_edges_repeated(shape, step):
    voxels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = ndimage.shift(voxels, (*step, 0), order=0, mode="nearest")
    assert np.array_equal(moved(voxels, *step), expected)


@pytest.mark.parametrize("voxels", [1, 3, 6])
def test_a_target_moves_by_as_many_voxels_as_asked_and_keeps_all_else(voxels):
    before = study()
    after = misaligned(before, voxels, subject="s1", seed=0)
    right, anterior = direction("s1", 0)
    assert np.array_equal(after.voxels, moved(before.voxels, voxels * right, voxels * anterior))
    assert not np.array_equal(after.voxels, before.voxels)
    assert (after.body, after.bounds) == (before.body, before.bounds)
    assert np.array_equal(after.affine, before.affine)


def test_without_a_shift_the_study_itself_comes_back():
    before = study()
    assert misaligned(before, 0, subject="s1", seed=0) is before


def test_the_direction_follows_the_subject_and_the_seed_and_takes_every_side():
    drawn = {seed: [direction(subject, seed) for subject in SUBJECTS] for seed in (0, 1)}
    assert drawn[0] == [direction(subject, 0) for subject in SUBJECTS]
    assert drawn[0] != drawn[1]
    assert set(drawn[0]) == set(DIRECTIONS)
    assert all(abs(right) + abs(anterior) == 1 for right, anterior in DIRECTIONS)
