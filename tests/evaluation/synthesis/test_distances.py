"""Features of patches, and distances of sets of samples against closed forms, scipy and figures counted by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import wasserstein_distance

from medgan.errors import DataError
from medgan.evaluation.synthesis.distances import (
    Encoder,
    _Autoencoder,
    _joint,
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    sliced_wasserstein,
)
from medgan.evaluation.synthesis.patches import Patches, collapsed


def normal(number, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((number, *shape))


def test_the_kernel_distance_is_what_the_sum_over_pairs_gives_by_hand():
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


def with_moments(number, mean, covariance, seed=0):
    """Samples whose mean and covariance are exactly these."""
    raw = normal(number, len(mean), seed=seed)
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw, rowvar=False)))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_of_normal_distributions_the_frechet_distance_is_the_closed_form():
    random = np.random.default_rng(1)
    means = random.standard_normal((2, 4))
    a, b = (m @ m.T + np.eye(4) for m in random.standard_normal((2, 4, 4)))
    found = frechet_distance(with_moments(40, means[0], a), with_moments(30, means[1], b, seed=2))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert found == pytest.approx(expected)
    one, other = with_moments(20, [1.0], [[4.0]]), with_moments(25, [3.0], [[9.0]], seed=1)
    assert frechet_distance(one, other) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)
    fewer_than_features = normal(12, 20)
    assert frechet_distance(fewer_than_features, fewer_than_features[::-1]) == pytest.approx(0, abs=1e-6)


LINE = np.arange(10.0)[:, None]
WIDE = np.array([5, 4, 3, 3, 3, 3, 3, 3, 4, 5.0])
"""Distances to the 5th neighbour."""


def test_on_a_line_the_shares_are_those_counted_by_hand():
    samples = np.array([0.0, 1, 2, 3, 4, 100])[:, None]
    found = neighbourhoods(samples, LINE)
    assert found["precision"] == pytest.approx(5 / 6), "100 is nobody's neighbour"
    assert found["recall"] == 1.0, "the outlier's radius reaches over all"
    within = np.abs(LINE - samples.T) <= WIDE[:, None]
    assert within.sum(axis=0).tolist() == [4, 5, 6, 7, 10, 0]
    assert found["density"] == pytest.approx(within.sum() / 6 / 5)
    assert found["coverage"] == pytest.approx(within.any(axis=1).mean())


VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


@given(one=VALUES, other=VALUES)
@settings(max_examples=60, deadline=None)
def test_of_single_numbers_it_is_the_wasserstein_distance(one, other):
    found = sliced_wasserstein(np.array(one)[:, None], np.array(other)[:, None], projections=3, seed=1)
    assert found == pytest.approx(wasserstein_distance(one, other), abs=1e-9)


def sliced(one, other, projections=5, seed=0):
    return sliced_wasserstein(one, other, projections=projections, seed=seed)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 4, 4, 2)], ids=["2d", "3d"])
class TestOfPatches:
    def test_a_set_is_at_no_distance_from_itself_in_another_order_or_twice(self, shape):
        samples = normal(7, *shape)
        assert sliced(samples, samples[::-1].copy()) == pytest.approx(0, abs=1e-12)
        assert sliced(samples, np.repeat(samples, 2, axis=0)) == pytest.approx(0, abs=1e-12)

    def test_a_shift_costs_its_mean_length_along_a_direction(self, shape):
        samples, shift = normal(6, *shape), normal(1, *shape, seed=1)[0]
        directions = np.random.default_rng(3).standard_normal((shift.size, 40))
        expected = np.abs(shift.ravel() @ (directions / np.linalg.norm(directions, axis=0))).mean()
        assert sliced(samples, samples + shift, projections=40, seed=3) == pytest.approx(expected)

    def test_tensors_of_any_precision_count_as_arrays_do(self, shape):
        one, other = normal(4, *shape), normal(3, *shape, seed=1)
        with_gradient = torch.tensor(one, dtype=torch.float32, requires_grad=True)
        assert sliced(with_gradient, torch.tensor(other)) == pytest.approx(sliced(one, other), rel=1e-5)


@pytest.mark.parametrize(
    ("distance", "one", "other", "complaint"),
    [
        (sliced, np.zeros((0, 2)), np.zeros((1, 2)), "no samples"),
        (sliced, np.zeros((2, 4)), np.zeros((2, 2, 2)), "do not compare"),
        (sliced, np.full((2, 2), np.nan), np.zeros((2, 2)), "not finite"),
        (kernel_distance, np.zeros((1, 3)), np.zeros((5, 3)), "two samples"),
        (frechet_distance, np.zeros((1, 3)), np.zeros((5, 3)), "two samples"),
        (neighbourhoods, np.zeros((5, 2)), np.zeros((9, 2)), "more than 5 samples"),
    ],
)
def test_what_cannot_be_compared_is_refused(distance, one, other, complaint):
    with pytest.raises(DataError, match=complaint):
        distance(one, other)


@pytest.fixture(scope="module")
def trained(shape, make_lesions):
    real = make_lesions(40, shape)
    return real, Encoder.train(real, 1, seed=0)


def test_features_are_in_deviations_of_the_real_ones_and_what_it_saw_is_in_its_name(trained):
    real, encoder = trained
    found = encoder.features(real)
    assert found.shape == (40, 20)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    assert (found.std(axis=0) < 1 + 1e-6).all()
    assert encoder.name == "autoencoder-20 trained on 40 real patches, seed 0"


def test_it_has_learnt_more_than_the_mean_patch(trained, shape, make_lesions):
    _, encoder = trained
    with torch.no_grad():
        unseen = _joint(make_lesions(30, shape, seed=5), 1)
        constant = (unseen - unseen.mean(dim=0)).pow(2).mean()
        assert encoder.network.loss(unseen) < 0.8 * constant


def test_equal_seeds_give_equal_features_and_leave_the_random_state_alone(trained):
    real, encoder = trained
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    again = Encoder.train(real, 1, seed=0)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(again.features(real), encoder.features(real))


def test_broken_patches_are_further_from_the_real_ones_than_other_real_ones_are(trained, shape, make_lesions):
    real, encoder = trained
    others = make_lesions(40, shape, seed=1)
    wrong_labels = Patches(others.images, np.ones_like(others.labels), others.origins)
    reference = encoder.features(real)
    floor = frechet_distance(encoder.features(others), reference)
    for broken in (collapsed(others, 0), wrong_labels):
        assert frechet_distance(encoder.features(broken), reference) > 1.5 * floor


def test_label_maps_are_channels_of_their_own():
    labels = np.array([[[0, 1], [2, 1]]], dtype=np.uint8)
    found = _joint(Patches(np.zeros((1, 2, 2), np.float32), labels, ()), 2)
    assert found.tolist() == [[[[0, 0], [0, 0]], [[-1, 1], [-1, 1]], [[-1, -1], [1, -1]]]]


@pytest.mark.parametrize("size", [(17, 18), (17, 18, 19)], ids=["2d", "3d"])
def test_it_takes_patches_of_any_size(size):
    assert _Autoencoder(2, size)(torch.zeros(1, 2, *size)).shape == (1, 2, *((side + 1) // 2 for side in size))
