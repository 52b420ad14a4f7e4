"""Fréchet distance between two sets of features."""

import numpy as np
from numpy.typing import NDArray

from medgan.errors import DataError

Features = NDArray[np.float64]
"""(N, D): the features of one sample in each row."""


def frechet_distance(one: Features, other: Features) -> float:
    """Squared Fréchet distance of two normal distributions with the means and covariances of the samples.

    With few samples it is too large, the more so the more features there are: compare only values from equally many
    samples, beside that of real ones.

    Args:
        one: (N, D).
        other: (M, D).

    Returns:
        In squared units of the features; 0 for equal sets, and never below.

    Raises:
        DataError: Fewer than two samples on a side.

    Source: Heusel et al. 2017, arXiv:1706.08500, Eq. 6, after Dowson and Landau 1982.
    """
    if min(len(one), len(other)) < 2:
        raise DataError("a covariance needs two samples on each side; give more.")
    apart = one.mean(axis=0) - other.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other))
    # The trace of (a b)^(1/2) is that of the symmetric (a^(1/2) b a^(1/2))^(1/2), whose eigenvalues are real.
    half = _root(a)
    common = np.sqrt(np.clip(np.linalg.eigvalsh(half @ b @ half), 0, None)).sum()
    return max(float(apart @ apart + np.trace(a) + np.trace(b) - 2 * common), 0.0)


def _root(symmetric: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(symmetric)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)
