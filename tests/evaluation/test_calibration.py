"""Calibration against numpy's line fit and values computed by hand."""

import numpy as np
import pytest

from medgan.evaluation.calibration import calibration, clipped_percent, slope

SHAPES = pytest.mark.parametrize("shape", [(20, 24, 1), (12, 10, 8)], ids=["2d", "3d"])


def true_ct(shape):
    return np.random.default_rng(0).uniform(-100, 900, shape)


@SHAPES
def test_error_bias_and_slope_of_a_linear_map(shape):
    real = true_ct(shape)
    where = {"bone": real > 200, "air_inside": np.zeros(shape, dtype=bool)}
    found = calibration(0.5 * real + 30, real, where)
    bias = (30 - 0.5 * real[real > 200]).mean()
    assert found["bias_bone_hu"] == pytest.approx(bias)
    assert found["mae_bone_hu"] == pytest.approx(np.abs(30 - 0.5 * real[real > 200]).mean())
    assert found["slope_bone"] == pytest.approx(0.5)
    assert np.isnan([found["mae_air_inside_hu"], found["bias_air_inside_hu"], found["slope_air_inside"]]).all()


@SHAPES
def test_the_slope_is_that_of_numpys_line(shape):
    real = true_ct(shape)
    fake = 0.7 * real + np.random.default_rng(1).normal(0, 200, shape)
    assert slope(fake, real) == pytest.approx(np.polyfit(real.ravel(), fake.ravel(), 1)[0])


def test_a_constant_tells_nothing_apart_and_a_constant_truth_has_no_slope():
    real = true_ct((9, 9, 1))
    assert slope(np.full(real.shape, 40.0), real) == pytest.approx(0)
    assert np.isnan(slope(real, np.full(real.shape, 40.0)))


@SHAPES
def test_clipped_is_the_share_of_the_region_beyond_the_synthetic_range(shape):
    real = np.zeros(shape)
    real[:3] = 2000
    real[3] = -1024
    where = np.ones(shape, dtype=bool)
    where[-1] = False
    fake = np.clip(real, -1000, 1000)
    assert clipped_percent(fake, real, where) == pytest.approx(100 * 4 / (shape[0] - 1))
    assert clipped_percent(real, real, where) == 0
    assert np.isnan(clipped_percent(real, real, np.zeros(shape, dtype=bool)))
