# mypy: untyped-calls-exclude="SimpleITK,nibabel"
"""Between medgan's volumes and SimpleITK's images: the same voxels at the same places, and no file in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medgan.data.grid import LPS_TO_RAS


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK on a single thread, so that sums run in one order and equal inputs give equal bits.

    The filters' own ``SetNumberOfThreads`` does not reach the metric of a registration.
    """
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def to_itk(voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> sitk.Image:
    """An image of SimpleITK on the same grid.

    Args:
        voxels: (X, Y, Z); booleans become uint8.
        affine: (4, 4), voxel index → RAS+ mm, without shear (:func:`medgan.data.volumes.read_volume` refuses it).
    """
    numbers = voxels.astype(np.uint8) if voxels.dtype == bool else voxels
    image = sitk.GetImageFromArray(np.ascontiguousarray(numbers.T))
    lps = LPS_TO_RAS @ affine
    spacing_mm = voxel_sizes(lps)
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def voxels_of(image: sitk.Image) -> NDArray[Any]:
    """The voxels (X, Y, Z) of an image of SimpleITK, as a copy."""
    return np.asarray(sitk.GetArrayFromImage(image).T)


def matrix_lps(transform: sitk.Transform) -> NDArray[np.float64]:
    """A rigid or affine transform as (4, 4) on LPS+ mm, read off from where it takes the origin and the axes."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(columns, axis=1)
    matrix[:3, 3] = origin
    return matrix
