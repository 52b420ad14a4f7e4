"""Voxels as plain bytes behind a text header, in the same file or in one beside it: MetaImage and NRRD.

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

from medgan.data.grid import Grid, Volume, affine_from_lps, check_affine, check_finite, made_up_grid
from medgan.data.streams import check_promise, check_regular, open_regular, unreadable
from medgan.errors import DataError, GeometryError

LONGEST_HEADER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
ANY_WRAPPING = 47
"""zlib's word for a stream that is wrapped as gzip or as zlib."""


@dataclass(frozen=True, eq=False)
class TextHeader:
    """What a header says of the voxels."""

    size: tuple[int, ...]
    """(X, Y) or (X, Y, Z): the first runs fastest in the file."""
    dtype: np.dtype[Any]
    """As stored, with its byte order."""
    columns_mm: NDArray[np.float64]
    """(2 or 3, axes): the step along each axis in LPS+ mm."""
    origin_mm: NDArray[np.float64]
    """(2 or 3,): the centre of the first voxel in LPS+ mm."""
    data: Path
    """The file that holds the voxels."""
    skip: int
    """Bytes before the voxels; -1 where these end the file."""
    compressed: bool
    """As a gzip or zlib stream."""
    modality: str | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, header: TextHeader) -> Volume:
    """The voxels that a header tells of.

    Raises:
        DataError: Truncated or corrupt voxels, a header that promises more than its file holds, NaN.
        GeometryError: A grid that an output could not lie on exactly.
    """
    grid = read_grid(path, header)
    content, more = _bytes(header, _needed(header))
    raw = np.frombuffer(content, header.dtype).reshape(grid.size, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
        voxels = raw.astype(np.float32)
    check_finite(path, voxels)
    longer = ("its file holds more than its header tells of",) if more else ()
    return Volume(voxels, grid, path, header.modality, (*header.notes, *longer))


def read_grid(path: Path, header: TextHeader) -> Grid:
    """The grid that a header tells of, once its file is known to be able to hold it."""
    check_regular(header.data)
    if header.compressed and header.skip < 0:
        raise DataError(f"{path}: where its compressed voxels begin is not said; save it anew.")
    before = max(header.skip, 0)
    check_promise(path, header.size, _needed(header), header.data, before=before, compressed=header.compressed)
    x, y, z = (*header.size, 1)[:3]
    affine = _affine(path, header)
    check_affine(path, affine, (x, y, z))
    return made_up_grid((x, y, z), affine)


def header_text(path: Path, end: re.Pattern[bytes]) -> tuple[str, int]:
    """The text of a header, and the byte at which what follows it begins.

    Args:
        path: A regular file.
        end: What the header ends with; where that is missing, the header is the whole file.

    Raises:
        DataError: The file cannot be read, or its header has no end.
    """
    try:
        with open_regular(path) as file:
            block = file.read(LONGEST_HEADER_BYTES)
    except OSError as error:
        raise unreadable(path, error) from None
    found = end.search(block)
    if found is None and len(block) == LONGEST_HEADER_BYTES:
        raise DataError(f"{path}: its header has no end; check what was saved under this name.")
    stop = found.end() if found else len(block)
    return block[:stop].decode(errors="surrogateescape"), stop


def beside(path: Path, name: str) -> Path:
    """The file of voxels that a header names: one file, in the header's own folder.

    Raises:
        DataError: Several files, one that lies elsewhere, or none.
    """
    here = Path(os.path.normpath(path.parent))
    if not name or "\0" in name or (place := Path(os.path.normpath(here / name))) == here / path.name:
        raise DataError(f"{path}: its header names no file of voxels ({name[:60]!r}); export it again.")
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError(f"{path}: its voxels are in several files; save it as one file first.")
    if place.parent != here:
        raise DataError(f"{path}: its voxels ({name}) are not in its own folder; move the two together.")
    return path.with_name(place.name)


def numbers(path: Path, text: str, count: int) -> NDArray[np.float64]:
    """Numbers of a header, separated by blanks.

    Raises:
        DataError: Others than ``count`` numbers.
    """
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([])
    if len(values) != count:
        raise DataError(f"{path}: {count} numbers were expected in its header, not '{text[:60]}'; export it again.")
    return values


def whole(path: Path, text: str) -> int:
    """A whole number of a header.

    Raises:
        DataError: It is none.
    """
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{path}: a whole number was expected in its header, not '{text[:60]}'.") from None


def sizes(path: Path, text: str, axes: int) -> tuple[int, ...]:
    """How many voxels there are along each axis of an image or a volume.

    Raises:
        DataError: Neither two nor three axes, or one without voxels.
    """
    lengths = tuple(whole(path, word) for word in text.split())
    if axes > 3:
        raise DataError(f"{path}: {axes}D with shape {lengths}; split it into 3D volumes first.")
    if len(lengths) != axes or axes < 2 or min(lengths) < 1:
        raise DataError(f"{path}: {axes} axes of lengths {lengths} are no image or volume; export it again.")
    return lengths


def _needed(header: TextHeader) -> int:
    return math.prod(header.size) * header.dtype.itemsize


def _affine(path: Path, header: TextHeader) -> NDArray[np.float64]:
    """The affine (4, 4) to RAS+ mm; a slice is 1 mm thick, along its normal."""
    columns, origin = header.columns_mm, header.origin_mm
    if len(origin) == 2:
        columns, origin = np.vstack([columns, np.zeros(columns.shape[1])]), np.append(origin, 0.0)
    if not (np.isfinite(columns).all() and np.isfinite(origin).all()):
        raise GeometryError(f"{path}: its spacing, directions or origin are not finite; export it again.")
    if columns.shape[1] == 2:
        normal = np.cross(columns[:, 0], columns[:, 1])
        columns = np.column_stack([columns, normal / (np.linalg.norm(normal) or 1.0)])
    return affine_from_lps(origin, columns, np.ones(3))


def _bytes(header: TextHeader, needed: int) -> tuple[bytes, bool]:
    """The bytes of the voxels, and whether the file holds more."""
    path = header.data
    try:
        with open_regular(path) as file:
            file.seek(header.skip if header.skip >= 0 else path.stat().st_size - needed)
            content, more = _inflated(file, needed) if header.compressed else (file.read(needed), bool(file.read(1)))
    except OSError as error:
        raise unreadable(path, error) from None
    except EOFError:
        raise DataError(f"{path}: truncated, its compressed voxels end too early; copy it again.") from None
    except zlib.error as error:
        raise DataError(f"{path}: corrupt compressed voxels ({error}); copy it again.") from None
    if len(content) < needed:
        raise DataError(f"{path}: truncated, {len(content):,} of {needed:,} bytes of voxels; copy it again.")
    return content, more


def _inflated(file: IO[bytes], needed: int) -> tuple[bytes, bool]:
    """A stream's first bytes, and whether there are more; its checksum has been compared where there are none."""
    stream, pieces, length = zlib.decompressobj(ANY_WRAPPING), list[bytes](), 0
    while not stream.eof and length <= needed:
        block = stream.unconsumed_tail or file.read(CHUNK_BYTES)
        if not block:
            raise EOFError
        pieces.append(stream.decompress(block, needed + 1 - length))
        length += len(pieces[-1])
        if length > needed:
            break
    return b"".join(pieces)[:needed], length > needed


def dtype_of(path: Path, kind: str, types: Mapping[str, str], order: str) -> np.dtype[Any]:
    """The type of stored voxels.

    Args:
        path: For the message.
        kind: The header's word for it.
        types: numpy's code by the format's words.
        order: ``<`` or ``>``.

    Raises:
        DataError: A type that holds no intensities.
    """
    if kind not in types:
        raise DataError(f"{path}: voxels of type {kind} are no intensities; save it as short or float.")
    return np.dtype(order + types[kind])


def fields_of(lines: Sequence[str], separator: str) -> dict[str, str]:
    """The fields of a header, by name; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in lines:
        name, found, value = line.partition(separator)
        if found:
            fields.setdefault(name.strip(), value.strip())
    return fields
