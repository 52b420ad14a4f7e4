"""Calibration against numpy's line fit and values computed by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medgan.evaluation.calibration import calibration, clipped_percent, map_beside, spearman, uncertainty_figures

SHAPES = pytest.mark.parametrize("shape", [(40, 40, 1), (20, 20, 6)], ids=["2d", "3d"])


def slope(fake, real):
    return calibration(fake, real, {"bone": np.ones(real.shape, dtype=bool)})["slope_bone"]


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
    constant = np.full(shape, 40.0)
    assert slope(constant, real) == pytest.approx(0)
    assert np.isnan(slope(real, constant)), "a constant truth has no slope"


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


def made(shape):
    random = np.random.default_rng(0)
    error = random.gamma(1.0, 10.0, shape).astype(np.float32)
    inside = np.zeros(shape, dtype=bool)
    inside[4:-4, 4:-4] = True
    return error, inside, random


@SHAPES
def test_a_map_that_rises_with_the_error_orders_it_perfectly(shape):
    error, inside, _ = made(shape)
    found = uncertainty_figures(np.sqrt(error), error, inside)
    assert found["uncertainty_spearman"] == pytest.approx(1)
    values = np.sort(error[inside])
    tenth = values[values >= np.percentile(values, 90)]
    assert found["error_in_most_unsure_tenth"] == pytest.approx(tenth.mean() / values.mean(), rel=1e-5)


@SHAPES
def test_a_map_of_noise_is_worth_nothing_and_where_it_is_zero_it_is_judged_apart(shape):
    error, inside, random = made(shape)
    noise = random.uniform(1, 2, shape).astype(np.float32)
    found = uncertainty_figures(noise, error, inside)
    assert abs(found["uncertainty_spearman"]) < 0.1
    assert found["error_in_most_unsure_tenth"] == pytest.approx(1, abs=0.25)
    still = random.random(shape) < 0.5
    error[still] = noise[still] = 0
    found = uncertainty_figures(noise, error, inside)
    assert found["uncertainty_spearman"] > 0.6
    assert abs(found["uncertainty_spearman_where_unsure"]) < 0.15


@pytest.mark.parametrize("name", ["map", "error", "region"])
def test_what_does_not_vary_or_is_empty_has_no_figure(name):
    error, inside, _ = made((20, 20, 1))
    unsure = error.copy()
    {"map": unsure, "error": error, "region": inside}[name][:] = 0
    assert np.isnan(uncertainty_figures(unsure, error, inside)["uncertainty_spearman"])


def test_the_correlation_is_that_of_the_ranks():
    one, other = np.random.default_rng(1).normal(size=(2, 50))
    expected = np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1]
    assert spearman(one, other) == pytest.approx(expected)


def test_the_map_lies_beside_its_image():
    assert map_beside(Path("out/s1/contrast.nii.gz")) == Path("out/s1/contrast_uncertainty.nii.gz")
