import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.synthesis.neighbours import neighbourhoods, radii

LINE = np.arange(10.0)[:, None]


def test_the_radius_is_the_distance_to_the_nth_neighbour():
    np.testing.assert_array_equal(radii(LINE, 3), [3, 2, 2, 2, 2, 2, 2, 2, 2, 3])


def test_on_a_line_the_shares_are_those_counted_by_hand():
    samples = np.array([0.0, 1, 2, 3, 4, 100])[:, None]
    found = neighbourhoods(samples, LINE)
    assert found.precision == pytest.approx(5 / 6), "100 is nobody's neighbour"
    assert found.recall == 1.0, "the outlier's radius reaches over all"
    # Radii to the 5th of the real ones: 5, 4, 3, 3, 3, 3, 3, 3, 4, 5. Samples 0 to 4 lie in 4, 6, 7, 7, 8 of them.
    assert found.density == pytest.approx(sum(within(LINE, value) for value in samples.ravel()) / 6 / 5)
    assert found.coverage == pytest.approx(
        np.mean([min(abs(samples - x)) <= r for x, r in zip(LINE, WIDE, strict=True)])
    )


WIDE = np.array([5, 4, 3, 3, 3, 3, 3, 3, 4, 5.0])


def within(real, value):
    return int((np.abs(real.ravel() - value) <= WIDE).sum())


def test_real_against_real_is_precise_and_covers():
    one, other = np.random.default_rng(0).standard_normal((2, 120, 3))
    found = neighbourhoods(one, other)
    assert min(found.precision, found.recall, found.coverage) > 0.75
    assert found.density == pytest.approx(1, abs=0.2)


def test_collapsed_samples_are_precise_and_cover_nothing():
    real = np.random.default_rng(0).standard_normal((120, 3))
    collapsed = real[:1] + np.random.default_rng(1).normal(0, 1e-3, (120, 3))
    found = neighbourhoods(collapsed, real)
    assert found.precision == 1.0
    assert max(found.recall, found.coverage) < 0.2


def test_scattered_samples_cover_and_are_not_precise():
    real, noise = np.random.default_rng(0).standard_normal((2, 120, 3))
    found = neighbourhoods(10 * noise, real)
    assert found.precision < 0.2
    assert found.density < 0.2


def test_too_few_samples_have_no_neighbourhoods():
    with pytest.raises(DataError, match="more than 5 samples"):
        neighbourhoods(np.zeros((5, 2)), np.zeros((9, 2)))
