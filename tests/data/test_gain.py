from dataclasses import replace

import numpy as np
import pytest

from medgan.data.gain import on_scale_of
from medgan.data.preparation import Prepared


def study(voxels):
    body = tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), np.eye(4), body, bounds=(5.0, 400.0))


@pytest.mark.parametrize("depth", [1, 6])
@pytest.mark.parametrize("gain", [0.3, 1.0, 7.0])
def test_a_gain_is_taken_out_and_enhancement_stays(depth, gain):
    before = np.random.default_rng(0).uniform(100, 300, (20, 24, depth))
    enhanced = before.copy()
    enhanced[:6] *= 1.8
    inside = replace(study(np.ones_like(before)), bounds=(0.0, 1.0))
    found = on_scale_of(study(before), study(gain * enhanced), inside)
    np.testing.assert_allclose(found.voxels, enhanced, rtol=1e-4)
    assert found.bounds == (5.0, 400.0)


def test_where_there_is_nothing_to_compare_only_the_bounds_are_shared():
    target = study(np.full((4, 4, 2), 50.0))
    nowhere = study(np.zeros((4, 4, 2)))
    found = on_scale_of(replace(target, bounds=(1.0, 2.0)), target, nowhere)
    assert found.bounds == (1.0, 2.0)
    assert found.voxels is target.voxels
