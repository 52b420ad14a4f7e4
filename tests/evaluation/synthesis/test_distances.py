import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance

from medgan.errors import DataError
from medgan.evaluation.synthesis.distances import (
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    sliced_wasserstein,
)


def test_it_is_what_the_sum_over_pairs_gives_by_hand():
    one = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    other = np.array([[2.0, 0.0], [-1.0, 1.0]])

    def kernel(x, y):
        return (x @ y / 2 + 1) ** 3

    first = sum(kernel(one[i], one[j]) for i in range(3) for j in range(3) if i != j) / 6
    second = kernel(other[0], other[1])
    across = sum(kernel(x, y) for x in one for y in other) / 6
    assert kernel_distance(one, other) == pytest.approx(first + second - 2 * across)


def test_of_one_distribution_it_is_zero_on_average_however_few_samples_there_are():
    random = np.random.default_rng(0)
    values = [kernel_distance(*random.standard_normal((2, 6, 4))) for _ in range(800)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_collapsed_and_shifted_samples_are_far():
    one, other = np.random.default_rng(0).standard_normal((2, 50, 4))
    near = abs(kernel_distance(one, other))
    assert kernel_distance(one, other + 1) > 5 * near
    assert kernel_distance(one, np.repeat(other[:1], 50, axis=0)) > 5 * near


def test_one_sample_has_no_pair():
    with pytest.raises(DataError, match="two samples"):
        kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)))


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


LINE = np.arange(10.0)[:, None]


def test_on_a_line_the_shares_are_those_counted_by_hand():
    samples = np.array([0.0, 1, 2, 3, 4, 100])[:, None]
    found = neighbourhoods(samples, LINE)
    assert found["precision"] == pytest.approx(5 / 6), "100 is nobody's neighbour"
    assert found["recall"] == 1.0, "the outlier's radius reaches over all"
    # Radii to the 5th of the real ones: 5, 4, 3, 3, 3, 3, 3, 3, 4, 5. Samples 0 to 4 lie in 4, 6, 7, 7, 8 of them.
    assert found["density"] == pytest.approx(sum(within(LINE, value) for value in samples.ravel()) / 6 / 5)
    assert found["coverage"] == pytest.approx(
        np.mean([min(abs(samples - x)) <= r for x, r in zip(LINE, WIDE, strict=True)])
    )


WIDE = np.array([5, 4, 3, 3, 3, 3, 3, 3, 4, 5.0])


def within(real, value):
    return int((np.abs(real.ravel() - value) <= WIDE).sum())


def test_real_against_real_is_precise_and_covers():
    one, other = np.random.default_rng(0).standard_normal((2, 120, 3))
    found = neighbourhoods(one, other)
    assert min(found["precision"], found["recall"], found["coverage"]) > 0.75
    assert found["density"] == pytest.approx(1, abs=0.2)


def test_collapsed_samples_are_precise_and_cover_nothing():
    real = np.random.default_rng(0).standard_normal((120, 3))
    collapsed = real[:1] + np.random.default_rng(1).normal(0, 1e-3, (120, 3))
    found = neighbourhoods(collapsed, real)
    assert found["precision"] == 1.0
    assert max(found["recall"], found["coverage"]) < 0.2


def test_scattered_samples_cover_and_are_not_precise():
    real, noise = np.random.default_rng(0).standard_normal((2, 120, 3))
    found = neighbourhoods(10 * noise, real)
    assert found["precision"] < 0.2
    assert found["density"] < 0.2


def test_too_few_samples_have_no_neighbourhoods():
    with pytest.raises(DataError, match="more than 5 samples"):
        neighbourhoods(np.zeros((5, 2)), np.zeros((9, 2)))


VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


def normal(number, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((number, *shape))


@given(one=VALUES, other=VALUES)
@settings(max_examples=60, deadline=None)
def test_of_single_numbers_it_is_the_wasserstein_distance(one, other):
    found = sliced_wasserstein(np.array(one)[:, None], np.array(other)[:, None], projections=3, seed=1)
    assert found == pytest.approx(wasserstein_distance(one, other), abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 4, 4, 2)], ids=["2d", "3d"])
class TestOfPatches:
    def test_a_set_is_at_no_distance_from_itself_in_another_order(self, shape):
        samples = normal(7, *shape)
        assert sliced_wasserstein(samples, samples[::-1].copy(), projections=5, seed=0) == pytest.approx(0, abs=1e-12)

    def test_every_sample_twice_is_the_same_distribution(self, shape):
        samples = normal(5, *shape)
        assert sliced_wasserstein(samples, np.repeat(samples, 2, axis=0), projections=5, seed=0) < 1e-12

    def test_a_shift_costs_its_mean_length_along_a_direction(self, shape):
        samples, shift = normal(6, *shape), normal(1, *shape, seed=1)[0]
        directions = np.random.default_rng(3).standard_normal((shift.size, 40))
        expected = np.abs(shift.ravel() @ (directions / np.linalg.norm(directions, axis=0))).mean()
        assert sliced_wasserstein(samples, samples + shift, projections=40, seed=3) == pytest.approx(expected)

    def test_collapsed_samples_are_far_from_varied_ones(self, shape):
        one, other = normal(60, *shape), normal(60, *shape, seed=1)
        collapsed = np.repeat(other[:1], 60, axis=0)
        distance = {"seed": 0, "projections": 32}
        assert sliced_wasserstein(one, collapsed, **distance) > 3 * sliced_wasserstein(one, other, **distance)

    def test_tensors_of_any_precision_count_as_arrays_do(self, shape):
        one, other = normal(4, *shape), normal(3, *shape, seed=1)
        expected = sliced_wasserstein(one, other, projections=4, seed=2)
        with_gradient = torch.tensor(one, dtype=torch.float32, requires_grad=True)
        assert sliced_wasserstein(with_gradient, torch.tensor(other), projections=4, seed=2) == pytest.approx(
            expected, rel=1e-5
        )


@pytest.mark.parametrize(
    ("one", "other", "complaint"),
    [
        (np.zeros((0, 2)), np.zeros((1, 2)), "no samples"),
        (np.zeros((2, 4)), np.zeros((2, 2, 2)), "do not compare"),
        (np.full((2, 2), np.nan), np.zeros((2, 2)), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(one, other, complaint):
    with pytest.raises(DataError, match=complaint):
        sliced_wasserstein(one, other, projections=1, seed=0)
