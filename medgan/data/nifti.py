# mypy: untyped-calls-exclude="nibabel"
"""NIfTI files: voxels in, and voxels out on the input's grid to the bit."""

import math
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import array_from_file
from numpy.typing import DTypeLike, NDArray

from medgan.data.grid import Grid, Volume, check_finite, slabs
from medgan.data.nifti_header import grid_of, notes_on, raw_header, voxel_offset
from medgan.data.streams import TrailingBytesError, opened, replacing, whole_members
from medgan.errors import DataError

SUFFIXES = (".nii", ".nii.gz")

LABEL_INTENTS, STATISTIC_INTENTS = (1002, 1003), range(2, 25)
"""NIFTI_INTENT_LABEL and NEURONAME; correlations, z scores and the like."""

DESCRIP_BYTES = 79
"""The header's field has 80, and its last ends the text."""


def read(path: Path) -> Volume:
    """The voxels of a NIfTI-1 or NIfTI-2 file, scaled by its slope and intercept.

    Args:
        path: ``.nii`` or ``.nii.gz``; whether it is compressed is told by its first bytes.

    Raises:
        DataError: Not a NIfTI file, truncated, corrupt, 4D, colour or complex, NaN, or a header that asks for too much.
        GeometryError: Zero spacing, or an affine that is singular or sheared.
    """
    header = raw_header(path)
    grid = grid_of(path, header)
    notes = notes_on(path, header, grid)
    try:
        with opened(path) as whole:
            voxels = _voxels(path, whole, header, grid)
    except TrailingBytesError:
        end = voxel_offset(path, header) + math.prod(grid.size) * header.get_data_dtype().itemsize
        stream = whole_members(path, end)
        if stream.getbuffer().nbytes < end:
            raise DataError(f"{path}: corrupt gzip, something else is in its middle; copy it again.") from None
        voxels = _voxels(path, stream, header, grid)
        notes = (*notes, "bytes that are no part of it follow its compressed data")
    check_finite(path, voxels)
    modality, said = _said(header)
    return Volume(voxels, grid, path, modality, (*notes, *said))


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI file, after the same checks of its header as in ``read``."""
    return grid_of(path, raw_header(path))


def whole_type(path: Path) -> np.dtype[Any] | None:
    """The type of a file's voxels, in this machine's byte order; None where they are fractions or scaled."""
    header = raw_header(path)
    dtype = np.dtype(header.get_data_dtype()).newbyteorder("=")
    return dtype if dtype.kind in "iu" and _scaling(path, header) is None else None


def write(
    voxels: NDArray[Any], grid: Grid, path: Path, dtype: DTypeLike, *, descrip: str = "", labels: bool = False
) -> None:
    """Write voxels on a grid, whole or not at all: slope 1, intercept 0, and no text or extension of the input's.

    A grid that was read from NIfTI-2 is written as NIfTI-2, whose fields are wider. Equal voxels give equal bytes.

    Args:
        voxels: ``grid.size``; finite, in the range of ``dtype``, and already rounded where that is an integer type.
        grid: Where they lie; its raw fields are copied to the bit.
        path: ``.nii`` or ``.nii.gz``; missing folders are made.
        dtype: How they are stored: int16 for CT, uint8 for a mask.
        descrip: What the header says of the image, where readers show its description; cut to 79 letters of ASCII.
        labels: Whether the values are labels, which the header's intent then says.

    Raises:
        DataError: Voxels that do not fit the grid or the type, or a file that cannot be written.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: volumes are written as NIfTI; let the name end in .nii.gz.")
    _check_stored(path, voxels, grid, np.dtype(dtype))
    header = Nifti2Header() if grid.fields["pixdim"].dtype == np.float64 else Nifti1Header()
    header.set_data_dtype(np.dtype(dtype))
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = descrip.encode("ascii", "replace")[:DESCRIP_BYTES]
    if labels:
        header.set_intent("label")
    for name, value in grid.fields.items():
        header[name] = value
    with replacing(path) as stream:
        header.write_to(stream)
        for slab in slabs(grid.size):
            # In the file the first axis runs fastest.
            stream.write(np.ascontiguousarray(voxels[..., slab].T, dtype).data)


def _voxels(path: Path, stream: IO[bytes], header: Nifti1Header, grid: Grid) -> NDArray[np.float32]:
    """The intensities (X, Y, Z) of a file that is read to its end."""
    voxels = np.empty(grid.size, np.float32, order="F")
    start, dtype = voxel_offset(path, header), header.get_data_dtype()
    for slab in slabs(grid.size):
        part = voxels[..., slab]
        raw = array_from_file(part.shape, dtype, cast("Any", stream), start, mmap=False)
        part[...] = _scaled(path, header, raw)
        start += raw.nbytes
    while stream.read(1 << 20):  # the checksum of a gzip stream stands at its end, and is compared only there
        pass
    return voxels


def _said(header: Nifti1Header) -> tuple[str | None, tuple[str, ...]]:
    """What the header's intent says that the voxels are, in DICOM's words, and what is odd about it."""
    intent = int(header["intent_code"])
    if intent in LABEL_INTENTS:
        return "SEG", ()
    if intent in STATISTIC_INTENTS:
        return None, ("its header says that it holds the values of a statistic",)
    return None, ()


def _scaled(path: Path, header: Nifti1Header, raw: NDArray[Any]) -> NDArray[np.float32]:
    """The intensities that stored voxels (X, Y, Z) stand for."""
    scaling = _scaling(path, header)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
        if scaling:
            raw = raw * np.float64(scaling[0]) + np.float64(scaling[1])
        return raw.astype(np.float32)


def _scaling(path: Path, header: Nifti1Header) -> tuple[float, float] | None:
    """Slope and intercept; None where stored voxels are the intensities."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise DataError(f"{path}: the intensity scaling is unusable ({error}); export the study again.") from None
    return None if slope is None or (slope, intercept) == (1, 0) else (slope, intercept)


def _check_stored(path: Path, voxels: NDArray[Any], grid: Grid, dtype: np.dtype[Any]) -> None:
    """Refuse voxels that would lose more than the precision of floats in the type of the file."""
    if voxels.shape != grid.size:
        raise DataError(f"{path}: voxels {voxels.shape} do not fit a grid of {grid.size}; nothing was written.")
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    lowest, highest = voxels.min(), voxels.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):  # NaN is the minimum of whatever it is in
        raise DataError(f"{path}: NaN or infinite voxels would be written; nothing was written.")
    if lowest < limits.min or highest > limits.max:
        raise DataError(f"{path}: {dtype} cannot hold {lowest:g} to {highest:g}; clip them first, or store float32.")
    if dtype.kind in "iu" and voxels.dtype != dtype:
        parts = (voxels[..., slab] for slab in slabs(grid.size))
        if any(not np.array_equal(part.astype(dtype), part) for part in parts):
            raise DataError(f"{path}: {dtype} would cut off the fractions; round the intensities first.")
