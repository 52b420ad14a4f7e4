"""The slices of a DICOM series in order, and what must hold for them to be a volume on an even, upright grid.

Readers of series take any list of files: they hide missing slices, uneven spacing and a tilted gantry behind a warning
at most. So the positions are judged here, before a pixel is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import LARGEST_COSINE, SAME_VOXELS, affine_from_lps
from medgan.errors import DataError, GeometryError

EVENNESS = 0.1
"""How far along the normal a slice may lie from where an even grid has it, in slice spacings: rounding passes."""

UPRIGHTNESS = 0.05
"""How far sideways a slice may lie from where an upright grid has it, in slice spacings: a tilt of 3° is noticed."""

SAME_PLACE_MM = 1e-3
"""Slices closer than this lie at one position."""

RUN_OF_GAPS = 3
"""So many equal gaps in a row are a range of slices with a spacing of its own."""

PASSES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers")
"""Attributes that count passes over the body."""

MANY_POSITIONS = 8
"""From so many positions on, slices of which most are even are a volume, though one with holes."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One DICOM image's header: where it lies, in LPS+ mm, and what it shares with its neighbours."""

    path: Path
    size: tuple[int, int]
    """Columns and rows: X and Y."""
    spacing_mm: NDArray[np.float64]
    """(3,); the third counts for a lone slice: SpacingBetweenSlices, or 1."""
    origin_mm: NDArray[np.float64]
    """(3,), the centre of the first voxel."""
    direction: NDArray[np.float64]
    """(3, 3), columns: along a row, along a column, and the normal."""
    positioned: bool = True
    """Whether the file says where it lies (ImagePositionPatient)."""
    modality: str | None = None
    frame: str = ""
    """The FrameOfReferenceUID: positions of different frames cannot be compared."""
    scaling: tuple[float, float] | None = None
    """RescaleSlope and RescaleIntercept; None where the file has none."""
    phases: Mapping[str, str] = field(default_factory=dict)
    """What tells phases and time points under one UID apart, by attribute: ``PASSES``, ContentTime, …"""


def in_order(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    """The slices of one series by their position along the slice normal, as SimpleITK and GDCM order them.

    Args:
        folder: Where they lie, for the messages.
        slices: At least one, in any order; the names of their files do not count.

    Raises:
        DataError: Slices without a position, of several modalities, or of which only some are scaled.
        GeometryError: Slices of different size, pixel spacing or orientation, at one position, or missing;
            uneven spacing; a tilted gantry.
    """
    _check_alike(folder, slices)
    normal = slices[0].direction[:, 2]
    ordered = sorted(slices, key=lambda one: (float(one.origin_mm @ normal), one.path))
    if len(ordered) > 1:
        offsets = np.stack([one.origin_mm for one in ordered]) - ordered[0].origin_mm
        along = offsets @ normal
        _check_places(folder, ordered, along)
        _check_passes(folder, ordered)
        _check_gaps(folder, ordered, along)
        _check_upright(folder, offsets, along, normal)
    return ordered


def series_affine(ordered: Sequence[Slice]) -> NDArray[np.float64]:
    """The affine (4, 4) to RAS+ mm of slices in order, as SimpleITK's series reader has it.

    The slice spacing is the distance between positions, not SliceThickness: slices may overlap or leave gaps.
    """
    first, last = ordered[0], ordered[-1]
    spacing = first.spacing_mm.copy()
    if len(ordered) > 1:
        spacing[2] = np.linalg.norm(last.origin_mm - first.origin_mm) / (len(ordered) - 1)
    return affine_from_lps(first.origin_mm, first.direction, spacing)


def positions_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """The distinct positions (N,) of slices along the normal of the first, ascending, in mm."""
    along = np.sort([float(one.origin_mm @ slices[0].direction[:, 2]) for one in slices])
    return along[np.diff(along, prepend=-np.inf) > SAME_PLACE_MM]


def is_stack(slices: Sequence[Slice], at_least: int = 4) -> bool:
    """Whether slices lie at enough distinct positions to be a volume, and not single pictures of one.

    Enough are four (``at_least``) even ones, or many of which most are even: a volume with holes is one, too.
    """
    positions = positions_mm(slices)
    if len(positions) >= at_least and _unevenness(positions) <= EVENNESS:
        return True
    gaps = np.diff(positions)
    return len(positions) >= MANY_POSITIONS and int(_equal(gaps, _commonest(gaps)).sum()) > len(gaps) / 2


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    first = slices[0]
    for one in slices:
        pair = f"{folder}: {first.path.name} and {one.path.name}"
        if one.size != first.size:
            raise GeometryError(f"{pair} have mixed sizes, {first.size} and {one.size}; separate them.")
        if not np.allclose(one.spacing_mm[:2], first.spacing_mm[:2], rtol=1e-3):
            raise GeometryError(f"{pair} have mixed pixel spacings; separate them.")
        if not np.allclose(one.direction, first.direction, atol=1e-3):
            raise GeometryError(f"{pair} have mixed orientations (a localizer among the slices?); separate them.")
        if (drift := _drift_voxels(one, first)) > SAME_VOXELS:
            raise GeometryError(
                f"{pair} differ a little in pixel spacing or orientation, so their corners lie {drift:.2g} pixels "
                "apart; export the series again."
            )
        if not one.positioned and len(slices) > 1:
            raise DataError(
                f"{one.path}: no ImagePositionPatient, so its place in the series is unknown (SliceLocation is no "
                "position); export the series again without removing it."
            )
        if one.frame != first.frame:
            raise GeometryError(
                f"{pair} have mixed frames of reference{_difference(first, one)}, so they are no one scan; put the "
                "files of each into a folder of its own."
            )
        if one.modality != first.modality:
            raise DataError(f"{pair} have mixed modalities, {first.modality} and {one.modality}; separate them.")
        if (one.scaling is None) != (first.scaling is None):
            raise DataError(f"{pair}: only one has a RescaleSlope, so their values do not compare; export them again.")


def _drift_voxels(one: Slice, first: Slice) -> float:
    """How far apart two slices' corners would lie if they began at one place, in pixels: a small error grows."""
    steps = (one.direction * one.spacing_mm - first.direction * first.spacing_mm)[:, :2]
    corners = steps @ (np.array([[1, 0, 1], [0, 1, 1]]) * np.subtract(first.size, 1)[:, None])
    return float(np.linalg.norm(corners, axis=0).max() / first.spacing_mm[:2].min())


def _check_places(folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64]) -> None:
    """Refuse several slices at one position, and say what tells them apart."""
    gaps = np.diff(along)
    closest = int(gaps.argmin())
    if gaps[closest] > SAME_PLACE_MM:
        return
    one, other = ordered[closest], ordered[closest + 1]
    raise GeometryError(
        f"{folder}: duplicate positions, {one.path.name} and {other.path.name} lie at one place"
        f"{_difference(one, other)}; put the files of each phase or time point into a folder of its own, or remove the "
        "copies."
    )


def _difference(one: Slice, other: Slice) -> str:
    """What tells two slices at one place apart, where their headers say so."""
    differing = [name for name in one.phases if one.phases[name] != other.phases.get(name)]
    if not differing:
        return ""
    name = differing[0]
    return f", of {name} {one.phases[name] or 'nothing'} and {other.phases.get(name) or 'nothing'}"


def _check_passes(folder: Path, ordered: Sequence[Slice]) -> None:
    """Refuse two passes over the body whose slices lie between each other's: phases with a shifted start."""
    for name in PASSES:
        values = [one.phases.get(name, "") for one in ordered]
        changes = sum(value != before for before, value in pairwise(values))
        if 1 < len({*values}) <= len(values) // 2 and changes > 0.7 * (len(values) - 1):
            raise GeometryError(
                f"{folder}: slices of {name} {', '.join(sorted({*values}))} in turns, so they are phases or echoes "
                "with a shifted start; put the files of each into a folder of its own."
            )


def _check_gaps(folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64]) -> None:
    """Refuse gaps of several spacings, and spacings that differ."""
    if _unevenness(along) <= EVENNESS:
        return
    gaps = np.diff(along)
    spacing = _commonest(gaps)
    widest = int(gaps.argmax())
    between = f"{_at(ordered[widest])} and {_at(ordered[widest + 1])}"
    ranges = _ranges(gaps)
    if len(ranges) > 1:
        (first, before), (start, after) = ranges[0], ranges[1]
        raise GeometryError(
            f"{folder}: {len(ranges)} slice spacings, {before:g} mm from {_at(ordered[first])} and {after:g} mm from "
            f"{_at(ordered[start])} on; put the slices of each range into a folder of its own."
        )
    in_spacings = gaps / spacing
    if np.rint(in_spacings).max() > 1 and (np.abs(in_spacings - np.rint(in_spacings)) <= EVENNESS).all():
        missing = int(np.rint(in_spacings).sum()) - len(gaps)
        raise GeometryError(
            f"{folder}: missing slices, {missing} at a spacing of {spacing:g} mm, the widest gap between "
            f"{between}; export the whole series again."
        )
    raise GeometryError(
        f"{folder}: uneven slice spacing, {gaps.min():g} to {gaps.max():g} mm (between {between}); export it with an "
        "even spacing, or run `dcm2niix` and take the file with `_Eq` in its name, not the other."
    )


def _check_upright(
    folder: Path, offsets: NDArray[np.float64], along: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    """Refuse slices that slide sideways from one to the next; offsets (N, 3) and their part along the normal (N,)."""
    sideways = np.linalg.norm(offsets - np.outer(along, normal), axis=1)
    spacing = along[-1] / (len(along) - 1)
    if (sideways > np.maximum(UPRIGHTNESS * spacing, LARGEST_COSINE * along)).any():
        worst = int(sideways.argmax())
        angle = np.degrees(np.arctan2(sideways[worst], along[worst]))
        raise GeometryError(
            f"{folder}: the slices are sheared, their positions run {angle:.2f}° off the slice normal (a tilted "
            "gantry); run `dcm2niix` and take the file with `_Tilt` in its name, not the other."
        )


def _ranges(gaps: NDArray[np.float64]) -> list[tuple[int, float]]:
    """The ranges of slices that have a spacing of their own: where each starts, and its spacing in mm."""
    found: list[tuple[int, float]] = []
    first = 0
    for end in range(1, len(gaps) + 1):
        if end < len(gaps) and _equal(gaps[end : end + 1], gaps[first]).all():
            continue
        if end - first >= RUN_OF_GAPS and not (found and _equal(gaps[first : first + 1], found[-1][1]).all()):
            found.append((first, float(gaps[first])))
        first = end
    return found


def _commonest(gaps: NDArray[np.float64]) -> float:
    """The gap (N,) to which most others are equal; of several the smallest."""
    ascending = np.sort(gaps)
    return float(ascending[int(np.argmax([_equal(gaps, gap).sum() for gap in ascending]))])


def _equal(gaps: NDArray[np.float64], spacing: float) -> NDArray[np.bool_]:
    return np.abs(gaps - spacing) <= EVENNESS * spacing


def _unevenness(along: NDArray[np.float64]) -> float:
    """How far the worst of ascending positions (N,) lies from an even grid through the first and last, in spacings."""
    even = np.linspace(along[0], along[-1], len(along))
    return float(np.abs(along - even).max() * (len(along) - 1) / (along[-1] - along[0]))


def _at(one: Slice) -> str:
    x, y, z = one.origin_mm
    return f"({x:g}, {y:g}, {z:g})"
