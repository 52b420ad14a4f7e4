"""The worth of a map against maps that know the error, that know nothing, and that err in the scale alone."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medgan.evaluation.uncertainty import map_beside, spearman, uncertainty_figures

SHAPES = pytest.mark.parametrize("shape", [(40, 40, 1), (20, 20, 6)], ids=["2d", "3d"])


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
def test_a_map_of_noise_is_worth_nothing(shape):
    error, inside, random = made(shape)
    found = uncertainty_figures(random.uniform(1, 2, shape).astype(np.float32), error, inside)
    assert abs(found["uncertainty_spearman"]) < 0.1
    assert found["error_in_most_unsure_tenth"] == pytest.approx(1, abs=0.25)


@SHAPES
def test_where_the_map_is_zero_it_is_judged_apart(shape):
    error, inside, random = made(shape)
    still = random.random(shape) < 0.5
    error[still] = 0
    noise = random.uniform(1, 2, shape).astype(np.float32)
    noise[still] = 0
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
