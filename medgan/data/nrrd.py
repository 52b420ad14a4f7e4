"""NRRD: ``.nrrd``, and ``.nhdr`` with its voxels in a file beside it, as 3D Slicer and teem write them."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data import raw
from medgan.data.grid import UNPLACED, Grid, Volume
from medgan.data.raw import TextHeader
from medgan.errors import DataError, GeometryError

SUFFIXES = (".nrrd", ".nhdr")

MAGIC = re.compile(r"NRRD000[1-5]\s*")
END = re.compile(rb"\r?\n\r?\n")
TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
TO_LPS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
"""By the space of the file, the sign of its axes in LPS+."""
GZIP, RAW = ("gzip", "gz"), ("raw",)


def read(path: Path) -> Volume:
    """The voxels of an NRRD volume or slice.

    Raises:
        DataError: Not NRRD, truncated, corrupt, 4D, colour, text, quantised, in several files or elsewhere; NaN.
        GeometryError: No spacing, or one that is not positive; an unknown space or unit; sheared axes.
    """
    return raw.read(path, read_header(path))


def read_grid(path: Path) -> Grid:
    """The grid of an NRRD file, after the same checks of its header as in ``read``."""
    return raw.read_grid(path, read_header(path))


def read_header(path: Path) -> TextHeader:
    """A header, checked but for its geometry."""
    text, stop = raw.header_text(path, END)
    lines = text.splitlines()
    if not lines or not MAGIC.fullmatch(lines[0]):
        raise DataError(f"{path}: not an NRRD file; check what was saved under this name.")
    listed = [line for line in lines[1:] if not line.startswith("#") and ":=" not in line]
    fields = {name.lower(): value for name, value in raw.fields_of(listed, ":").items()}
    if missing := [name for name in ("dimension", "sizes", "type", "encoding") if name not in fields]:
        raise DataError(f"{path}: its NRRD header has no {' and no '.join(missing)}; export it again.")
    _check_kind(path, fields)
    size = raw.sizes(path, fields["sizes"], raw.whole(path, fields["dimension"]))
    encoding = fields["encoding"].lower()
    if encoding not in (*RAW, *GZIP):
        raise DataError(f"{path}: NRRD in {encoding} is not read; save it raw or with gzip.")
    data = fields.get("data file", fields.get("datafile"))
    skip = raw.whole(path, fields.get("byte skip", fields.get("byteskip", "0")))
    if skip and (data is None or encoding in GZIP):
        raise DataError(f"{path}: bytes are to be skipped before its voxels, which is not read; save it anew.")
    columns, origin, notes = _geometry(path, fields, len(size))
    dtype = raw.dtype_of(path, fields["type"].lower(), TYPES, ">" if fields.get("endian", "").lower() == "big" else "<")
    if dtype.itemsize > 1 and fields.get("endian", "").lower() not in ("big", "little"):
        raise DataError(f"{path}: its header does not say the order of bytes (endian); export it again.")
    return TextHeader(
        size=size,
        dtype=dtype,
        columns_mm=columns,
        origin_mm=origin,
        data=path if data is None else raw.beside(path, data),
        skip=stop if data is None else skip,
        compressed=encoding in GZIP,
        notes=notes,
    )


def _check_kind(path: Path, fields: dict[str, str]) -> None:
    kinds = fields.get("kinds", "").split()
    if any(kind not in ("domain", "space", "???", "none") for kind in kinds):
        raise DataError(f"{path}: several values a voxel ({', '.join(kinds)}), not intensities; save one of them.")
    for name in ("old min", "oldmin", "old max", "oldmax"):
        if name in fields:
            raise DataError(f"{path}: its values are quantised ({name}); save the values that they stand for.")
    if raw.whole(path, fields.get("line skip", fields.get("lineskip", "0"))):
        raise DataError(f"{path}: lines are to be skipped before its voxels, which is not read; save it anew.")


def _geometry(
    path: Path, fields: dict[str, str], axes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """The steps along the axes and the origin in LPS+ mm, and what is odd about them."""
    _check_units(path, fields)
    if "space directions" not in fields:
        if "spacings" not in fields:
            raise GeometryError(f"{path}: its header has no voxel spacing (space directions); export it again.")
        spacing = raw.numbers(path, fields["spacings"], axes)
        if not (spacing > 0).all():
            raise GeometryError(f"{path}: a voxel spacing of {fields['spacings']} mm is not positive; export it again.")
        return np.diag(spacing), np.zeros(axes), (UNPLACED,)
    vectors = [_vector(path, text) for text in re.findall(r"\([^)]*\)|none", fields["space directions"])]
    dimensions = {len(vector) for vector in vectors}
    if len(vectors) != axes or dimensions not in ({2}, {3}):
        raise GeometryError(f"{path}: space directions {fields['space directions']} are no grid; export it again.")
    width = dimensions.pop()
    space = fields.get("space", "").lower()
    if space and space not in TO_LPS:
        raise GeometryError(f"{path}: the space {space} is not known; save it in left-posterior-superior.")
    signs = np.array(TO_LPS.get(space, (1, 1, 1)), float)[:width]
    origin = _vector(path, fields["space origin"]) if "space origin" in fields else np.zeros(width)
    if len(origin) != width:
        raise GeometryError(
            f"{path}: the space origin {fields['space origin']} has another dimension; export it again."
        )
    return np.array(vectors).T * signs[:, None], origin * signs, () if space else (UNPLACED,)


def _check_units(path: Path, fields: dict[str, str]) -> None:
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", ""))))
    if units - {"mm", "", "millimeter", "millimetre"}:
        raise GeometryError(f"{path}: lengths in {', '.join(sorted(units))}; save it in mm.")


def _vector(path: Path, text: str) -> NDArray[np.float64]:
    """The numbers of ``(1,0,0)``; none of ``none``, the word for an axis that is not in space."""
    inner = text.strip("() ").replace(",", " ")
    return np.array([]) if inner == "none" else raw.numbers(path, inner, len(inner.split()))
