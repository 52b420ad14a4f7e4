"""The header of a DICOM file: what it is, which series it belongs to, where its pixels lie, how they are scaled.

Nothing is invented. An attribute that geometry or scaling needs, and that is missing or cannot be meant, is an error
with its name. What only concerns how an image is shown (windows, inversion, padding) is not looked at.
"""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medgan.data.grid import LARGEST_COSINE
from medgan.data.series import PASSES, Slice
from medgan.data.streams import open_regular, unreadable
from medgan.errors import DataError, GeometryError

warnings.filterwarnings("ignore", module=r"pydicom")  # what it could say of a value is judged here, by name

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
        """The slice that it is.

        Raises:
            DataError: It is none, or its header cannot be trusted.
        """
        if isinstance(self.image, DataError):
            raise self.image.with_traceback(None)
        return self.image


def read_header(path: Path) -> Header:
    """The header of a DICOM file, with or without preamble.

    Raises:
        DataError: Not DICOM, or broken before anything can be told of it.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    if not status.st_size:
        raise DataError(f"{path}: an empty file; copy or export it again.")
    return _remembered(path, status.st_size, status.st_mtime_ns)


@lru_cache(REMEMBERED)
def _remembered(path: Path, *_content: int) -> Header:
    """The header of a file; ``_content``, its size and time, tells it from what had its name before."""
    data = dataset(path, TAGS)
    number = text(data, "SeriesNumber")
    kind = _object(data)
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
    """Some attributes of a DICOM file; its pixels only if they are asked for.

    Raises:
        DataError: Not DICOM, or broken.
    """
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
    """An attribute's numbers; None where it is missing or empty.

    Raises:
        DataError: Another count of numbers, text, or a value that is not finite.
    """
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


def _object(data: Dataset) -> str:
    """Why a file can be no image, by its class, else by its modality; empty for what has rows and columns."""
    kind = text(data, "SOPClassUID") or text(data.file_meta, "MediaStorageSOPClassUID")
    if kind == INDEX or "FileSetID" in data or "DirectoryRecordSequence" in data:
        return "a DICOM index"
    if kind.startswith(SEGMENTATIONS) or text(data, "Modality") == "SEG":
        return "a segmentation (a label map)"
    if kind == DOSE or text(data, "Modality") == "RTDOSE":
        return "a dose grid"
    name = UID(kind).name.removesuffix(" Storage") if kind else ""
    if "Rows" in data or "Image" in name or not (kind or text(data, "Modality") in WITHOUT_PIXELS):
        return ""
    return f"a DICOM object without pixels ({name or text(data, 'Modality')})"


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
    modality = text(data, "Modality") or _modality(text(data, "SOPClassUID"))
    return Slice(
        path=path,
        size=(int(columns[0]), int(rows[0])),
        spacing_mm=_spacing(path, data),
        origin_mm=np.array(position or (0.0, 0.0, 0.0)),
        direction=_direction(path, data),
        positioned=position is not None,
        modality=modality,
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
        raise DataError(
            f"{path}: a mosaic, the slices of a volume side by side; convert it to NIfTI first with `dcm2niix`."
        )
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
    if max(abs(length - 1) for length in lengths) > LARGEST_NORM_ERROR:
        raise GeometryError(
            f"{path}: ImageOrientationPatient has directions of lengths {lengths[0]:g} and {lengths[1]:g}, not 1; "
            "export it again."
        )
    row, column = row / lengths[0], column / lengths[1]
    if abs(row @ column) > LARGEST_COSINE:
        raise GeometryError(
            f"{path}: ImageOrientationPatient has directions that are not at right angles (cosine {row @ column:.3g}); "
            "export it again."
        )
    normal = np.cross(row, column)
    return np.stack([row, column, normal / np.linalg.norm(normal)], axis=1)


def _scaling(path: Path, data: Dataset, modality: str | None) -> tuple[float, float] | None:
    """RescaleSlope and RescaleIntercept; None where the modality does without."""
    if "ModalityLUTSequence" in data:
        raise DataError(
            f"{path}: a ModalityLUTSequence maps its values, which is not read; export it with a RescaleSlope."
        )
    unit = text(data, "RescaleType").upper()
    if modality == "CT" and unit in NOT_HU:
        raise DataError(f"{path}: its values are no HU (RescaleType {unit}); give the CT images themselves.")
    slope, intercept = (numbers(path, data, name, 1) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and intercept is None and modality not in SCALED:
        return None
    if slope is None or intercept is None:
        absent = " and no ".join(
            name for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)) if value is None
        )
        raise DataError(f"{path}: no {absent}, so its values have no unit; export it again with its scaling.")
    if slope[0] == 0:
        raise DataError(f"{path}: a RescaleSlope of 0 makes all values equal; export it again with its scaling.")
    return slope[0], intercept[0]


def _modality(kind: str) -> str | None:
    """What a storage class says of the modality, where the file has no word of its own."""
    name = UID(kind).name if kind else ""
    return next((name[:2] for start in ("CT Image", "MR Image") if name.startswith(start)), None)


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
