"""The slices of a DICOM series in order, and what must hold for them to be a volume on an even, upright grid.

``SimpleITK.ImageSeriesReader`` takes any list of files: it hides missing slices, uneven spacing and a tilted gantry
behind a warning at most. So the positions are judged here, before it is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import LARGEST_COSINE, affine_from_lps
from medgan.errors import DataError, GeometryError

EVENNESS = 0.1
"""How far along the normal a slice may lie from where an even grid has it, in slice spacings: rounding passes."""

UPRIGHTNESS = 0.05
"""How far sideways a slice may lie from where an upright grid has it, in slice spacings: a tilt of 3° is noticed."""

SAME_PLACE_MM = 1e-3
"""Slices closer than this lie at one position."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One DICOM image's header: where it lies, in LPS+ mm, and what it shares with its neighbours."""

    path: Path
    series: str
    """Its SeriesInstanceUID; empty where de-identification removed it."""
    size: tuple[int, int]
    """Columns and rows: X and Y."""
    spacing_mm: NDArray[np.float64]
    """(3,); the third is what SimpleITK gives a lone slice: SpacingBetweenSlices, or 1."""
    origin_mm: NDArray[np.float64]
    """(3,), the centre of the first voxel."""
    direction: NDArray[np.float64]
    """(3, 3), columns: along a row, along a column, and the normal."""
    positioned: bool
    """Whether the file says where it lies (ImagePositionPatient)."""


def in_order(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    """The slices of one series by their position along the slice normal, as SimpleITK and GDCM order them.

    Args:
        folder: Where they lie, for the messages.
        slices: At least one, in any order; the names of their files do not count.

    Raises:
        DataError: More than one series, or slices without a position.
        GeometryError: Slices of different size, pixel spacing or orientation, at one position, or missing;
            uneven spacing; a tilted gantry.
    """
    _check_alike(folder, slices)
    normal = slices[0].direction[:, 2]
    ordered = sorted(slices, key=lambda one: (float(one.origin_mm @ normal), one.path))
    if len(ordered) > 1:
        offsets = np.stack([one.origin_mm for one in ordered]) - ordered[0].origin_mm
        along = offsets @ normal
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
    """Whether slices lie at enough distinct, even positions to be a volume, and not single pictures of one."""
    positions = positions_mm(slices)
    return len(positions) >= at_least and _unevenness(positions) <= EVENNESS


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    first = slices[0]
    series = {one.series for one in slices}
    if len(series) > 1:
        raise DataError(f"{folder}: mixed series, {len(series)} SeriesInstanceUIDs; give each series its own folder.")
    for one in slices:
        pair = f"{folder}: {first.path.name} and {one.path.name}"
        if one.size != first.size:
            raise GeometryError(f"{pair} have mixed sizes, {first.size} and {one.size}; separate them.")
        if not np.allclose(one.spacing_mm[:2], first.spacing_mm[:2], rtol=1e-3):
            raise GeometryError(f"{pair} have mixed pixel spacings; separate them.")
        if not np.allclose(one.direction, first.direction, atol=1e-3):
            raise GeometryError(f"{pair} have mixed orientations (a localizer among the slices?); separate them.")
        if not one.positioned and len(slices) > 1:
            raise DataError(f"{one.path}: no ImagePositionPatient, so its place in the series is unknown; remove it.")


def _check_gaps(folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64]) -> None:
    """Refuse slices at one position, gaps of several spacings, and spacings that differ."""
    gaps = np.diff(along)
    closest = int(gaps.argmin())
    if gaps[closest] <= SAME_PLACE_MM:
        raise GeometryError(
            f"{folder}: duplicate positions, {ordered[closest].path.name} and {ordered[closest + 1].path.name} lie at "
            f"one place; separate the phases or time points, or remove the copies."
        )
    ratios = gaps / gaps[closest]
    widest = int(gaps.argmax())
    between = f"{_at(ordered[widest])} and {_at(ordered[widest + 1])}"
    if ratios[widest] > 1.5 and np.allclose(ratios, np.rint(ratios), rtol=EVENNESS, atol=0):
        missing = int(np.rint(ratios).sum()) - len(gaps)
        raise GeometryError(
            f"{folder}: missing slices, {missing} at a spacing of {gaps[closest]:g} mm, the widest gap between "
            f"{between}; export the whole series again."
        )
    if _unevenness(along) > EVENNESS:
        raise GeometryError(
            f"{folder}: uneven slice spacing, {gaps.min():g} to {gaps.max():g} mm (between {between}); resample the "
            "series to an even spacing first, for example with `dcm2niix`."
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
            "gantry); correct the tilt first, for example with `dcm2niix`."
        )


def _unevenness(along: NDArray[np.float64]) -> float:
    """How far the worst of ascending positions (N,) lies from an even grid through the first and last, in spacings."""
    even = np.linspace(along[0], along[-1], len(along))
    return float(np.abs(along - even).max() * (len(along) - 1) / (along[-1] - along[0]))


def _at(one: Slice) -> str:
    x, y, z = one.origin_mm
    return f"({x:g}, {y:g}, {z:g})"
