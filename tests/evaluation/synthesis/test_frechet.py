import numpy as np
import pytest
from scipy.linalg import sqrtm

from medgan.errors import DataError
from medgan.evaluation.synthesis.frechet import frechet_distance


def with_moments(number, mean, covariance, seed=0):
    """Samples whose mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).standard_normal((number, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw, rowvar=False)))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_of_normal_distributions_it_is_the_closed_form():
    random = np.random.default_rng(1)
    means = random.standard_normal((2, 4))
    a, b = (m @ m.T + np.eye(4) for m in random.standard_normal((2, 4, 4)))
    found = frechet_distance(with_moments(40, means[0], a), with_moments(30, means[1], b, seed=2))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert found == pytest.approx(expected)


def test_of_one_feature_it_is_the_difference_of_means_and_of_deviations():
    one, other = with_moments(20, [1.0], [[4.0]]), with_moments(25, [3.0], [[9.0]], seed=1)
    assert frechet_distance(one, other) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)


def test_it_is_symmetric_and_zero_only_for_equal_moments():
    one, other = np.random.default_rng(0).standard_normal((2, 12, 20))
    assert frechet_distance(one, one[::-1]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one, np.repeat(other[:1], 12, axis=0)) > frechet_distance(one, other)


def test_one_sample_has_no_covariance():
    with pytest.raises(DataError, match="two samples"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
