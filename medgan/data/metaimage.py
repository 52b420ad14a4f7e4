"""MetaImage: ``.mha``, and ``.mhd`` with its voxels in a file beside it, as ITK, elastix and Plastimatch write them."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data import raw
from medgan.data.grid import UNPLACED, Grid, Volume
from medgan.data.raw import TextHeader
from medgan.errors import DataError, GeometryError

SUFFIXES = (".mha", ".mhd")

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
"""numpy's code by MetaImage's word; its long has four bytes."""
MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_NM": "NM", "MET_MOD_US": "US"}
DATA = "ElementDataFile"
END = re.compile(rb"(?m)^ElementDataFile\s*=[^\n]*(\n|\Z)")
"""The last field of every header says where the voxels are."""


def read(path: Path) -> Volume:
    """The voxels of a MetaImage volume or slice.

    Raises:
        DataError: Not MetaImage, truncated, corrupt, 4D, colour, text, in several files, or files elsewhere; NaN.
        GeometryError: No spacing, or one that is not positive; sheared axes.
    """
    return raw.read(path, read_header(path))


def read_grid(path: Path) -> Grid:
    """The grid of a MetaImage file, after the same checks of its header as in ``read``."""
    return raw.read_grid(path, read_header(path))


def read_header(path: Path) -> TextHeader:
    """A header, checked but for its geometry."""
    text, end = raw.header_text(path, END)
    fields = raw.fields_of(text.splitlines(), "=")
    if not {"DimSize", "ElementType", DATA} <= fields.keys():
        raise DataError(f"{path}: not a MetaImage file; check what was saved under this name.")
    axes = raw.whole(path, fields.get("NDims", "0"))
    size = raw.sizes(path, fields["DimSize"], axes)
    _check_kind(path, fields)
    big = any(_is_true(fields.get(name)) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    local = fields[DATA].upper() == "LOCAL"
    rows = _first(fields, "TransformMatrix", "Orientation", "Rotation")
    directions = raw.numbers(path, rows, axes**2).reshape(axes, axes) if rows else np.eye(axes)
    origin = _first(fields, "Offset", "Position", "Origin")
    return TextHeader(
        size=size,
        dtype=raw.dtype_of(path, fields["ElementType"], TYPES, ">" if big else "<"),
        columns_mm=directions.T * _spacing_mm(path, fields, axes),
        origin_mm=raw.numbers(path, origin, axes) if origin else np.zeros(axes),
        data=path if local else raw.beside(path, fields[DATA]),
        skip=raw.whole(path, fields.get("HeaderSize", "0")) or (end if local else 0),
        compressed=_is_true(fields.get("CompressedData")),
        modality=MODALITIES.get(fields.get("Modality", "")),
        notes=() if rows else (UNPLACED,),
    )


def _check_kind(path: Path, fields: dict[str, str]) -> None:
    if raw.whole(path, fields.get("ElementNumberOfChannels", "1")) > 1:
        raise DataError(f"{path}: several values a voxel (colours or vectors), not intensities; save one of them.")
    if not _is_true(fields.get("BinaryData", "True")):
        raise DataError(f"{path}: its voxels are text; save it as binary first.")
    slope = float(raw.numbers(path, fields.get("ElementToIntensityFunctionSlope", "1"), 1)[0])
    offset = float(raw.numbers(path, fields.get("ElementToIntensityFunctionOffset", "0"), 1)[0])
    if (slope, offset) != (1.0, 0.0):
        raise DataError(f"{path}: its voxels are scaled, which readers of MetaImage ignore; save the scaled values.")


def _spacing_mm(path: Path, fields: dict[str, str], axes: int) -> NDArray[np.float64]:
    text = _first(fields, "ElementSpacing", "ElementSize")
    if text is None:
        raise GeometryError(f"{path}: its header has no voxel spacing (ElementSpacing); export it again.")
    spacing = raw.numbers(path, text, axes)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise GeometryError(f"{path}: a voxel spacing of {text} mm is not positive; export it again.")
    return spacing


def _first(fields: dict[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1", "t")
