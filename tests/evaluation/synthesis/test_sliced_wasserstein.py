import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from medgan.errors import DataError
from medgan.evaluation.synthesis.sliced_wasserstein import sliced_wasserstein

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
