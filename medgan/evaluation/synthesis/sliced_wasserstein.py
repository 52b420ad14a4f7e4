"""Sliced Wasserstein distance between two sets of samples."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medgan.errors import DataError

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
