from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from data.cohorts import ct, mr
from medgan.data.agreement import DIRECTIONS, agreement, direction, eroded_in_plane, misaligned, on_scale_of
from medgan.data.domains import DomainPair
from medgan.data.preparation import Prepared

PAIR = DomainPair(source=mr("mr"), target=ct("ct"), paired=True)


def square(first, last, inside, outside, depth):
    voxels = np.full((40, 40, depth), outside, dtype=np.float32)
    voxels[first:last, first:last] = inside
    return Prepared(voxels, np.diag([1.0, 1.0, 3.0, 1.0]), ((first, last), (first, last), (0, depth)), (0.0, 1.0))


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("margin", [0, 3])
def test_the_region_is_what_both_bodies_share_without_its_rim(depth, margin):
    mr, ct = square(5, 30, 100.0, 0.0, depth), square(8, 35, 40.0, -1000.0, depth)
    found = agreement(mr, ct, PAIR, margin_voxels=margin)
    expected = np.zeros((40, 40, depth), dtype=np.float32)
    expected[8 + margin : 30 - margin, 8 + margin : 30 - margin] = 1
    # The body's own opening rounds its corners, so the two middle lines are compared.
    np.testing.assert_array_equal(found.voxels[20], expected[20])
    np.testing.assert_array_equal(found.voxels[:, 20], expected[:, 20])
    assert np.all(found.voxels <= expected)
    assert set(np.unique(found.normalised())) == {-1.0, 1.0}
    assert (found.body, found.bounds) == (ct.body, (0.0, 1.0))


def test_the_edge_of_the_volume_is_no_rim():
    mask = np.arange(10)[:, None, None].repeat(12, 1).repeat(2, 2) < 6
    np.testing.assert_array_equal(eroded_in_plane(mask, 2)[:, 0, 0], np.arange(10) < 4)


def scaled(voxels):
    body = tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), np.eye(4), body, bounds=(5.0, 400.0))


@pytest.mark.parametrize("depth", [1, 6])
@pytest.mark.parametrize("gain", [0.3, 1.0, 7.0])
def test_a_gain_is_taken_out_and_enhancement_stays(depth, gain):
    before = np.random.default_rng(0).uniform(100, 300, (20, 24, depth))
    enhanced = before.copy()
    enhanced[:6] *= 1.8
    inside = replace(scaled(np.ones_like(before)), bounds=(0.0, 1.0))
    found = on_scale_of(scaled(before), scaled(gain * enhanced), inside)
    np.testing.assert_allclose(found.voxels, enhanced, rtol=1e-4)
    assert found.bounds == (5.0, 400.0)


def test_where_there_is_nothing_to_compare_only_the_bounds_are_shared():
    target = scaled(np.full((4, 4, 2), 50.0))
    nowhere = scaled(np.zeros((4, 4, 2)))
    found = on_scale_of(replace(target, bounds=(1.0, 2.0)), target, nowhere)
    assert found.bounds == (1.0, 2.0)
    assert found.voxels is target.voxels


@pytest.mark.parametrize("shape", [(9, 7, 3), (6, 6, 1)], ids=["3d", "2d"])
@pytest.mark.parametrize("voxels", [1, 3, 20])
def test_a_target_moves_as_by_scipys_shift_with_edges_repeated_and_keeps_all_else(shape, voxels):
    before = Prepared(
        np.random.default_rng(0).normal(size=shape).astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0]),
        body=((1, 8), (1, 6), (0, 3)), bounds=(-3.0, 3.0),
    )  # fmt: skip
    for subject in ("s1", "s2", "s3", "s4", "s5"):
        after = misaligned(before, voxels, subject=subject, seed=0)
        step = [voxels * each for each in direction(subject, 0)]
        assert np.array_equal(after.voxels, ndimage.shift(before.voxels, (*step, 0), order=0, mode="nearest"))
        assert replace(after, voxels=before.voxels) == before
    assert misaligned(before, 0, subject="s1", seed=0) is before


def test_the_direction_follows_the_subject_and_the_seed_and_takes_every_side():
    drawn = {seed: [direction(f"s{number}", seed) for number in range(40)] for seed in (0, 1)}
    assert drawn[0] == [direction(f"s{number}", 0) for number in range(40)]
    assert drawn[0] != drawn[1]
    assert set(drawn[0]) == set(DIRECTIONS)
    assert all(abs(right) + abs(anterior) == 1 for right, anterior in DIRECTIONS)
