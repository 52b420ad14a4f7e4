"""Slopes against the least-squares line of numpy, and against lines that are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medgan.evaluation.slopes import slope

PLACES = [0.0, 0.5, 1.0]


def measured(subjects=12, places=PLACES, rise=-0.4, noise=0.1, seed=0):
    random = np.random.default_rng(seed)
    levels = random.normal(0, 5, (subjects, 1))
    return pd.DataFrame(
        levels + rise * np.array(places) + random.normal(0, noise, (subjects, len(places))), columns=places
    )


@pytest.mark.parametrize("places", [PLACES, [0.0, 0.1, 1.0, 2.5], [3, 4]])
def test_the_slope_is_that_of_the_least_squares_line_through_all_points(places):
    values = measured(places=places)
    x = np.tile(np.array(places, dtype=float), len(values))
    assert slope(values).mean == pytest.approx(np.polyfit(x, values.to_numpy().ravel(), 1)[0])


def test_the_interval_is_students_of_the_subjects_own_slopes():
    values = measured(subjects=6)
    own = [np.polyfit(PLACES, row, 1)[0] for row in values.to_numpy()]
    found = slope(values)
    assert (found.lower, found.upper) == pytest.approx(tuple(stats.ttest_1samp(own, 0).confidence_interval()))


def test_one_subject_has_a_slope_without_an_interval():
    found = slope(measured(subjects=1))
    assert np.isfinite(found.mean)
    assert np.isnan([found.lower, found.upper]).all()


def test_differences_between_subjects_do_not_widen_the_interval():
    found = slope(measured(rise=-0.4, noise=0.05))
    assert found.lower < -0.4 < found.upper
    assert found.upper - found.lower < 0.15
    assert found.n == 12


def test_the_interval_covers_what_is_true_in_about_95_of_a_hundred_studies():
    inside = 0
    for seed in range(60):
        found = slope(measured(subjects=20, rise=0.0, noise=1.0, seed=seed))
        inside += found.lower <= 0 <= found.upper
    assert inside >= 51  # of 60; 57 are expected


def test_subjects_that_were_not_measured_everywhere_are_left_out():
    values = measured()
    values.loc[3, 0.5] = np.nan
    assert slope(values).n == 11
    assert slope(values).mean == pytest.approx(slope(values.drop(index=3)).mean)
    assert slope(values.iloc[:0]).n == 0
