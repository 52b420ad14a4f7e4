# mypy: untyped-calls-exclude="SimpleITK"
"""What a rigid transform leaves: a smooth deformation by cubic B-splines, on request."""

import math

import SimpleITK as sitk  # noqa: N813

from medgan.data.itk import one_thread
from medgan.data.registration import metric, shrunk, with_edges
from medgan.data.registration_settings import RegistrationConfig
from medgan.data.registration_side import Side
from medgan.errors import DataError

LEVELS_MM = (4.0, 2.0)
"""Voxel sizes of the two levels that bend: finer ones follow noise."""
ITERATIONS = 50
LEAST_CELLS = 2


@one_thread()
def deformed(
    fixed: Side, moving: Side, rigid: sitk.Transform, knots_mm: float, config: RegistrationConfig
) -> sitk.CompositeTransform:
    """The rigid transform followed from a B-spline deformation that raises the mutual information further.

    Args:
        fixed: The scan that stays.
        moving: The scan that is brought onto it.
        rigid: From :func:`medgan.data.registration.register`.
        knots_mm: Distance of the control points: what is much smaller does not bend.
        config: The metric's settings. It looks near the whole body: flesh is what bends.

    Source: Rueckert et al. 1999, doi 10.1109/42.796284, with Mattes' metric and L-BFGS-B.
    """
    extents_mm = [size * spacing for size, spacing in zip(fixed.image.GetSize(), fixed.image.GetSpacing(), strict=True)]
    cells = [max(LEAST_CELLS, math.ceil(extent / knots_mm)) for extent in extents_mm]
    bending = sitk.BSplineTransformInitializer(fixed.image, cells)
    for spacing_mm in LEVELS_MM:
        level = shrunk(fixed.image, spacing_mm)
        method = metric(level, fixed.near, config)
        method.SetMovingInitialTransform(rigid)
        method.SetInitialTransform(bending, inPlace=True)
        method.SetOptimizerAsLBFGSB(numberOfIterations=ITERATIONS)
        try:
            method.Execute(level, with_edges(shrunk(moving.image, spacing_mm), config.edge_mm))
        except RuntimeError as error:
            raise DataError(f"the B-spline refinement failed ({str(error).splitlines()[-1]}); leave it out.") from None
    return sitk.CompositeTransform([sitk.Transform(rigid), bending])
