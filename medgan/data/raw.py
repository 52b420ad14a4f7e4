"""MetaImage and NRRD: voxels as plain bytes behind a text header, in the same file or in one beside it.

They are decoded here and not by SimpleITK. It alters sheared axes without a word, prints to the terminal, and ends the
whole process at a path that is no UTF-8; and what a header promises is to be judged before memory is taken for it.
"""

import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import UNPLACED, Grid, Volume, check_finite, grid_in_lps
from medgan.data.streams import check_promise, check_regular, open_regular, unreadable
from medgan.errors import DataError, GeometryError

METAIMAGE = (".mha", ".mhd")
"""As ITK, elastix and Plastimatch write them; ``.mhd`` has its voxels in a file beside it."""
NRRD = (".nrrd", ".nhdr")
"""As 3D Slicer and teem write them; ``.nhdr`` has its voxels in a file beside it."""
SUFFIXES = (*METAIMAGE, *NRRD)

Floats = NDArray[np.float64]

LONGEST_HEADER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
ANY_WRAPPING = 47
"""zlib's word for a stream that is wrapped as gzip or as zlib."""

WHOLE = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8}
METAIMAGE_TYPES = {
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
    **{f"MET_{sign}{word}": f"{'u' if sign else 'i'}{size}" for word, size in WHOLE.items() for sign in ("", "U")},
}
"""numpy's code by MetaImage's word; its long has four bytes."""
METAIMAGE_MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_NM": "NM", "MET_MOD_US": "US"}
METAIMAGE_DATA = "ElementDataFile"
METAIMAGE_END = re.compile(rb"(?m)^ElementDataFile\s*=[^\n]*(\n|\Z)")
"""The last field of every header says where the voxels are."""

NRRD_MAGIC = re.compile(r"NRRD000[1-5]\s*")
NRRD_END = re.compile(rb"\r?\n\r?\n")
NRRD_TYPES = {
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
NRRD_TO_LPS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
"""By the space of the file, the sign of its axes in LPS+."""
NRRD_GZIP = ("gzip", "gz")


@dataclass(frozen=True, eq=False)
class _Header:
    """What a text header says of the voxels."""

    size: tuple[int, ...]
    """(X, Y) or (X, Y, Z): the first runs fastest in the file."""
    dtype: np.dtype[Any]
    """As stored, with its byte order."""
    columns_mm: Floats
    """(2 or 3, axes): the step along each axis in LPS+ mm."""
    origin_mm: Floats
    """(2 or 3,): the centre of the first voxel in LPS+ mm."""
    data: Path
    """The file that holds the voxels."""
    skip: int
    """Bytes before the voxels; -1 where these end the file."""
    compressed: bool
    """As a gzip or zlib stream."""
    modality: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """How many the voxels take, unpacked."""
        return math.prod(self.size) * self.dtype.itemsize


def read(path: Path) -> Volume:
    """The voxels of a MetaImage or NRRD volume or slice, float32."""
    header = _read_header(path)
    grid = _grid(path, header)
    content = _voxel_bytes(header)
    raw = np.frombuffer(content, header.dtype, math.prod(header.size)).reshape(grid.size, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
        voxels = raw.astype(np.float32)
    check_finite(path, voxels)
    longer = ("its file holds more than its header tells of",) if len(content) > header.bytes else ()
    return Volume(voxels, grid, path, header.modality, (*header.notes, *longer))


def read_grid(path: Path) -> Grid:
    """The grid of a MetaImage or NRRD file, after the same checks of its header as in ``read``."""
    return _grid(path, _read_header(path))


def data_beside(path: Path) -> Path | None:
    """The file with the voxels of an image whose header is a file of its own; None where there is no such file."""
    try:
        data = _read_header(path).data if path.name.lower().endswith(SUFFIXES) else path
    except DataError:
        return None
    return None if data == path else data


def _read_header(path: Path) -> _Header:
    """A header, checked but for its geometry."""
    return _metaimage(path) if path.name.lower().endswith(METAIMAGE) else _nrrd(path)


def _metaimage(path: Path) -> _Header:
    text, end = _header_text(path, METAIMAGE_END)
    fields = _fields(text.splitlines(), "=")
    if not {"DimSize", "ElementType", METAIMAGE_DATA} <= fields.keys():
        raise DataError(f"{path}: not a MetaImage file; check what was saved under this name.")
    axes = _whole(path, fields.get("NDims", "0"))
    size = _sizes(path, fields["DimSize"], axes)
    if _whole(path, fields.get("ElementNumberOfChannels", "1")) > 1:
        raise DataError(f"{path}: several values a voxel (colours or vectors), not intensities; save one of them.")
    if not _is_true(fields.get("BinaryData", "True")):
        raise DataError(f"{path}: its voxels are text; save it as binary first.")
    slope = float(_numbers(path, fields.get("ElementToIntensityFunctionSlope", "1"), 1)[0])
    offset = float(_numbers(path, fields.get("ElementToIntensityFunctionOffset", "0"), 1)[0])
    if (slope, offset) != (1.0, 0.0):
        raise DataError(f"{path}: its voxels are scaled, which readers of MetaImage ignore; save the scaled values.")
    big = any(_is_true(fields.get(name)) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    local = fields[METAIMAGE_DATA].upper() == "LOCAL"
    rows = _first(fields, "TransformMatrix", "Orientation", "Rotation")
    directions = _numbers(path, rows, axes**2).reshape(axes, axes) if rows else np.eye(axes)
    origin = _first(fields, "Offset", "Position", "Origin")
    spacing = _first(fields, "ElementSpacing", "ElementSize")
    return _Header(
        size=size,
        dtype=_dtype(path, fields["ElementType"], METAIMAGE_TYPES, ">" if big else "<"),
        columns_mm=directions.T * _spacing_mm(path, spacing, axes, "ElementSpacing"),
        origin_mm=_numbers(path, origin, axes) if origin else np.zeros(axes),
        data=path if local else _beside(path, fields[METAIMAGE_DATA]),
        skip=_whole(path, fields.get("HeaderSize", "0")) or (end if local else 0),
        compressed=_is_true(fields.get("CompressedData")),
        modality=METAIMAGE_MODALITIES.get(fields.get("Modality", "")),
        notes=() if rows else (UNPLACED,),
    )


def _nrrd(path: Path) -> _Header:
    text, stop = _header_text(path, NRRD_END)
    lines = text.splitlines()
    if not lines or not NRRD_MAGIC.fullmatch(lines[0]):
        raise DataError(f"{path}: not an NRRD file; check what was saved under this name.")
    listed = [line for line in lines[1:] if not line.startswith("#") and ":=" not in line]
    fields = {name.lower(): value for name, value in _fields(listed, ":").items()}
    if missing := [name for name in ("dimension", "sizes", "type", "encoding") if name not in fields]:
        raise DataError(f"{path}: its NRRD header has no {' and no '.join(missing)}; export it again.")
    kinds = fields.get("kinds", "").split()
    if any(kind not in ("domain", "space", "???", "none") for kind in kinds):
        raise DataError(f"{path}: several values a voxel ({', '.join(kinds)}), not intensities; save one of them.")
    if quantised := [name for name in ("old min", "oldmin", "old max", "oldmax") if name in fields]:
        raise DataError(f"{path}: its values are quantised ({quantised[0]}); save the values that they stand for.")
    if _whole(path, _first(fields, "line skip", "lineskip") or "0"):
        raise DataError(f"{path}: lines are to be skipped before its voxels, which is not read; save it anew.")
    size = _sizes(path, fields["sizes"], _whole(path, fields["dimension"]))
    encoding, order = fields["encoding"].lower(), fields.get("endian", "").lower()
    if encoding not in ("raw", *NRRD_GZIP):
        raise DataError(f"{path}: NRRD in {encoding} is not read; save it raw or with gzip.")
    data = _first(fields, "data file", "datafile")
    skip = _whole(path, _first(fields, "byte skip", "byteskip") or "0")
    if skip and (data is None or encoding in NRRD_GZIP):
        raise DataError(f"{path}: bytes are to be skipped before its voxels, which is not read; save it anew.")
    columns, origin, notes = _nrrd_geometry(path, fields, len(size))
    dtype = _dtype(path, fields["type"].lower(), NRRD_TYPES, ">" if order == "big" else "<")
    if dtype.itemsize > 1 and order not in ("big", "little"):
        raise DataError(f"{path}: its header does not say the order of bytes (endian); export it again.")
    return _Header(
        size=size,
        dtype=dtype,
        columns_mm=columns,
        origin_mm=origin,
        data=path if data is None else _beside(path, data),
        skip=stop if data is None else skip,
        compressed=encoding in NRRD_GZIP,
        notes=notes,
    )


def _nrrd_geometry(path: Path, fields: Mapping[str, str], axes: int) -> tuple[Floats, Floats, tuple[str, ...]]:
    """The steps along the axes and the origin in LPS+ mm, and what is odd about them."""
    units = set(re.findall(r'"([^"]*)"', _first(fields, "space units", "units") or ""))
    if units - {"mm", "", "millimeter", "millimetre"}:
        raise GeometryError(f"{path}: lengths in {', '.join(sorted(units))}; save it in mm.")
    if "space directions" not in fields:
        spacing = _spacing_mm(path, fields.get("spacings"), axes, "space directions")
        return np.diag(spacing), np.zeros(axes), (UNPLACED,)
    vectors = [_vector(path, text) for text in re.findall(r"\([^)]*\)|none", fields["space directions"])]
    dimensions = {len(vector) for vector in vectors}
    if len(vectors) != axes or dimensions not in ({2}, {3}):
        raise GeometryError(f"{path}: space directions {fields['space directions']} are no grid; export it again.")
    width = dimensions.pop()
    space = fields.get("space", "").lower()
    if space and space not in NRRD_TO_LPS:
        raise GeometryError(f"{path}: the space {space} is not known; save it in left-posterior-superior.")
    signs = np.array(NRRD_TO_LPS.get(space, (1, 1, 1)), float)[:width]
    origin = _vector(path, fields["space origin"]) if "space origin" in fields else np.zeros(width)
    if len(origin) != width:
        raise GeometryError(f"{path}: the space origin {fields['space origin']} has no {width} axes; export it again.")
    return np.array(vectors).T * signs[:, None], origin * signs, () if space else (UNPLACED,)


def _vector(path: Path, text: str) -> Floats:
    """The numbers of ``(1,0,0)``; none of ``none``, the word for an axis that is not in space."""
    inner = text.strip("() ").replace(",", " ")
    return np.array([]) if inner == "none" else _numbers(path, inner, len(inner.split()))


def _spacing_mm(path: Path, text: str | None, axes: int, name: str) -> Floats:
    """The voxel spacing (axes,) of a header in which the field of a name has it."""
    if text is None:
        raise GeometryError(f"{path}: its header has no voxel spacing ({name}); export it again.")
    spacing = _numbers(path, text, axes)
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise GeometryError(f"{path}: a voxel spacing of {text} mm is not positive; export it again.")
    return spacing


def _header_text(path: Path, end: re.Pattern[bytes]) -> tuple[str, int]:
    """The text of a header up to ``end``, else of the whole file, and the byte at which what follows it begins."""
    try:
        with open_regular(path) as file:
            block = file.read(LONGEST_HEADER_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None
    match = end.search(block)
    if match is None and len(block) == LONGEST_HEADER_BYTES:
        raise DataError(f"{path}: its header has no end; check what was saved under this name.")
    stop = match.end() if match else len(block)
    return block[:stop].decode(errors="surrogateescape"), stop


def _fields(lines: Sequence[str], separator: str) -> dict[str, str]:
    """The fields of a header, by name; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in lines:
        name, separated, value = line.partition(separator)
        if separated:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _first(fields: Mapping[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1", "t")


def _numbers(path: Path, text: str, count: int) -> Floats:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([])
    if len(values) != count:
        raise DataError(f"{path}: {count} numbers were expected in its header, not '{text[:60]}'; export it again.")
    return values


def _whole(path: Path, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{path}: a whole number was expected in its header, not '{text[:60]}'.") from None


def _sizes(path: Path, text: str, axes: int) -> tuple[int, ...]:
    """How many voxels there are along each axis of an image or a volume."""
    lengths = tuple(_whole(path, word) for word in text.split())
    if axes > 3:
        raise DataError(f"{path}: {axes}D with shape {lengths}; split it into 3D volumes first.")
    if len(lengths) != axes or axes < 2 or min(lengths) < 1:
        raise DataError(f"{path}: {axes} axes of lengths {lengths} are no image or volume; export it again.")
    return lengths


def _dtype(path: Path, kind: str, types: Mapping[str, str], order: str) -> np.dtype[Any]:
    """The type of stored voxels by the header's word for it; ``order`` is ``<`` or ``>``."""
    if kind not in types:
        raise DataError(f"{path}: voxels of type {kind} are no intensities; save it as short or float.")
    return np.dtype(order + types[kind])


def _beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names: one file, in the header's own folder."""
    here = Path(os.path.normpath(path.parent))
    if not name or "\0" in name or (place := Path(os.path.normpath(here / name))) == here / path.name:
        raise DataError(f"{path}: its header names no file of voxels ({name[:60]!r}); export it again.")
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError(f"{path}: its voxels are in several files; save it as one file first.")
    if place.parent != here:
        raise DataError(f"{path}: its voxels ({name}) are not in its own folder; move the two together.")
    return path.with_name(place.name)


def _grid(path: Path, header: _Header) -> Grid:
    """The grid that a header tells of, once its file is known to be able to hold it."""
    check_regular(header.data)
    if header.compressed and header.skip < 0:
        raise DataError(f"{path}: where its compressed voxels begin is not said; save it anew.")
    skipped = max(header.skip, 0)
    check_promise(path, header.size, header.bytes, header.data, before=skipped, compressed=header.compressed)
    return grid_in_lps(path, header.size, header.columns_mm, header.origin_mm)


def _voxel_bytes(header: _Header) -> bytes | bytearray:
    """The bytes of the voxels, and one more where the file holds more."""
    path, needed = header.data, header.bytes
    try:
        with open_regular(path) as file:
            file.seek(header.skip if header.skip >= 0 else path.stat().st_size - needed)
            content = _inflated(file, needed + 1) if header.compressed else file.read(needed + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    except EOFError:
        raise DataError(f"{path}: truncated, its compressed voxels end too early; copy it again.") from None
    except zlib.error as error:
        raise DataError(f"{path}: corrupt compressed voxels ({error}); copy it again.") from None
    if len(content) < needed:
        raise DataError(f"{path}: truncated, {len(content):,} of {needed:,} bytes of voxels; copy it again.")
    return content


def _inflated(file: IO[bytes], most: int) -> bytearray:
    """A stream's first bytes; its checksum has been compared where there are fewer than ``most``."""
    stream, content = zlib.decompressobj(ANY_WRAPPING), bytearray()
    while not stream.eof and len(content) < most:
        block = stream.unconsumed_tail or file.read(CHUNK_BYTES)
        if not block:
            raise EOFError
        content += stream.decompress(block, most - len(content))
    return content
