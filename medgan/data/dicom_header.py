"""The headers of DICOM files: what each is, where its slice lies, and whether slices are a volume on an even grid.

Nothing is invented: an attribute that geometry or scaling needs, and that is missing or cannot be meant, is an error
with its name. What only concerns display (windows, inversion, padding) is not looked at. Readers of series hide missing
slices, uneven spacing and a tilted gantry behind a warning at most; here positions are judged before a pixel is read.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medgan.data.grid import LARGEST_COSINE, SAME_VOXELS, affine_from_lps
from medgan.data.streams import open_regular, unreadable
from medgan.errors import DataError, GeometryError

warnings.filterwarnings("ignore", module=r"pydicom")  # what it could say of a value is judged here, by name

PASSES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers")
"""Attributes that count passes over the body."""
PHASES = (*PASSES, "EchoTime", "DiffusionBValue", "TriggerTime", "ImageType", "AcquisitionTime", "ContentTime")
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SeriesNumber", "FrameOfReferenceUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("NumberOfFrames", "PixelSpacing", "SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "FileSetID", "DirectoryRecordSequence"),
    *PHASES,
)
REMEMBERED = 1 << 14
"""Headers kept in memory, some 2 kB each: a folder of many series is read once, not once for each of them."""

LARGEST_NORM_ERROR = 0.01
"""How far from 1 a direction's length may be: anonymisers round cosines."""
SCALED = ("CT", "PT")
"""Modalities whose standard asks for a RescaleSlope: without one, stored values have no unit."""
NOT_HU = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
"""RescaleTypes of a CT scanner's maps that hold something else than HU."""

INDEX = UID("1.2.840.10008.1.3.10")
SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66.4"
WITHOUT_PIXELS = ("DOC", "KO", "PLAN", "PR", "REG", "RTPLAN", "RTRECORD", "RTSTRUCT", "SR")
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"

EVENNESS = 0.1
"""How far along the normal a slice may lie from where an even grid has it, in slice spacings: rounding passes."""
UPRIGHTNESS = 0.05
"""How far sideways a slice may lie from where an upright grid has it, in slice spacings: a tilt of 3° is noticed."""
SAME_PLACE_MM = 1e-3
"""Slices closer than this lie at one position."""
RUN_OF_GAPS = 3
"""So many equal gaps in a row are a range of slices with a spacing of its own."""
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


@dataclass(frozen=True, eq=False)
class Header:
    """What one DICOM file says that it is."""

    path: Path
    series: tuple[str, str, str]
    """PatientID, StudyInstanceUID and SeriesInstanceUID; empty where de-identification removed them."""
    number: int | None
    """SeriesNumber: what a scanner's list calls the series."""
    instance: str
    """SOPInstanceUID: one name, one image."""
    object: str
    """Why it can be no image, such as ``a report``; empty for images."""
    aside: str
    """Why it is no part of a volume, such as ``a localizer``; empty for slices."""
    image: Slice | DataError
    """The slice that it is, or why it cannot be read as one."""

    def slice(self) -> Slice:
        """The slice that it is; a DataError where it is none, or its header cannot be trusted."""
        if isinstance(self.image, DataError):
            raise self.image.with_traceback(None)
        return self.image


def read_header(path: Path) -> Header:
    """The header of a DICOM file, with or without preamble; a DataError where nothing can be told of it."""
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    if not status.st_size:
        raise DataError(f"{path}: an empty file; copy or export it again.")
    return _read_header(path, status.st_size, status.st_mtime_ns)


@lru_cache(REMEMBERED)
def _read_header(path: Path, *_content: int) -> Header:
    """The header of a file; ``_content``, its size and time, tells it from what had its name before."""
    data = dataset(path, TAGS)
    kind, number = _object(data), text(data, "SeriesNumber")
    try:
        if kind:
            raise DataError(f"{path}: {kind}, not an image; give the images that belong to it.")
        image: Slice | DataError = _slice(path, data)
    except DataError as error:
        image = error
    return Header(
        path=path,
        series=(text(data, "PatientID"), text(data, "StudyInstanceUID"), text(data, "SeriesInstanceUID")),
        number=int(number) if re.fullmatch(r"\d{1,9}", number) else None,
        instance=text(data, "SOPInstanceUID"),
        object=kind,
        aside="" if kind else _aside(data),
        image=image,
    )


def dataset(path: Path, tags: Sequence[str]) -> Dataset:
    """Some attributes of a DICOM file; its pixels only if they are among them."""
    pixels = any(tag.endswith("PixelData") for tag in tags)
    try:
        with open_regular(path) as file:
            data = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True, specific_tags=[*tags])
        if not any(tag in data for tag in tags) and "MediaStorageSOPClassUID" not in data.file_meta:
            raise ValueError("it has none of the attributes of an image")
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # pydicom raises whatever a broken file provokes: ValueError, struct.error, zlib.error …
        raise DataError(f"{path}: not DICOM, or truncated ({_brief(error)}); copy or export it again.") from None
    return data


def text(data: Dataset, name: str) -> str:
    """An attribute's text, its values joined by backslashes; empty where it is missing, empty or garbled."""
    try:
        value: Any = data.get(name)
        parts = value if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]
        return "\\".join(str(part).strip(" \0") for part in parts if part is not None)
    except Exception:  # a value that pydicom cannot decode says nothing; where it is needed, its absence is an error
        return ""


def numbers(path: Path, data: Dataset, name: str, count: int) -> list[float] | None:
    """An attribute's finite numbers, ``count`` of them; None where it is missing or empty."""
    try:
        value: Any = data.get(name)
        if value is None or value == "" or value == []:
            return None
        parts = [float(part) for part in (value if hasattr(value, "__iter__") else [value])]
    except Exception as error:
        raise DataError(f"{path}: {name} is no number ({_brief(error)}); export it again.") from None
    if len(parts) != count or not all(math.isfinite(part) for part in parts):
        shown = "\\".join(f"{part:g}" for part in parts)
        raise DataError(f"{path}: {name} is {shown}, where {count} finite numbers belong; export it again.")
    return parts


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _object(data: Dataset) -> str:
    """Why a file can be no image, by its class, else by its modality; empty for what has rows and columns."""
    kind, modality = (
        text(data, "SOPClassUID") or text(data.file_meta, "MediaStorageSOPClassUID"),
        text(data, "Modality"),
    )
    if kind == INDEX or "FileSetID" in data or "DirectoryRecordSequence" in data:
        return "a DICOM index"
    if kind.startswith(SEGMENTATIONS) or modality == "SEG":
        return "a segmentation (a label map)"
    if kind == DOSE or modality == "RTDOSE":
        return "a dose grid"
    name = UID(kind).name.removesuffix(" Storage") if kind else ""
    if "Rows" in data or "Image" in name or not (kind or modality in WITHOUT_PIXELS):
        return ""
    return f"a DICOM object without pixels ({name or modality})"


def _aside(data: Dataset) -> str:
    if "LOCALIZER" in text(data, "ImageType").upper().split("\\"):
        return "a localizer"
    if (text(data, "SamplesPerPixel") or "1") != "1" or text(data, "PhotometricInterpretation") == "PALETTE COLOR":
        return "a colour picture"
    return "a secondary capture" if text(data, "SOPClassUID").startswith(CAPTURES) else ""


def _slice(path: Path, data: Dataset) -> Slice:
    _check_kind(path, data)
    rows, columns = (numbers(path, data, name, 1) for name in ("Rows", "Columns"))
    if not rows or not columns or min(*rows, *columns) < 1:
        raise DataError(f"{path}: no Rows and Columns, so its pixels have no shape; export it again.")
    position = numbers(path, data, "ImagePositionPatient", 3)
    modality = text(data, "Modality")
    if not modality and (kind := text(data, "SOPClassUID")):  # its storage class says it, too
        modality = next((name for name in ("CT", "MR") if UID(kind).name.startswith(f"{name} Image")), "")
    return Slice(
        path=path,
        size=(int(columns[0]), int(rows[0])),
        spacing_mm=_spacing(path, data),
        origin_mm=np.array(position or (0.0, 0.0, 0.0)),
        direction=_direction(path, data),
        positioned=position is not None,
        modality=modality or None,
        frame=text(data, "FrameOfReferenceUID"),
        scaling=_scaling(path, data, modality),
        phases={name: text(data, name) for name in PHASES if text(data, name)},
    )


def _check_kind(path: Path, data: Dataset) -> None:
    """Refuse what has pixels, but none that are one slice's intensities."""
    image_type = text(data, "ImageType").upper().split("\\")
    if _aside(data) == "a colour picture":
        colours = "RGB colours" if text(data, "SamplesPerPixel") == "3" else "colours"
        raise DataError(f"{path}: the pixels are {colours}, not intensities; give the original grey-scale images.")
    frames = numbers(path, data, "NumberOfFrames", 1)
    if frames and frames[0] % 1:
        raise DataError(f"{path}: NumberOfFrames is {frames[0]:g}, no whole number; export it again.")
    if frames and frames[0] != 1:
        raise DataError(f"{path}: multi-frame DICOM ({frames[0]:g} frames); convert it to NIfTI first with `dcm2niix`.")
    if UID(text(data, "SOPClassUID")).name.startswith("Enhanced "):
        raise DataError(f"{path}: enhanced DICOM, with a place for each frame; convert it with `dcm2niix` first.")
    if "MOSAIC" in image_type:
        raise DataError(f"{path}: a mosaic of a volume's slices side by side; convert it first with `dcm2niix`.")
    if "LOCALIZER" in image_type and text(data, "Modality") == "CT":
        raise DataError(f"{path}: a localizer, a projection and no slice in HU; give the slices that it was made for.")


def _spacing(path: Path, data: Dataset) -> NDArray[np.float64]:
    """(3,) in mm: between columns, between rows, and between slices where the file says so."""
    in_plane = numbers(path, data, "PixelSpacing", 2)
    if in_plane is None:
        raise GeometryError(f"{path}: no PixelSpacing, so its size is unknown; export it again with its geometry.")
    if min(in_plane) <= 0:
        shown = " × ".join(f"{length:g}" for length in in_plane)
        raise GeometryError(f"{path}: a PixelSpacing of {shown} mm is not positive; export it again.")
    try:
        between = numbers(path, data, "SpacingBetweenSlices", 1)
    except DataError:  # it only describes a lone slice
        between = None
    return np.array([in_plane[1], in_plane[0], abs(between[0]) if between and between[0] else 1.0])


def _direction(path: Path, data: Dataset) -> NDArray[np.float64]:
    """(3, 3), columns: the unit vectors along a row, along a column, and the normal."""
    cosines = numbers(path, data, "ImageOrientationPatient", 6)
    if cosines is None:
        raise GeometryError(f"{path}: no ImageOrientationPatient, so nobody knows how it lies; export it again.")
    row, column = np.reshape(cosines, (2, 3))
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    odd = f"{path}: ImageOrientationPatient has directions"
    if max(abs(length - 1) for length in lengths) > LARGEST_NORM_ERROR:
        raise GeometryError(f"{odd} of lengths {lengths[0]:g} and {lengths[1]:g}, not 1; export it again.")
    row, column = row / lengths[0], column / lengths[1]
    if abs(row @ column) > LARGEST_COSINE:
        raise GeometryError(f"{odd} that are not at right angles (cosine {row @ column:.3g}); export it again.")
    normal = np.cross(row, column)
    return np.stack([row, column, normal / np.linalg.norm(normal)], axis=1)


def _scaling(path: Path, data: Dataset, modality: str) -> tuple[float, float] | None:
    """RescaleSlope and RescaleIntercept; None where the modality does without."""
    if "ModalityLUTSequence" in data:
        raise DataError(f"{path}: its values need a ModalityLUTSequence, which is not read; export it with a slope.")
    unit = text(data, "RescaleType").upper()
    if modality == "CT" and unit in NOT_HU:
        raise DataError(f"{path}: its values are no HU (RescaleType {unit}); give the CT images themselves.")
    pair = {name: numbers(path, data, name, 1) for name in ("RescaleSlope", "RescaleIntercept")}
    slope, intercept = pair.values()
    if slope is None and intercept is None and modality not in SCALED:
        return None
    if slope is None or intercept is None:
        absent = " and no ".join(name for name, value in pair.items() if value is None)
        raise DataError(f"{path}: no {absent}, so its values have no unit; export it again with its scaling.")
    if slope[0] == 0:
        raise DataError(f"{path}: a RescaleSlope of 0 makes all values equal; export it again with its scaling.")
    return slope[0], intercept[0]


def in_order(folder: Path, slices: Sequence[Slice]) -> list[Slice]:
    """The slices of one series by their position along the slice normal, as SimpleITK and GDCM order them.

    They must be alike, lie evenly, one at a place and none missing, and form no tilted gantry.
    """
    for one in slices:
        _check_alike(folder, slices[0], one, lone=len(slices) == 1)
    normal = slices[0].direction[:, 2]
    ordered = sorted(slices, key=lambda one: (float(one.origin_mm @ normal), one.path))
    if len(ordered) > 1:
        offsets = np.stack([one.origin_mm for one in ordered]) - ordered[0].origin_mm
        along = offsets @ normal
        _check_places(folder, ordered, along)
        if _unevenness(along) > EVENNESS:
            raise GeometryError(f"{folder}: {_gaps(ordered, np.diff(along))}.")
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


def _check_alike(folder: Path, first: Slice, one: Slice, *, lone: bool) -> None:
    pair = f"{folder}: {first.path.name} and {one.path.name}"
    if one.size != first.size:
        raise GeometryError(f"{pair} have mixed sizes, {first.size} and {one.size}; separate them.")
    if not np.allclose(one.spacing_mm[:2], first.spacing_mm[:2], rtol=1e-3):
        raise GeometryError(f"{pair} have mixed pixel spacings; separate them.")
    if not np.allclose(one.direction, first.direction, atol=1e-3):
        raise GeometryError(f"{pair} have mixed orientations (a localizer among the slices?); separate them.")
    # How far apart the corners would lie if both began at one place, in pixels: a small error grows.
    steps = (one.direction * one.spacing_mm - first.direction * first.spacing_mm)[:, :2]
    corners = steps @ (np.array([[1, 0, 1], [0, 1, 1]]) * np.subtract(first.size, 1)[:, None])
    drift = float(np.linalg.norm(corners, axis=0).max() / first.spacing_mm[:2].min())
    if drift > SAME_VOXELS:
        raise GeometryError(
            f"{pair} differ a little in pixel spacing or orientation, so their corners lie {drift:.2g} pixels "
            "apart; export the series again."
        )
    if not one.positioned and not lone:
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


def _difference(one: Slice, other: Slice) -> str:
    """What tells two slices at one place apart, where their headers say so."""
    for name, value in one.phases.items():
        if value != other.phases.get(name):
            return f", of {name} {value or 'nothing'} and {other.phases.get(name) or 'nothing'}"
    return ""


def _check_places(folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64]) -> None:
    """Refuse several slices at one position, and two passes whose slices lie between each other's."""
    gaps = np.diff(along)
    closest = int(gaps.argmin())
    if gaps[closest] <= SAME_PLACE_MM:
        one, other = ordered[closest], ordered[closest + 1]
        raise GeometryError(
            f"{folder}: duplicate positions, {one.path.name} and {other.path.name} lie at one place"
            f"{_difference(one, other)}; put the files of each phase or time point into a folder of its own, or remove "
            "the copies."
        )
    for name in PASSES:
        values = [one.phases.get(name, "") for one in ordered]
        changes = sum(value != before for before, value in pairwise(values))
        if 1 < len({*values}) <= len(values) // 2 and changes > 0.7 * (len(values) - 1):
            raise GeometryError(
                f"{folder}: slices of {name} {', '.join(sorted({*values}))} in turns, so they are phases or echoes "
                "with a shifted start; put the files of each into a folder of its own."
            )


def _gaps(ordered: Sequence[Slice], gaps: NDArray[np.float64]) -> str:
    """What is wrong with slices whose gaps (N - 1,) differ: several spacings, missing slices, or no even spacing."""
    places = ["({:g}, {:g}, {:g})".format(*one.origin_mm) for one in ordered]
    ranges = _ranges(gaps)
    if len(ranges) > 1:
        (first, before), (start, after) = ranges[0], ranges[1]
        return (
            f"{len(ranges)} slice spacings, {before:g} mm from {places[first]} and {after:g} mm from {places[start]} "
            "on; put the slices of each range into a folder of its own"
        )
    widest, spacing = int(gaps.argmax()), _commonest(gaps)
    between = f"{places[widest]} and {places[widest + 1]}"
    wanted = np.rint(gaps / spacing)
    if wanted.max() > 1 and (np.abs(gaps / spacing - wanted) <= EVENNESS).all():
        return (
            f"missing slices, {int(wanted.sum()) - len(gaps)} at a spacing of {spacing:g} mm, the widest gap between "
            f"{between}; export the whole series again"
        )
    return (
        f"uneven slice spacing, {gaps.min():g} to {gaps.max():g} mm (between {between}); export it with an even "
        "spacing, or run `dcm2niix` and take the file with `_Eq` in its name, not the other"
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
    ranges: list[tuple[int, float]] = []
    first = 0
    for end in range(1, len(gaps) + 1):
        if end < len(gaps) and _equal(gaps[end], gaps[first]):
            continue
        if end - first >= RUN_OF_GAPS and not (ranges and _equal(gaps[first], ranges[-1][1])):
            ranges.append((first, float(gaps[first])))
        first = end
    return ranges


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
