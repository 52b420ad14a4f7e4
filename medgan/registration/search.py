# mypy: untyped-calls-exclude="SimpleITK,nibabel"
"""One of two scans, ready to register: its intensities as SimpleITK's image, and where the metric looks in it."""

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scipy import ndimage

from medgan.config import Config
from medgan.data.domains import Domain, Window
from medgan.data.grid import LPS_TO_RAS, Volume
from medgan.data.masks import components
from medgan.errors import DataError

LEAST_BINS = 8
CONTRASTS = {"CT": Window(lower=-250.0, upper=600.0), "MR": Window(lower=0.0, upper=99.5, percentiles=True)}
"""What the histogram of the metric spans: beyond, a few bright voxels would leave the tissues in one bin."""
LEAST_VOXELS = 4
"""Along each axis, in a level and in a scan."""
LEAST_MM = 4.0
"""Along each axis of a scan; thinner ones would be nearly all repeated edge, whose voxels would be too many."""
LEAST_INSIDE = 0.2
"""Share of the body that must lie deep enough for the metric to look there alone: a finger is all surface."""
BONE_HU = 250.0
"""What a contrast agent brightens beyond it (aorta, bowel) is taken for bone, too."""
BONE_SMOOTHING_VOXELS = 0.7
"""A low-dose CT has single voxels of noise above :data:`BONE_HU`."""
LEAST_BONE_ML = 2.0
"""Of one bone; what is smaller may be a calcification, a clip or contrast agent."""
LEAST_LOOKED_AT = 20_000
"""Voxels of a level at which the metric looks, where there are so many: fewer would leave the histogram empty."""
SAMPLES_A_CELL = 4
"""Of the joint histogram, at least: estimated from fewer, mutual information is too high, the more so the fewer."""
ALIKE_VOXELS = 0.25
"""Of a level: two climbs that end nearer to each other, on the mean over the scan's corners, are the same; at the
coarsest level a whole voxel."""
COARSE_LEVELS = 2
"""They look at the skin, too, and continue the moving scan beyond its borders."""
BENDING_LEVELS_MM = (4.0, 2.0)
"""Registration of two scans of one subject by mutual information: rigid, coarse to fine, from several starts.

Each scan becomes a side: its intensities as SimpleITK's image, and where the metric looks in it. Transforms are
SimpleITK's: they take a point of the fixed scan, in LPS+ mm, to where the moving scan shows it. On request a smooth
deformation follows what a rigid transform leaves.
"""
BENDING_ITERATIONS = 50
LEAST_CELLS = 2


class RegistrationConfig(Config):
    """How a moving scan is brought onto a fixed one by a rigid transform."""

    seed: NonNegativeInt = 0
    """Of the voxels that the metric looks at; equal seeds give equal transforms."""
    level_spacings_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (8.0, 4.0, 2.0, 1.0)
    """Voxel size at each of the four resolution levels; a scan that is coarser is taken as it is."""
    samples: PositiveInt = 50_000
    """Voxels that the metric looks at, drawn at random at each level. Along a limb mutual information is nearly flat,
    and with few of them its maximum moves with the draw."""
    bins: int = Field(default=40, ge=LEAST_BINS)
    """Of the joint histogram, along each axis; fewer at levels with few voxels."""
    iterations: PositiveInt = 300
    """At most, at each level."""
    start_rotation_degrees: NonNegativeFloat = 12.0
    """The coarsest level also starts turned by this much to either side about each axis; 0 starts only unturned."""
    kept_starts: PositiveInt = 4
    """How many different ends of the coarsest level, of each direction, go on to the second; half as many, of both
    together, go on to each finer one."""
    margin_mm: NonNegativeFloat = 12.0
    """Air around the body of the scan that is held fixed that the metric looks at."""
    inside_mm: NonNegativeFloat = 8.0
    """How deep below the surface of the body that is held fixed the metric looks at the fine levels: flesh is pressed
    differently on each table, and the skin would draw a rigid transform off the bones. 0 looks near the body at all
    levels."""
    bone_mm: NonNegativeFloat = 10.0
    """How far around the bones of a CT the metric looks closest, from the second level on: bones are rigid, flesh is
    not. 0 gives bones no weight of their own."""
    bone_share: float = Field(default=0.8, gt=0, le=1)
    """Of the voxels that the metric looks at, how many lie around bones. The rest holds where bones say nothing, as
    along a shaft, and has more of them where bones are few."""
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
    bone: sitk.Image | None
    """What lies around bones, within ``near``, uint8; None in MR, and in a CT without bone to speak of."""


def side(volume: Volume, body: NDArray[np.bool_], domain: Domain, config: RegistrationConfig) -> Side:
    """A scan as registration wants it; ``body`` (X, Y, Z) is its :func:`medgan.data.masks.body_mask`.

    Raises:
        DataError: Too few voxels or millimetres along an axis, or no body in it.
    """
    extent_mm = np.array(volume.grid.spacing_mm) * volume.grid.size
    if min(volume.grid.size) < LEAST_VOXELS or min(extent_mm) < LEAST_MM:
        field = " × ".join(f"{length:g}" for length in extent_mm)
        raise DataError(
            f"{volume.path} {volume.grid.size}: {field} mm, too thin to register; give a volume, not slices."
        )
    if not body.any():
        raise DataError(f"{volume.path}: no body is found in it, so there is nothing to register; look at the image.")
    lower, upper = CONTRASTS[domain.modality].bounds(volume.voxels)
    clipped = np.clip(volume.voxels, lower, upper)
    if domain.modality == "CT":  # the table does not move with the patient
        clipped[~body] = lower
    affine = volume.grid.affine
    distance_mm = _distance_mm(body, affine)
    near = distance_mm <= config.margin_mm
    inside = distance_mm <= -config.inside_mm if config.inside_mm else near
    deep = np.count_nonzero(sitk.GetArrayViewFromImage(inside)) >= LEAST_INSIDE * np.count_nonzero(body)
    bone = _bone(volume, body) if domain.modality == "CT" and config.bone_mm else np.zeros_like(body)
    around = near * (_distance_mm(bone, affine) <= config.bone_mm) if bone.any() else None
    return Side(to_itk(clipped, affine), to_itk(body, affine), near, inside if deep else near, around)


def own_frame(image: sitk.Image) -> NDArray[np.float64]:
    """(4, 4), from LPS+ mm to a scan's own axes, in mm from its middle; a rotation and a translation."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # a mirrored scan's frame is not mirrored
    middle = image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])
    frame = np.eye(4)
    frame[:3, :3] = axes.T
    frame[:3, 3] = -axes.T @ middle
    return frame


def in_frame(ready: Side, frame: NDArray[np.float64]) -> Side:
    """The same scan, and its masks, with the places of their voxels taken through a rigid matrix (4, 4)."""

    def placed(image: sitk.Image) -> sitk.Image:
        moved = sitk.Image(image)
        moved.SetOrigin((frame @ [*image.GetOrigin(), 1.0])[:3].tolist())
        moved.SetDirection((frame[:3, :3] @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
        return moved

    images: dict[str, Any] = {name: None if image is None else placed(image) for name, image in vars(ready).items()}
    return Side(**images)


def look(fixed: Side, level: sitk.Image, rest: sitk.Image, config: RegistrationConfig) -> sitk.Image:
    """Where the metric looks at a level, uint8 on its grid: around bones, and at some of the ``rest``.

    The rest is thinned at random until bones have their share, or until :data:`LEAST_LOOKED_AT` voxels are left;
    without bones it is taken as it is.
    """
    if fixed.bone is None:
        return rest
    bone = on(level, fixed.bone)
    others = on(level, rest) & ~bone
    near_bones = int(bone.sum())
    wanted = max(near_bones * (1 / config.bone_share - 1), LEAST_LOOKED_AT - near_bones)
    drawn = np.random.default_rng(config.seed).random(others.shape)
    looked_at = bone | (others & (drawn < wanted / max(int(others.sum()), 1)))
    mask = sitk.GetImageFromArray(np.ascontiguousarray(looked_at.T.astype(np.uint8)))
    mask.CopyInformation(level)
    return mask


def on(image: sitk.Image, mask: sitk.Image, transform: sitk.Transform | None = None) -> NDArray[np.bool_]:
    """A mask on the grid of an image, (X, Y, Z); the transform takes points from there to the mask, else none moves."""
    there = sitk.Transform(3, sitk.sitkIdentity) if transform is None else transform
    return np.asarray(voxels_of(sitk.Resample(mask, image, there, sitk.sitkNearestNeighbor)) > 0)


def _bone(volume: Volume, body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bones of a CT (X, Y, Z) that are large enough to be some."""
    dense = (ndimage.gaussian_filter(volume.voxels, BONE_SMOOTHING_VOXELS) > BONE_HU) & body
    parts, _ = components(dense)
    sizes_ml = np.bincount(parts.ravel()) * np.prod(volume.grid.spacing_mm) / 1000
    sizes_ml[0] = 0
    return np.asarray((sizes_ml >= LEAST_BONE_ML)[parts])


def _distance_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> sitk.Image:
    """Of each voxel from the mask's surface, negative inside."""
    image: sitk.Image = sitk.SignedMaurerDistanceMap(to_itk(mask, affine), squaredDistance=False, useImageSpacing=True)
    return image


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
    """SimpleITK's image of voxels (X, Y, Z), of which booleans become uint8; the affine to RAS+ mm has no shear."""
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
    transforms = _ends(fixed, moving, 0, _starts(fixed, moving, config), config)
    transforms += map(_inverse, _ends(moving, fixed, 0, _starts(moving, fixed, config), config))
    for number in range(1, len(config.level_spacings_mm)):
        transforms = _ends(fixed, moving, number, transforms, config)
    if not transforms:
        raise DataError("the scans share no tissue wherever the search starts; look at both images.")
    back = np.linalg.inv(frame)
    return _about((back @ [*transforms[0].GetCenter(), 1.0])[:3], back @ matrix_lps(transforms[0]) @ frame)


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
    ends: list[sitk.Euler3DTransform] = []
    taken: list[NDArray[np.float64]] = []
    for score, transform in sorted((_climb(level, start, config) for start in starts), key=lambda end: end[0]):
        places = np.array([transform.TransformPoint(corner) for corner in corners])
        alike = any(np.linalg.norm(places - other, axis=1).mean() <= apart_mm for other in taken)
        if math.isfinite(score) and not alike and len(ends) < most:
            ends.append(transform)
            taken.append(places)
    return ends


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
