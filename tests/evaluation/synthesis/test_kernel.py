import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.synthesis.kernel import kernel_distance


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
