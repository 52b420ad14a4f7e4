"""Small DICOM files of one made-up body, written with pydicom: right as they are, wrong where a test says so."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
)

from hostile.nifti_cases import ct

ROOT = "1.2.826.0.1"
CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "SR": "1.2.840.10008.5.1.4.1.1.88.67",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "PR": "1.2.840.10008.5.1.4.1.1.11.1",
    "KO": "1.2.840.10008.5.1.4.1.1.88.59",
    "RTDOSE": "1.2.840.10008.5.1.4.1.1.481.2",
}


def slice_of(hu: np.ndarray, position: Sequence[float] = (-48, -48, 0), n: int = 1, **changed: Any) -> Dataset:
    """One CT slice of HU (rows, columns) in unsigned 12 bits; ``changed`` are attributes, None takes one away."""
    data = report("CT", n)
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = f"{ROOT}.0", f"{ROOT}.1", f"{ROOT}.7"
    data.SeriesNumber, data.InstanceNumber, data.ImageType = 1, n, ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.ImagePositionPatient, data.ImageOrientationPatient = list(position), [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness, (data.Rows, data.Columns) = [3, 3], 5, hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.add_new("PixelData", "OW", pixels(hu))
    return alter(data, **changed)


def report(modality: str = "SR", n: int = 9) -> Dataset:
    """An object without pixels; its series lies beside those of :func:`slice_of`."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9.{n}"
    data.Modality, data.PatientID = modality, "P1"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.0", f"{ROOT}.5.{n}"
    return data


def alter(data: Dataset, **changed: Any) -> Dataset:
    """Set attributes by keyword; None takes one away. Modality sets the storage class, too."""
    with warnings.catch_warnings(action="ignore"):  # pydicom warns of what the tests want to be wrong
        for name, value in changed.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
    if changed.get("Modality") in CLASSES and "SOPClassUID" not in changed:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CLASSES[changed["Modality"]]
    return data


def save(path: Path, data: Dataset, *, bare: bool = False) -> Path:
    """Write a file; ``bare`` is as old archives have it, without preamble, in implicit little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not bare:
        data.save_as(path, enforce_file_format=True)
        return path
    with path.open("wb") as file:
        stream = DicomFileLike(file)
        stream.is_little_endian = stream.is_implicit_VR = True
        del data.file_meta
        write_dataset(stream, data)
    return path


def stack(
    count: int = 4,
    each: Callable[[int], dict[str, Any]] = lambda _: {},
    *,
    first: int = 1,
    step: float = 5,
    **changed: Any,
) -> list[Dataset]:
    """An axial series; ``each`` changes the slice of a number."""
    body = ct((32, 32, count), seed=first)
    return [slice_of(body[..., k].T, (-48, -48, step * k), first + k, **{**changed, **each(k)}) for k in range(count)]


def save_stack(
    folder: Path, slices: list[Dataset] | None = None, name: str = "IM{:03d}.dcm", *, bare: bool = False, **changed: Any
) -> Path:
    """Write slices, or else a stack with some attributes changed, one file each."""
    for k, data in enumerate(stack(**changed) if slices is None else slices):
        save(folder / name.format(k), data, bare=bare)
    return folder


def pixels(hu: np.ndarray, dtype: str = "<u2", intercept: int = 1024) -> bytes:
    """HU as stored values of a type."""
    return np.maximum(np.rint(hu) + intercept, np.iinfo(dtype).min).astype(dtype).tobytes()


def compressed(
    hu: np.ndarray, kind: str, change: Callable[[bytes], list[bytes]] = lambda fragment: [fragment], **changed: Any
) -> Dataset:
    """A slice whose pixels are compressed without loss, as ``RLE``, ``JPEG`` or ``JPEG2000``, or else in pieces."""
    data = slice_of(hu)
    if kind == "RLE":
        data.compress(RLELossless)
        _, fragment = generate_fragments(data.PixelData)
    else:
        data.file_meta.TransferSyntaxUID = {"JPEG": JPEGLosslessSV1, "JPEG2000": JPEG2000Lossless}[kind]
        fragment = _by_gdcm(hu, kind)
    data.PixelData = encapsulate(change(fragment))
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    return alter(data, **changed)


def _by_gdcm(hu: np.ndarray, kind: str) -> bytes:
    """The stored values as one compressed stream."""
    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
        writer.SetFileName(str(Path(folder) / "a.dcm"))
        writer.Execute(sitk.GetImageFromArray(np.frombuffer(pixels(hu), "<u2").reshape(1, *hu.shape)))
        _, fragment = generate_fragments(dcmread(Path(folder) / "a.dcm").PixelData)
    return fragment


def in_syntax(uid: str, data: Dataset) -> Dataset:
    """The same slice in another transfer syntax without compression of the pixels."""
    data.file_meta.TransferSyntaxUID = uid
    if uid == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    return data


def garbage_above(hu: np.ndarray) -> Dataset:
    """A slice with an overlay in the bits above the stored twelve, as old scanners have it."""
    data = slice_of(hu)
    data.PixelData = (np.frombuffer(data.PixelData, "<u2") | 0xB000).tobytes()
    return data
