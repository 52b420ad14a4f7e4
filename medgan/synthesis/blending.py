"""How what is inserted meets what is there: feathered mixing and Poisson image editing."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.linalg import cg

from medgan.errors import InsertionError

Array = NDArray[np.float32]

TOLERANCE = 1e-7
"""Relative residual at which the Poisson equation counts as solved; float32 has no more digits."""


def feather(region: NDArray[np.bool_], width_mm: float, spacing_mm: NDArray[np.float64]) -> Array:
    """The share of what is inserted: 1 in the region, falling linearly to 0 at a distance from it.

    Args:
        region: (X, Y, Z) of any size; where it holds nothing, nothing is inserted.
        width_mm: Where the share reaches 0; 0 is a hard edge.
        spacing_mm: (3,). Along an axis whose voxels are larger than the width nothing is mixed.
    """
    if not region.any() or width_mm == 0:
        return region.astype(np.float32)
    distance = ndimage.distance_transform_edt(~region, sampling=spacing_mm)
    return np.asarray(np.clip(1 - distance / width_mm, 0, 1), dtype=np.float32)


def feathered(before: Array, inserted: Array, share: Array) -> Array:
    """Both mixed by the share of what is inserted; where that is 0, ``before`` to the bit. All (X, Y, Z)."""
    return np.where(share > 0, share * inserted + (1 - share) * before, before)


def soft_poisson(before: Array, inserted: Array, share: Array, spacing_mm: NDArray[np.float64]) -> Array:
    """The image whose gradients are the inserted ones in the lesion and the recipient's away from it.

    Between neighbours p and q the wanted difference is the larger of their shares times the inserted difference, plus
    the rest times the recipient's: a lesion keeps all of its contrast. The least-squares solution inside the share's
    support, with the recipient's values around it, has no step at the border: a constant that the inserted image is
    off by vanishes.

    Args:
        before: The recipient, (X, Y, Z).
        inserted: What is inserted, in the same unit.
        share: From :func:`feather`. With a hard edge this is Poisson image editing as published.
        spacing_mm: (3,); neighbours count by the inverse square of their distance.

    Returns:
        (X, Y, Z); where the share is 0, ``before`` to the bit.

    Raises:
        InsertionError: The region fills the whole image, so nothing holds its level.

    Source: Pérez et al. 2003, doi 10.1145/882262.882269, Eq. 7 with the guidance field of Eq. 11; a mask with a soft
    edge as in Huo et al. 2024, arXiv:2406.14826.
    """
    inside = share > 0
    if not inside.any():
        return before.copy()
    if inside.all():
        raise InsertionError("the region to blend fills the whole image; insert something smaller, or a larger image.")
    number = np.full(before.shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    rows, columns, weights, right = _equations(before, inserted, share, spacing_mm, number)
    matrix = coo_array((weights, (rows, columns)), shape=(right.size, right.size)).tocsr()
    found, failed = cg(matrix, right, x0=before[inside].astype(np.float64), rtol=TOLERANCE, maxiter=10 * right.size)
    if failed:
        raise InsertionError("the Poisson equation of a lesion could not be solved; blend it by feathering.")
    result = before.copy()
    result[inside] = found
    return result


def _equations(
    before: Array, inserted: Array, share: Array, spacing_mm: NDArray[np.float64], number: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, columns and values of the Laplacian's matrix, and the right side (Pérez et al. 2003, Eq. 7)."""
    count = int(number.max()) + 1
    right = np.zeros(count)
    diagonal = np.zeros(count)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    fields = [image.astype(np.float64) for image in (before, inserted, share)]
    for axis in range(before.ndim):
        weight = float(spacing_mm[axis] ** -2.0)
        low, high = (_shifted(axis, side) for side in (0, 1))
        for own, other in ((low, high), (high, low)):
            known, donor, soft = ([field[own], field[other]] for field in fields)
            most = np.maximum(soft[0], soft[1])
            wanted = most * (donor[0] - donor[1]) + (1 - most) * (known[0] - known[1])
            here, there = number[own], number[other]
            mine = here >= 0
            border, within = mine & (there < 0), mine & (there >= 0)
            np.add.at(right, here[mine], weight * wanted[mine])
            np.add.at(right, here[border], weight * known[1][border])
            np.add.at(diagonal, here[mine], weight)
            rows.append(here[within])
            columns.append(there[within])
            weights.append(np.full(int(within.sum()), -weight))
    every = np.arange(count)
    return (
        np.concatenate([every, *rows]),
        np.concatenate([every, *columns]),
        np.concatenate([diagonal, *weights]),
        right,
    )


def _shifted(axis: int, side: int) -> tuple[slice, ...]:
    """All but the last (0) or the first (1) along an axis."""
    parts = [slice(None)] * 3
    parts[axis] = slice(1, None) if side else slice(None, -1)
    return tuple(parts)
