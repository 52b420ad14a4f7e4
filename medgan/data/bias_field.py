# mypy: untyped-calls-exclude="SimpleITK"
"""The bias field of MR: one tissue, one intensity, wherever it lies under the coil."""

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from medgan.data.itk import one_thread, to_itk, voxels_of
from medgan.data.registration import shrunk

FIT_SPACING_MM = 4.0
"""Voxel size on which the field is fitted; it is much smoother than that."""
ITERATIONS = (50, 50, 50)


@one_thread()
def without_bias(
    voxels: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The voxels divided by their smooth multiplicative field, which is fitted inside the body.

    Args:
        voxels: (X, Y, Z), MR, arbitrary unit; what is not positive is left out of the fit.
        affine: (4, 4), voxel index → RAS+ mm.
        body: (X, Y, Z).

    Returns:
        (X, Y, Z), with the body's mean as it was.

    Source: N4, Tustison et al. 2010, doi 10.1109/TMI.2010.2046908.
    """
    inside = body & (voxels > 0)
    if not inside.any():
        return voxels
    image, mask = to_itk(voxels, affine), to_itk(inside, affine)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations(ITERATIONS)
    small = shrunk(image, FIT_SPACING_MM)
    method.Execute(small, sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor))
    field = np.exp(voxels_of(method.GetLogBiasFieldAsImage(image)))
    corrected = voxels / field
    return np.asarray(corrected * (voxels[inside].mean() / corrected[inside].mean()), dtype=np.float32)
