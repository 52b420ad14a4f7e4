# mypy: untyped-calls-exclude="SimpleITK"
"""Whether a registration can be trusted: figures before and after, and the limits that they must keep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.stats import entropy

from medgan.config import Config
from medgan.data.itk import matrix_lps, voxels_of
from medgan.data.registration import centred
from medgan.data.registration_side import Side

Status = Literal["accepted", "refused", "failed"]

BINS = 32
MOST_POINTS = 20_000
"""Body voxels whose displacement is measured."""


class Limits(Config):
    """What a registration must keep to be passed on."""

    least_dice: float = Field(default=0.0, ge=0, le=1)
    """Of the body outlines after registration, where both scans look; below it, the pair is refused."""
    least_covered: float = Field(default=0.5, ge=0, le=1)
    """Share of the fixed body that the moving scan shows; below it, the pair is refused."""
    largest_displacement_mm: PositiveFloat = 150.0
    """Of a body voxel, from where the headers or else the centred bodies put it; beyond it, the search went astray."""
    largest_rotation_degrees: PositiveFloat = 45.0
    """Beyond it, the search went astray."""
    lost_information: float = Field(default=0.02, ge=0, lt=1)
    """Share of the mutual information that may be lost: a pair that was aligned gains none, and is interpolated."""


@dataclass(frozen=True)
class Quality:
    """What registration did to a pair."""

    mutual_information_before: float
    """In nats, where the rigid registration looks (around the bones of a CT, else near the fixed body) and both scans
    show something; before, as the headers say."""
    mutual_information_after: float
    dice_before: float
    """Of the two body masks, where both scans look; 0 where they do not overlap."""
    dice_after: float
    covered: float
    """Share of the fixed body that the moving scan shows."""
    largest_displacement_mm: float
    """How far the farthest body voxel went from where the headers put it."""
    from_start_mm: float
    """The same, from the nearer of the two starts: the headers, or the bodies centred on each other."""
    rotation_degrees: float
    translation_mm: float
    """Of the centre of the fixed body."""


def measure(fixed: Side, moving: Side, rigid: sitk.Euler3DTransform, transform: sitk.Transform) -> Quality:
    """Figures of a registration; ``transform`` is ``rigid``, or contains it and a deformation."""
    still = sitk.Transform(3, sitk.sitkIdentity)
    body = voxels_of(fixed.body) > 0
    seen_before, seen = (_seen(fixed, moving, t) for t in (still, transform))
    body_before, body_after = (_moved(moving.body, fixed, t, sitk.sitkNearestNeighbor) > 0 for t in (still, transform))
    where = _looked_at(fixed, moving, (still, transform))
    before = _information(fixed, moving, still, where & seen_before)
    after = _information(fixed, moving, transform, where & seen)
    points = _points(fixed.body)
    ends = np.array([transform.TransformPoint(point) for point in points.tolist()])
    centre = np.array(centred(fixed, moving).GetTranslation())
    from_headers, from_centred = (float(np.linalg.norm(ends - points - t, axis=1).max()) for t in (0.0, centre))
    turn = matrix_lps(rigid)[:3, :3]
    middle = np.array(rigid.TransformPoint(points.mean(axis=0).tolist()))
    return Quality(
        mutual_information_before=before,
        mutual_information_after=after,
        dice_before=dice(body & seen_before, body_before & seen_before),
        dice_after=dice(body & seen, body_after & seen),
        covered=float((body & seen).sum() / body.sum()),
        largest_displacement_mm=from_headers,
        from_start_mm=min(from_headers, from_centred),
        rotation_degrees=math.degrees(math.acos(np.clip((np.trace(turn) - 1) / 2, -1, 1))),
        translation_mm=float(np.linalg.norm(middle - points.mean(axis=0))),
    )


def judge(quality: Quality, limits: Limits) -> tuple[Status, str]:
    """Whether a registration is passed on, and if not, why."""
    gained = quality.mutual_information_after - quality.mutual_information_before
    if gained < -limits.lost_information * quality.mutual_information_before:
        text = f"mutual information fell from {quality.mutual_information_before:.3f} "
        return "failed", text + f"to {quality.mutual_information_after:.3f}"
    if quality.from_start_mm > limits.largest_displacement_mm:
        return "failed", f"a displacement of {quality.from_start_mm:.0f} mm is not plausible"
    if quality.rotation_degrees > limits.largest_rotation_degrees:
        return "failed", f"a rotation of {quality.rotation_degrees:.0f} degrees is not plausible"
    if quality.covered < limits.least_covered:
        return "refused", f"the moving scan shows {quality.covered:.0%} of the fixed body"
    if quality.dice_after < limits.least_dice:
        return "refused", f"Dice of the body outlines {quality.dice_after:.3f} is below {limits.least_dice:g}"
    return "accepted", ""


def mutual_information(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Of two images' intensities (voxels,), in nats, from a joint histogram of 32 × 32 bins; 0 without voxels."""
    if one.size == 0:
        return 0.0
    joint, _, _ = np.histogram2d(one, other, bins=BINS)
    return float(entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)) - entropy(joint.ravel()))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Overlap of two masks of one shape: 1 where equal, 0 where apart or both empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0


def _looked_at(fixed: Side, moving: Side, transforms: Sequence[sitk.Transform]) -> NDArray[np.bool_]:
    """Voxels of the fixed grid where the rigid registration looks.

    Around the bones of a moving scan these are all that any transform takes there: two transforms are compared on the
    same voxels, since mutual information of a few is too high.
    """
    if fixed.bone is None and moving.bone is not None:
        placed = [_moved(moving.bone, fixed, transform, sitk.sitkNearestNeighbor) > 0 for transform in transforms]
        return np.asarray(np.any(placed, axis=0))
    return np.asarray(voxels_of(fixed.near if fixed.bone is None else fixed.bone) > 0)


def _information(fixed: Side, moving: Side, transform: sitk.Transform, where: NDArray[np.bool_]) -> float:
    """Mutual information of the fixed and the moved scan in a mask."""
    moved = _moved(moving.image, fixed, transform, sitk.sitkLinear)
    return mutual_information(voxels_of(fixed.image)[where], moved[where])


def _seen(fixed: Side, moving: Side, transform: sitk.Transform) -> NDArray[np.bool_]:
    """Voxels of the fixed grid of which the moving scan shows something, air or not."""
    everywhere = moving.body * 0 + 1
    return np.asarray(_moved(everywhere, fixed, transform, sitk.sitkNearestNeighbor) > 0)


def _moved(image: sitk.Image, fixed: Side, transform: sitk.Transform, interpolator: int) -> NDArray[Any]:
    lowest = float(sitk.GetArrayViewFromImage(image).min()) if interpolator == sitk.sitkLinear else 0.0
    return voxels_of(sitk.Resample(image, fixed.image, transform, interpolator, lowest))


def _points(mask: sitk.Image) -> NDArray[np.float64]:
    """Where voxels of a mask lie, (N, 3) in LPS+ mm, evenly thinned out."""
    indices = np.argwhere(voxels_of(mask) > 0)
    indices = indices[:: max(1, len(indices) // MOST_POINTS)]
    return np.array([mask.TransformIndexToPhysicalPoint(index) for index in indices.tolist()])
