# mypy: untyped-calls-exclude="SimpleITK"
"""The stored values of a DICOM image, once it is certain that the file holds all of them and no more.

GDCM and SimpleITK fill what is missing with whatever lay in memory. So lengths are compared before anything is decoded,
and compressed pixels are handed to GDCM alone, without the rest of the header.
"""

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from medgan.data.dicom_header import dataset, numbers
from medgan.errors import DataError

SHAPE = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
OTHER_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")
ALLOCATED = (8, 16, 32)

LARGEST_SLICE = 1 << 27
"""Pixels of a compressed slice: what a stream of a few bytes may ask for is not held against its length otherwise."""

START = {b"\xff\xd8": "JPEG", b"\xff\x4f": "JPEG 2000"}
END = b"\xff\xd9"
RLE_HEADER = 64
AGAIN = "copy or export it again"


def stored_values(path: Path) -> NDArray[Any]:
    """The values of a single grey frame (rows, columns) as stored, whole numbers before any scaling."""
    data = dataset(path, [*SHAPE, "PixelData", *OTHER_PIXELS])
    if any(name in data for name in OTHER_PIXELS):
        raise DataError(f"{path}: floating-point pixels (a parametric map), which are not read; give the images.")
    if not data.get("PixelData"):
        raise DataError(f"{path}: no PixelData, so it is truncated or was emptied; {AGAIN}.")
    shape = _shape(path, data)
    syntax = data.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    if not syntax.is_transfer_syntax:
        raise DataError(f"{path}: stored in transfer syntax {syntax}, which is not read; export it uncompressed.")
    if syntax.is_encapsulated:
        return _unpacked(path, data, shape)
    return _uncompressed(path, data, shape)


def _shape(path: Path, data: Dataset) -> dict[str, int]:
    """The attributes that say how pixels are stored, each a whole number that can be meant."""
    header = {name: int(value[0]) for name in SHAPE if (value := numbers(path, data, name, 1))}
    stored = header.get("BitsStored", header.get("BitsAllocated", 0))
    shape = {"BitsStored": stored, "HighBit": stored - 1} | header
    if missing := next((name for name in SHAPE if name not in shape), None):
        raise DataError(f"{path}: no {missing}, so its pixels cannot be understood; {AGAIN}.")
    allocated, high = shape["BitsAllocated"], shape["HighBit"]
    if allocated not in ALLOCATED:
        raise DataError(f"{path}: {allocated} bits a pixel, where 8, 16 or 32 are read; export it with 16.")
    if not (1 <= stored <= high + 1 <= allocated and shape["PixelRepresentation"] in (0, 1)):
        raise DataError(
            f"{path}: BitsStored {stored}, HighBit {high} and PixelRepresentation {shape['PixelRepresentation']} do "
            f"not fit {allocated} bits a pixel; {AGAIN}."
        )
    return shape


def _uncompressed(path: Path, data: Dataset, shape: dict[str, int]) -> NDArray[Any]:
    """Uncompressed pixels, without what else may lie in the bits that they leave free."""
    needed, held = shape["Rows"] * shape["Columns"] * shape["BitsAllocated"] // 8, len(data.PixelData)
    if not needed <= held <= needed + needed % 2:
        what = "truncated or damaged" if held < needed else "more than one frame, or damaged"
        raise DataError(
            f"{path}: PixelData holds {held:,} bytes, where {shape['Columns']} × {shape['Rows']} pixels take "
            f"{needed:,}: {what}; {AGAIN}."
        )
    unsigned = {**shape, "BitsStored": shape["BitsAllocated"], "HighBit": shape["BitsAllocated"] - 1}
    raw = _decoded(path, _alone(data, unsigned | {"PixelRepresentation": 0}))
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    bits = np.uint8(shape["BitsAllocated"])
    top = raw << (bits - 1 - shape["HighBit"])  # to the top and back: what lies above the stored bits drops out
    signed = np.dtype(f"i{raw.itemsize}") if shape["PixelRepresentation"] else raw.dtype
    return np.asarray(top.view(signed) >> (bits - shape["BitsStored"]))


def _unpacked(path: Path, data: Dataset, shape: dict[str, int]) -> NDArray[Any]:
    """Compressed pixels, judged by their stream's ends and by their decoded size."""
    if shape["Rows"] * shape["Columns"] > LARGEST_SLICE:
        raise DataError(f"{path}: {shape['Columns']} × {shape['Rows']} compressed pixels are no slice; {AGAIN}.")
    _check_stream(path, data, shape)
    pixels = _decoded(path, _alone(data, shape), by_gdcm=data.file_meta.TransferSyntaxUID != RLELossless)
    _check_size(path, pixels.shape, shape)
    return pixels


def _check_stream(path: Path, data: Dataset, shape: dict[str, int]) -> None:
    try:
        _, *fragments = generate_fragments(data.PixelData)  # the first is the offset table
        parse_basic_offsets(data.PixelData)
    except Exception as error:
        raise DataError(f"{path}: the compressed pixels are damaged ({error}); {AGAIN}.") from None
    rle = data.file_meta.TransferSyntaxUID == RLELossless
    frames = len(fragments) if rle else sum(fragment[:2] in START for fragment in fragments)
    if frames > 1:
        raise DataError(f"{path}: {frames} compressed frames, where its header has one; {AGAIN}.")
    stream = b"".join(fragments)
    if rle:
        _check_rle(path, stream, shape)
    if rle or stream[:2] not in START:
        return
    if not stream.rstrip(b"\0").endswith(END):
        raise DataError(f"{path}: the {START[stream[:2]]} pixels end in the middle: truncated or damaged; {AGAIN}.")
    if size := _coded_size(stream):
        _check_size(path, size, shape)


def _check_rle(path: Path, stream: bytes, shape: dict[str, int]) -> None:
    """Refuse RLE whose segments, one a byte of each pixel, unpack to another number of bytes than there are pixels."""
    count, *starts = struct.unpack("<16I", stream[:RLE_HEADER]) if len(stream) >= RLE_HEADER else (0,)
    ends = [*starts[1:count], len(stream)]
    held = [_unpacked_length(stream[start:end]) for start, end in zip(starts[:count], ends, strict=False)]
    if held != [shape["Rows"] * shape["Columns"]] * (shape["BitsAllocated"] // 8):
        raise DataError(
            f"{path}: the RLE pixels unpack to {' and '.join(map(str, held)) or 0} bytes, where {shape['Columns']} × "
            f"{shape['Rows']} pixels of {shape['BitsAllocated']} bits belong; {AGAIN}."
        )


def _unpacked_length(segment: bytes) -> int:
    """Bytes that an RLE segment unpacks to; a pad byte at its end is none."""
    at = length = 0
    while at < len(segment):
        control = segment[at]
        if control < 128:  # so many bytes and one follow as they are
            length += min(control + 1, len(segment) - at - 1)
            at += control + 2
        else:  # the next byte is repeated; 128 means nothing
            length += 257 - control if control > 128 and at + 1 < len(segment) else 0
            at += 2 if control > 128 else 1
    return length


def _coded_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG or JPEG 2000 stream says of itself; None where it does not."""

    def whole(start: int, length: int) -> int:
        return int.from_bytes(stream[start : start + length], "big")

    if stream.startswith(b"\xff\x4f\xff\x51"):  # SIZ comes first: the far corner, and the offset of the image
        return whole(12, 4) - whole(20, 4), whole(8, 4) - whole(16, 4)
    at = 2
    while at + 9 < len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # a start of frame
            return whole(at + 5, 2), whole(at + 7, 2)
        at += 2 + whole(at + 2, 2)
    return None


def _alone(data: Dataset, shape: dict[str, int]) -> Dataset:
    """An image of nothing but the pixels, so that no other attribute can change what a decoder makes of them."""
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = data.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    alone.SOPClassUID = alone.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    alone.SOPInstanceUID = alone.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    alone.SamplesPerPixel, alone.PhotometricInterpretation = 1, "MONOCHROME2"
    for name, value in shape.items():
        setattr(alone, name, value)
    alone["PixelData"] = data["PixelData"]
    return alone


def _decoded(path: Path, alone: Dataset, *, by_gdcm: bool = False) -> NDArray[Any]:
    try:
        return _by_gdcm(alone) if by_gdcm else np.array(pixel_array(alone, raw=True))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be unpacked in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR."
        ) from None
    except Exception as error:
        reason = str(error).strip().splitlines()[-1].rpartition("): ")[2].strip(" )")
        raise DataError(f"{path}: the DICOM pixels cannot be decoded ({reason}); {AGAIN}.") from None


def _by_gdcm(alone: Dataset) -> NDArray[Any]:
    import SimpleITK as sitk  # noqa: N813 - takes a quarter of a second, and few files need it

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    with tempfile.TemporaryDirectory(prefix="medgan-") as folder:
        file = str(Path(folder) / "frame.dcm")
        alone.save_as(file, enforce_file_format=True)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what ITK could say has been checked before
        try:
            return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(file, imageIO="GDCMImageIO"))[0])
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _check_size(path: Path, size: tuple[int, ...], shape: dict[str, int]) -> None:
    if size != (shape["Rows"], shape["Columns"]):
        raise DataError(
            f"{path}: the compressed pixels are {size[1]} × {size[0]}, where its header has {shape['Columns']} × "
            f"{shape['Rows']}; {AGAIN}."
        )
