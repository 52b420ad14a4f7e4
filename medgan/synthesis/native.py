"""A synthetic case on its recipient's own voxel grid: what did not change is the recipient's file to the bit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.grid import Grid, Volume, made_up_grid
from medgan.data.volumes import stored_type
from medgan.inference.translate import on_grid
from medgan.segmentation.labelled import Labelled, Labels


def native_image(volume: Volume, recipient: Labelled, case: Labelled) -> NDArray[Any]:
    """The recipient's stored intensities plus the change, in its file's type.

    Args:
        volume: The recipient as it is read, (X, Y, Z).
        recipient: The same on the networks' grid.
        case: What was made of it, on that grid.

    Returns:
        (X, Y, Z); whole numbers are rounded and kept within their type.
    """
    change = case.image.voxels - recipient.image.voxels
    result = volume.voxels.copy()
    for slab, found in on_grid(change, case.image.affine, volume.grid):
        result[..., slab] = np.where(found == 0, result[..., slab], result[..., slab] + found)
    return as_stored(result, stored_type(volume.path))


def native_labels(mask: Volume, recipient: Labelled, case: Labelled, labels: Labels) -> NDArray[Any]:
    """The recipient's label map with what changed, in its file's type; a name is stored as the first of its values.

    Args:
        mask: The recipient's label map as it is read, (X, Y, Z); values that have no name stay.
        recipient: On the networks' grid.
        case: What was made of it, on that grid.
        labels: The values of each name.
    """
    changed = _nearest((case.labels != recipient.labels).astype(np.uint8), case.image.affine, mask.grid) > 0
    new = _values(_nearest(case.labels, case.image.affine, mask.grid), labels)
    known = np.isin(mask.voxels, [0, *(value for values in labels.values() for value in values)])
    return np.where(changed & ((new > 0) | known), new, mask.voxels).astype(stored_type(mask.path))


def whole_case(case: Labelled, labels: Labels, stored: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any], Grid]:
    """A case that is no part of a recipient's image: voxels, label map and the grid that they lie on."""
    shape = case.labels.shape
    grid = made_up_grid((shape[0], shape[1], shape[2]), case.image.affine)
    return as_stored(case.image.voxels, stored), _values(case.labels, labels).astype(np.uint8), grid


def as_stored(voxels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Intensities in a file's type."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(voxels), limits.min, limits.max).astype(dtype)
    return voxels.astype(dtype)


def _values(labels: NDArray[np.uint8], names: Labels) -> NDArray[np.int64]:
    """Labels, n for the n-th name, as the values that masks have."""
    return np.array([0, *(values[0] for values in names.values())])[labels]


def _nearest(labels: NDArray[np.uint8], affine: NDArray[np.float64], grid: Grid) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) on a grid of their own as the nearest voxels of another have them; beyond it 0."""
    index = np.linalg.inv(affine) @ grid.affine
    # A voxel of a file may lie up to half a voxel outside the networks' grid: its neighbour's label is its own.
    framed = np.pad(labels, 1, mode="edge")
    return np.asarray(
        ndimage.affine_transform(framed, index[:3, :3], index[:3, 3] + 1, output_shape=grid.size, order=0)
    )
