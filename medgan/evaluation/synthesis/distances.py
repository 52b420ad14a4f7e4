"""Kernel distance between two sets of features."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from medgan.errors import DataError

Features = NDArray[np.float64]
"""(N, D): the features of one sample in each row."""


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


PRECISION_NEIGHBOURS = 3
"""As in Kynkäänniemi et al."""
DENSITY_NEIGHBOURS = 5
"""As in Naeem et al."""


@dataclass(frozen=True)
class Neighbourhoods:
    """How samples and real ones lie among each other; all but density are shares."""

    precision: float
    """Of the samples, those that look real: within a real one's neighbourhood."""
    recall: float
    """Of the real ones, those that could have been drawn: within a sample's neighbourhood."""
    density: float
    """Real neighbourhoods that a sample lies in, 1 where expected: precision that no outlier decides."""
    coverage: float
    """Of the real ones, those with a sample in their neighbourhood."""


def neighbourhoods(samples: Features, real: Features) -> Neighbourhoods:
    """Precision and recall with 3, density and coverage with 5 nearest neighbours.

    Args:
        samples: (N, D), what is judged.
        real: (M, D).

    Raises:
        DataError: Not more samples on a side than neighbours are asked for.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, Eqs. 1 and 2; Naeem et al. 2020, arXiv:2002.09797, Eqs. 3, 4.
    """
    if min(len(samples), len(real)) <= DENSITY_NEIGHBOURS:
        raise DataError(
            f"neighbourhoods need more than {DENSITY_NEIGHBOURS} samples on each side, and there are {len(samples)} "
            f"and {len(real)}; give more."
        )
    distances = cdist(samples, real)
    real_radii, sample_radii = (radii(each, PRECISION_NEIGHBOURS) for each in (real, samples))
    wide = radii(real, DENSITY_NEIGHBOURS)
    return Neighbourhoods(
        precision=float((distances <= real_radii).any(axis=1).mean()),
        recall=float((distances <= sample_radii[:, None]).any(axis=0).mean()),
        density=float((distances <= wide).sum(axis=1).mean() / DENSITY_NEIGHBOURS),
        coverage=float((distances.min(axis=0) <= wide).mean()),
    )


def radii(features: Features, neighbours: int) -> NDArray[np.float64]:
    """(N,), each sample's distance to its ``neighbours``-th nearest other one."""
    # Itself is the nearest, at 0.
    return np.asarray(np.partition(cdist(features, features), neighbours, axis=1)[:, neighbours])


Samples = ArrayLike | Tensor
"""(N, ...): one sample a row, whatever its shape."""


def sliced_wasserstein(one: Samples, other: Samples, *, projections: int, seed: int) -> float:
    """Mean Wasserstein-1 distance of two sets of samples, each seen along random directions.

    Args:
        one: (N, ...), a sample a row.
        other: (M, ...), of the same shape but for the number; N and M may differ.
        projections: Directions, uniform on the unit sphere; samples of one number need only 1.
        seed: Of the directions: the same ones for every call, so that values compare.

    Returns:
        In units of the samples, never negative; 0 for equal sets. Of samples of one number it is exactly the
        Wasserstein distance.

    Raises:
        DataError: A set without samples, samples of two shapes, or values that are not finite.

    Source: Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, Section 3.1, with exponent 1.
    """
    a, b = rows(one), rows(other)
    if np.shape(one)[1:] != np.shape(other)[1:]:
        raise DataError(
            f"samples of shape {np.shape(one)[1:]} and {np.shape(other)[1:]} do not compare; cut them alike."
        )
    directions = np.random.default_rng(seed).standard_normal((a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    return float(_wasserstein(a @ directions, b @ directions).mean())


def rows(samples: Samples) -> NDArray[np.float64]:
    """Samples (N, ...) as (N, D) in double precision.

    Raises:
        DataError: There are none, or they hold values that are not finite.
    """
    found = torch.as_tensor(samples).detach().to("cpu", torch.float64).numpy()
    if len(found) == 0:
        raise DataError("there are no samples to compare; give at least one on each side.")
    if not np.isfinite(found).all():
        raise DataError("samples hold values that are not finite; look for a run that diverged.")
    return found.reshape(len(found), -1)


def _wasserstein(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wasserstein-1 distance of each column of (N, P) to that of (M, P): the area between their quantile functions."""
    n, m = len(one), len(other)
    steps = np.union1d(np.arange(n) * m, np.arange(m) * n)  # where a quantile function may jump, in 1 / (n m)
    widths = np.diff(steps, append=n * m) / (n * m)
    apart = np.abs(np.sort(one, axis=0)[steps // m] - np.sort(other, axis=0)[steps // n])
    return np.asarray(widths @ apart)
