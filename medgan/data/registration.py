# mypy: untyped-calls-exclude="SimpleITK"
"""Rigid registration of two scans of one subject by mutual information, coarse to fine, from several starts.

Transforms are SimpleITK's: they take a point of the fixed scan, in LPS+ mm, to where the moving scan shows it.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from medgan.config import Config
from medgan.data.domains import Domain, Window
from medgan.data.grid import Volume
from medgan.data.itk import one_thread, to_itk
from medgan.errors import DataError

CONTRASTS = {"CT": Window(lower=-250.0, upper=600.0), "MR": Window(lower=0.0, upper=99.5, percentiles=True)}
"""What the histogram of the metric spans: beyond, a few bright voxels would leave the tissues in one bin."""
LEAST_VOXELS = 4
"""Along each axis, in a level and in a scan."""
LEAST_BINS = 8
LEAST_INSIDE = 0.2
"""Share of the body that must lie deep enough for the metric to look there alone: a finger is all surface."""
SAMPLES_A_CELL = 4
"""Of the joint histogram, at least: estimated from fewer, mutual information is too high, the more so the fewer."""


class RegistrationConfig(Config):
    """How a moving scan is brought onto a fixed one."""

    seed: NonNegativeInt = 0
    """Of the voxels that the metric looks at; equal seeds give equal transforms."""
    level_spacings_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (8.0, 4.0, 3.0, 2.0)
    """Voxel size at each of the four resolution levels; a scan that is coarser is taken as it is. Averaging below the
    voxels' own size is what tames the noise of a low-dose CT: finer levels are no more exact."""
    samples: PositiveInt = 100_000
    """Voxels that the metric looks at, drawn at random at each level. Along a limb mutual information is nearly flat:
    with 30,000 its maximum moved by a voxel or two with the draw."""
    bins: int = Field(default=40, ge=LEAST_BINS)
    """Of the joint histogram, along each axis; fewer at levels with few voxels."""
    iterations: PositiveInt = 300
    """At most, at each level."""
    start_rotation_degrees: NonNegativeFloat = 12.0
    """The coarsest level also starts turned by this much to either side about each axis; 0 starts only unturned."""
    kept_starts: PositiveInt = 4
    """How many of the starts go on from the coarsest level to the second; half of them go on to the finest."""
    margin_mm: NonNegativeFloat = 12.0
    """Air around the fixed body that the metric looks at."""
    inside_mm: NonNegativeFloat = 8.0
    """How deep below the fixed body's surface the metric looks at the two finest levels: flesh is pressed differently
    on each table, and the skin would draw a rigid transform off the bones. 0 looks near the body at all levels."""
    edge_mm: NonNegativeFloat = 40.0
    """How far the moving scan's outermost voxels are repeated beyond it at the two coarsest levels, so that sliding out
    of it gains nothing. At the finest, what is repeated is not what is there: it drew limbs along their axis."""


@dataclass(frozen=True)
class Side:
    """One of the two scans, ready to register."""

    image: sitk.Image
    """Clipped intensities, float32; in CT without the table."""
    body: sitk.Image
    """The body mask, uint8."""
    near: sitk.Image
    """The body and a margin of air, uint8: where the metric looks at coarse levels."""
    inside: sitk.Image
    """The body without its outermost layer, uint8: where it looks at fine ones."""


def side(volume: Volume, body: NDArray[np.bool_], domain: Domain, config: RegistrationConfig) -> Side:
    """A scan as registration wants it.

    Args:
        volume: (X, Y, Z).
        body: (X, Y, Z), from :func:`medgan.data.body.body_mask`.
        domain: Its modality chooses the window of the metric.
        config: How far around and inside the body the metric looks.

    Raises:
        DataError: Too few voxels along an axis, or no body in it.
    """
    if min(volume.grid.size) < LEAST_VOXELS:
        raise DataError(f"{volume.path} {volume.grid.size}: too thin to register; give a volume, not slices.")
    if not body.any():
        raise DataError(f"{volume.path}: no body is found in it, so there is nothing to register; look at the image.")
    lower, upper = CONTRASTS[domain.modality].bounds(volume.voxels)
    clipped = np.clip(volume.voxels, lower, upper)
    if domain.modality == "CT":  # the table does not move with the patient
        clipped[~body] = lower
    mask = to_itk(body, volume.grid.affine)
    distance_mm = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
    near = distance_mm <= config.margin_mm
    inside = distance_mm <= -config.inside_mm if config.inside_mm else near
    deep = np.count_nonzero(sitk.GetArrayViewFromImage(inside)) >= LEAST_INSIDE * np.count_nonzero(body)
    return Side(to_itk(clipped, volume.grid.affine), mask, near, inside if deep else near)


@one_thread()
def register(fixed: Side, moving: Side, config: RegistrationConfig) -> sitk.Euler3DTransform:
    """The rigid transform from the fixed to the moving scan that maximises Mattes' mutual information.

    The coarsest level is climbed from several starts (as the headers say, bodies' moments matched, and both turned a
    little), since from one start alone a turn of 15 degrees often ends in a local maximum.

    Raises:
        DataError: The scans do not overlap, wherever the search starts.

    Source: Mattes et al. 2003, doi 10.1109/TMI.2003.809072; four levels as in SynthRAD2023, Thummerer et al. 2023,
    doi 10.1002/mp.16529.
    """
    coarsest, second, *finer = config.level_spacings_mm
    climbed = [_climb(fixed, moving, start, coarsest, config) for start in _starts(fixed, moving, config)]
    climbed = [_climb(fixed, moving, start, second, config) for start in _best(climbed, config.kept_starts)]
    kept = _best(climbed, math.ceil(config.kept_starts / 2))
    for spacing_mm in finer:
        climbed = [_climb(fixed, moving, start, spacing_mm, config, fine=True) for start in kept]
        kept = _best(climbed, len(kept))
    score, transform = min(climbed, key=lambda found: found[0])
    if math.isinf(score):
        raise DataError("the scans share no tissue wherever the search starts; look at both images.")
    return transform


def centred(fixed: Side, moving: Side) -> sitk.Euler3DTransform:
    """The translation that matches the bodies' centres of mass, or the centres of the volumes where that fails."""
    kinds = sitk.CenteredTransformInitializerFilter
    try:
        found = sitk.CenteredTransformInitializer(fixed.body, moving.body, sitk.Euler3DTransform(), kinds.MOMENTS)
    except RuntimeError:
        found = sitk.CenteredTransformInitializer(fixed.body, moving.body, sitk.Euler3DTransform(), kinds.GEOMETRY)
    return sitk.Euler3DTransform(found)


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


def _best(climbed: list[tuple[float, sitk.Euler3DTransform]], number: int) -> list[sitk.Euler3DTransform]:
    """The transforms with the lowest scores, at most so many."""
    return [transform for _, transform in sorted(climbed, key=lambda found: found[0])[:number]]


def _climb(
    fixed: Side,
    moving: Side,
    start: sitk.Euler3DTransform,
    spacing_mm: float,
    config: RegistrationConfig,
    *,
    fine: bool = False,
) -> tuple[float, sitk.Euler3DTransform]:
    """The negative mutual information and the transform after one level; infinite where the scans do not overlap.

    Far from the goal the metric needs the skin, and edges that are repeated; close to it both draw it off.
    """
    where, edge_mm = (fixed.inside, 0.0) if fine else (fixed.near, config.edge_mm)
    transform = sitk.Euler3DTransform(start)
    level, target = (shrunk(smoothed(side.image, spacing_mm), spacing_mm) for side in (fixed, moving))
    method = metric(level, where, config)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=spacing_mm / 2,
        minStep=spacing_mm / 1000,
        numberOfIterations=config.iterations,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,  # the steps decide: across a fat limb the metric is flat, not at its maximum
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(level, with_edges(target, edge_mm))
    except RuntimeError:  # "all samples map outside moving image buffer"
        return math.inf, start
    return float(method.GetMetricValue()), transform


def metric(level: sitk.Image, where: sitk.Image, config: RegistrationConfig) -> sitk.ImageRegistrationMethod:
    """Mattes' mutual information over seeded random voxels of ``level`` in a mask, ready for an optimizer."""
    method = sitk.ImageRegistrationMethod()
    samples = min(config.samples, level.GetNumberOfPixels())
    bins = min(config.bins, math.isqrt(samples // SAMPLES_A_CELL))
    method.SetMetricAsMattesMutualInformation(max(LEAST_BINS, bins))
    if samples < level.GetNumberOfPixels():
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(samples / level.GetNumberOfPixels(), config.seed + 1)  # 0 is the clock's
    method.SetMetricFixedMask(where)
    method.SetInterpolator(sitk.sitkLinear)
    # By default ITK takes the gradient of an image that it blurs once more, which is not that of the metric: along it
    # mutual information fell from step to step on real limbs, until one had left the scan.
    method.MetricUseMovingImageGradientFilterOff()
    method.MetricUseFixedImageGradientFilterOff()
    return method


def smoothed(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Blurred by a Gaussian of the level's voxel size, along thick slices as along thin ones.

    Between voxels interpolation averages noise and on them it does not: unblurred, mutual information has a ripple of
    the grid's period, in which the search is caught.
    """
    blurred: sitk.Image = sitk.SmoothingRecursiveGaussian(image, spacing_mm)
    return blurred


def shrunk(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Voxels averaged up to a spacing; no axis gets shorter than ``LEAST_VOXELS``."""
    factors = [
        max(1, min(round(spacing_mm / own), size // LEAST_VOXELS))
        for own, size in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    smaller: sitk.Image = sitk.BinShrink(image, factors)
    return smaller


def with_edges(image: sitk.Image, edge_mm: float) -> sitk.Image:
    """The image with its outermost voxels repeated outwards: tissue does not end where a scan does."""
    pads = [math.ceil(edge_mm / spacing) for spacing in image.GetSpacing()]
    larger: sitk.Image = sitk.ZeroFluxNeumannPad(image, pads, pads)
    return larger
