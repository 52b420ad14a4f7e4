"""Kernel distance between two sets of features."""

import numpy as np

from medgan.errors import DataError
from medgan.evaluation.synthesis.frechet import Features


def kernel_distance(one: Features, other: Features) -> float:
    """Squared maximum mean discrepancy under the kernel (x·y / D + 1)³, without bias.

    Unlike the Fréchet distance it does not grow with fewer samples, only its spread does; around 0 it may be negative.

    Args:
        one: (N, D), N at least 2.
        other: (M, D), M at least 2.

    Raises:
        DataError: Fewer than two samples on a side.

    Source: Bińkowski et al. 2018, arXiv:1801.01401, Section 4; the estimator is Eq. 3 of Gretton et al. 2012,
    JMLR 13:723-773.
    """
    if min(len(one), len(other)) < 2:
        raise DataError("a kernel distance needs two samples on each side; give more.")
    return _among(one) + _among(other) - 2 * float(_kernel(one, other).mean())


def _among(samples: Features) -> float:
    """The mean kernel of two different samples."""
    values, count = _kernel(samples, samples), len(samples)
    return float(values.sum() - np.trace(values)) / (count * (count - 1))


def _kernel(one: Features, other: Features) -> Features:
    return np.asarray((one @ other.T / one.shape[1] + 1) ** 3)
