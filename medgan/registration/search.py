# mypy: untyped-calls-exclude="SimpleITK"
"""Registration of two scans of one subject by mutual information: rigid, coarse to fine, from several starts.

Transforms are SimpleITK's: they take a point of the fixed scan, in LPS+ mm, to where the moving scan shows it. On
request a smooth deformation follows what a rigid transform leaves.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from medgan.errors import DataError
from medgan.registration.side import (
    LEAST_BINS,
    LEAST_VOXELS,
    RegistrationConfig,
    Side,
    in_frame,
    look,
    matrix_lps,
    on,
    one_thread,
    own_frame,
)

SAMPLES_A_CELL = 4
"""Of the joint histogram, at least: estimated from fewer, mutual information is too high, the more so the fewer."""
ALIKE_VOXELS = 0.25
"""Of a level: two climbs that end nearer to each other, on the mean over the scan's corners, are the same; at the
coarsest level a whole voxel."""
COARSE_LEVELS = 2
"""They look at the skin, too, and continue the moving scan beyond its borders."""
BENDING_LEVELS_MM = (4.0, 2.0)
"""Voxel sizes of the two levels that bend: finer ones follow noise."""
BENDING_ITERATIONS = 50
LEAST_CELLS = 2


@one_thread()
def register(fixed: Side, moving: Side, config: RegistrationConfig) -> sitk.Euler3DTransform:
    """The rigid transform from the fixed to the moving scan that maximises Mattes' mutual information.

    The coarsest level is climbed from several starts (as the headers say, bodies' moments matched, and both turned a
    little), since from one start alone a turn of 15 degrees often ends in a local maximum; and in both directions,
    since in a small scan one of them may slide out of it. The other levels look at the bones of a CT first, whichever
    of the two it is: the one with bones is held fixed, and the result is turned around.

    Raises:
        DataError: The scans do not overlap, wherever the search starts.

    Source: Mattes et al. 2003, doi 10.1109/TMI.2003.809072; four levels as in SynthRAD2023, Thummerer et al. 2023,
    doi 10.1002/mp.16529.
    """
    if fixed.bone is None and moving.bone is not None:
        return _inverse(_search(moving, fixed, config))
    return _search(fixed, moving, config)


@one_thread()
def deformed(
    fixed: Side, moving: Side, rigid: sitk.Transform, knots_mm: float, config: RegistrationConfig
) -> sitk.CompositeTransform:
    """The rigid transform followed from a B-spline deformation that raises the mutual information further.

    The metric looks near the whole body: flesh is what bends; what is much smaller than ``knots_mm``, the distance of
    the control points, does not.

    Source: Rueckert et al. 1999, doi 10.1109/42.796284, with Mattes' metric and L-BFGS-B.
    """
    extents_mm = [size * spacing for size, spacing in zip(fixed.image.GetSize(), fixed.image.GetSpacing(), strict=True)]
    cells = [max(LEAST_CELLS, math.ceil(extent / knots_mm)) for extent in extents_mm]
    bending = sitk.BSplineTransformInitializer(fixed.image, cells)
    for spacing_mm in BENDING_LEVELS_MM:
        level = shrunk(fixed.image, spacing_mm)
        method = _metric(level, fixed.near, config)
        method.SetMovingInitialTransform(rigid)
        method.SetInitialTransform(bending, inPlace=True)
        method.SetOptimizerAsLBFGSB(numberOfIterations=BENDING_ITERATIONS)
        try:
            method.Execute(level, _with_edges(shrunk(moving.image, spacing_mm), config.edge_mm))
        except RuntimeError as error:
            raise DataError(f"the B-spline refinement failed ({str(error).splitlines()[-1]}); leave it out.") from None
    return sitk.CompositeTransform([sitk.Transform(rigid), bending])


def centred(fixed: Side, moving: Side) -> sitk.Euler3DTransform:
    """The translation that matches the bodies' centres of mass, or the centres of the volumes where that fails."""
    kinds = sitk.CenteredTransformInitializerFilter
    try:
        start = sitk.CenteredTransformInitializer(fixed.body, moving.body, sitk.Euler3DTransform(), kinds.MOMENTS)
    except RuntimeError:
        start = sitk.CenteredTransformInitializer(fixed.body, moving.body, sitk.Euler3DTransform(), kinds.GEOMETRY)
    return sitk.Euler3DTransform(start)


def _inverse(rigid: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """The way back, which turns about the point that the centre of the way there went to.

    The centre changes no point's place, but the search: about a distant one, turning and shifting are hard to tell
    apart, and it stops half-way.
    """
    centre = np.array(rigid.TransformPoint(rigid.GetCenter()))
    return _about(centre, np.asarray(np.linalg.inv(matrix_lps(rigid)), dtype=float))


def _about(centre: NDArray[np.float64], matrix: NDArray[np.float64]) -> sitk.Euler3DTransform:
    """The rigid transform of a matrix (4, 4), written about a centre (3,); both in LPS+ mm."""
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(centre.tolist())
    rigid.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    rigid.SetTranslation((matrix[:3, :3] @ centre + matrix[:3, 3] - centre).tolist())
    return rigid


def _search(fixed: Side, moving: Side, config: RegistrationConfig) -> sitk.Euler3DTransform:
    """The search from the coarsest level to the finest, with the fixed scan's axes as the axes of the world.

    Along other axes a search takes another way, and where mutual information is flat it ends elsewhere: the result
    would depend on how the patient lay in the scanner.
    """
    frame = own_frame(fixed.image)
    fixed, moving = in_frame(fixed, frame), in_frame(moving, frame)
    kept = _ends(fixed, moving, 0, _starts(fixed, moving, config), config)
    kept += map(_inverse, _ends(moving, fixed, 0, _starts(moving, fixed, config), config))
    for number in range(1, len(config.level_spacings_mm)):
        kept = _ends(fixed, moving, number, kept, config)
    if not kept:
        raise DataError("the scans share no tissue wherever the search starts; look at both images.")
    back = np.linalg.inv(frame)
    return _about((back @ [*kept[0].GetCenter(), 1.0])[:3], back @ matrix_lps(kept[0]) @ frame)


def _starts(fixed: Side, moving: Side, config: RegistrationConfig) -> Iterator[sitk.Euler3DTransform]:
    """Bodies centred and as the headers say, each also turned about every axis to either side."""
    by_moments = centred(fixed, moving)
    by_headers = sitk.Euler3DTransform(by_moments)
    by_headers.SetTranslation((0.0, 0.0, 0.0))
    turn = math.radians(config.start_rotation_degrees)
    turns = [np.zeros(3)]
    if turn:
        turns += [sign * turn * axis for axis in np.eye(3) for sign in (1, -1)]
    for start, angles in itertools.product((by_moments, by_headers), turns):
        turned = sitk.Euler3DTransform(start)
        turned.SetRotation(*angles.tolist())
        yield turned


def _ends(
    fixed: Side, moving: Side, number: int, starts: Iterable[sitk.Euler3DTransform], config: RegistrationConfig
) -> list[sitk.Euler3DTransform]:
    """Where climbs of a level end from all starts: the best that differ, best first."""
    level = _at_level(fixed, moving, number, config)
    apart_mm, most = level.spacing_mm, config.kept_starts
    if number:
        apart_mm, most = ALIKE_VOXELS * apart_mm, math.ceil(most / 2)
    size = np.array(fixed.image.GetSize(), float)
    indices = [(size * corner).tolist() for corner in itertools.product((0.0, 1.0), repeat=3)]
    corners = [fixed.image.TransformContinuousIndexToPhysicalPoint(index) for index in indices]
    kept: list[sitk.Euler3DTransform] = []
    taken: list[NDArray[np.float64]] = []
    for score, transform in sorted((_climb(level, start, config) for start in starts), key=lambda end: end[0]):
        places = np.array([transform.TransformPoint(corner) for corner in corners])
        alike = any(np.linalg.norm(places - other, axis=1).mean() <= apart_mm for other in taken)
        if math.isfinite(score) and not alike and len(kept) < most:
            kept.append(transform)
            taken.append(places)
    return kept


@dataclass(frozen=True)
class _Level:
    """Both scans at one resolution."""

    fixed: sitk.Image
    moving: sitk.Image
    where: sitk.Image
    """Where the metric looks in the fixed scan."""
    spacing_mm: float


def _at_level(fixed: Side, moving: Side, number: int, config: RegistrationConfig) -> _Level:
    """The level of a number, 0 the coarsest: blurred by a Gaussian of its voxel size, along thick slices as thin ones.

    Between voxels interpolation averages noise and on them it does not: unblurred, mutual information has a ripple of
    the grid's period, in which the search is caught. Far from the goal the metric needs the skin, and edges that are
    repeated; close to it both draw it off.
    """
    spacing_mm = config.level_spacings_mm[number]
    image, target = (
        shrunk(sitk.SmoothingRecursiveGaussian(each.image, spacing_mm), spacing_mm) for each in (fixed, moving)
    )
    coarse = number < COARSE_LEVELS
    where = fixed.near if number == 0 else look(fixed, image, fixed.near if coarse else fixed.inside, config)
    return _Level(image, _with_edges(target, config.edge_mm) if coarse else target, where, spacing_mm)


def _climb(
    level: _Level, start: sitk.Euler3DTransform, config: RegistrationConfig
) -> tuple[float, sitk.Euler3DTransform]:
    """The negative mutual information and the transform after one level; infinite where the scans do not overlap."""
    transform = sitk.Euler3DTransform(start)
    method = _metric(level.fixed, level.where, config)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level.spacing_mm / 2,
        minStep=level.spacing_mm / 1000,
        numberOfIterations=config.iterations,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,  # the steps decide: across a fat limb the metric is flat, not at its maximum
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(level.fixed, level.moving)
    except RuntimeError:  # "all samples map outside moving image buffer"
        return math.inf, start
    return float(method.GetMetricValue()), transform


def _metric(level: sitk.Image, where: sitk.Image, config: RegistrationConfig) -> sitk.ImageRegistrationMethod:
    """Mattes' mutual information at seeded random places of ``level`` in a mask, ready for an optimizer.

    ITK draws voxels with replacement and a place within each: also where a mask has fewer voxels than there are samples
    this is smoother than all voxels' centres.
    """
    method = sitk.ImageRegistrationMethod()
    within = max(1, int(on(level, where).sum()))
    samples = min(config.samples, within)
    bins = min(config.bins, math.isqrt(samples // SAMPLES_A_CELL))
    method.SetMetricAsMattesMutualInformation(max(LEAST_BINS, bins))
    method.SetMetricSamplingStrategy(method.RANDOM)
    # The share is of all voxels, in the mask or not; the seed 0 would be the clock's.
    method.SetMetricSamplingPercentage(samples / within, config.seed + 1)
    method.SetMetricFixedMask(where)
    method.SetInterpolator(sitk.sitkLinear)
    # By default ITK takes the gradient of an image that it blurs once more, which is not that of the metric: along it
    # mutual information fell from step to step on real limbs, until one had left the scan.
    method.MetricUseMovingImageGradientFilterOff()
    method.MetricUseFixedImageGradientFilterOff()
    return method


def shrunk(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Voxels averaged up to a spacing; no axis gets shorter than ``LEAST_VOXELS``."""
    factors = [
        max(1, min(round(spacing_mm / own), size // LEAST_VOXELS))
        for own, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    smaller: sitk.Image = sitk.BinShrink(image, factors)
    return smaller


def _with_edges(image: sitk.Image, edge_mm: float) -> sitk.Image:
    """The image with its outermost voxels repeated outwards: tissue does not end where a scan does."""
    pads = [math.ceil(edge_mm / spacing) for spacing in image.GetSpacing()]
    larger: sitk.Image = sitk.ZeroFluxNeumannPad(image, pads, pads)
    return larger
