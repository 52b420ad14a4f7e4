# mypy: untyped-calls-exclude="SimpleITK,nibabel"
"""One of two scans, ready to register: its intensities as SimpleITK's image, and where the metric looks in it."""

from collections.abc import Iterator
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
