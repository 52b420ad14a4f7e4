# mypy: untyped-calls-exclude="nibabel"
"""NIfTI files: voxels in, and voxels out on the input's grid to the bit.

nibabel repairs a doubtful header while it loads (a zero spacing becomes 1 mm, a handedness of 0 becomes 1). Here the
raw bytes are judged instead, before any voxel is read, so that the same raw fields can be written back.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import array_from_file
from numpy.typing import DTypeLike, NDArray

from medgan.data.grid import UNPLACED, Grid, Volume, check_affine, check_finite, drift_voxels, geometry_fields, slabs
from medgan.data.streams import TrailingBytesError, check_promise, is_gzip, opened, replacing, whole_members
from medgan.errors import DataError, GeometryError

SUFFIXES = (".nii", ".nii.gz")

LABEL_INTENTS, STATISTIC_INTENTS = (1002, 1003), range(2, 25)
"""NIFTI_INTENT_LABEL and NEURONAME; correlations, z scores and the like."""

DESCRIP_BYTES = 79
"""The header's field has 80, and its last ends the text."""

LARGEST_DRIFT_VOXELS = 0.5
"""How far apart sform and qform may lie unmentioned."""

MM_PER_UNIT = {1: 1e3, 2: 1.0, 3: 1e-3}
"""By ``xyzt_units & 7``: metres, millimetres, micrometres. A file without a unit is taken to be in millimetres."""


def read(path: Path) -> Volume:
    """The voxels of a NIfTI-1 or NIfTI-2 file, scaled by its slope and intercept, compressed or not."""
    header = _header(path)
    grid = _grid(path, header)
    notes = _notes(path, header, grid)
    try:
        with opened(path) as stream:
            voxels = _voxels(path, stream, header, grid)
    except TrailingBytesError:
        end = _voxel_offset(path, header) + math.prod(grid.size) * header.get_data_dtype().itemsize
        content = whole_members(path, end)
        if content.getbuffer().nbytes < end:
            raise DataError(f"{path}: corrupt gzip, something else is in its middle; copy it again.") from None
        voxels = _voxels(path, content, header, grid)
        notes = (*notes, "bytes that are no part of it follow its compressed data")
    return _volume(path, header, grid, voxels, notes)


def volume_of(image: Nifti1Pair, path: Path) -> Volume:
    """The voxels of an image in memory, as ``read`` gives them of the file that nibabel would save without loss.

    The image stays as it is. ``path`` is what messages call it, else its own.
    """
    try:
        header = type(image)(image.dataobj, image.affine, image.header).header  # what saving makes of it
    except HeaderDataError as error:
        raise DataError(f"{path}: no NIfTI image can hold it ({error}); give an image or a volume.") from None
    stored, scaling = image.dataobj, None
    if isinstance(stored, ArrayProxy):
        scaling = None if (stored.slope, stored.inter) == (1, 0) else (stored.slope, stored.inter)
        stored = stored.get_unscaled()
    stored = np.asanyarray(stored)
    _check_axes(path, header)
    check_type(path, stored.dtype)
    grid = _grid(path, header)
    stored, voxels = stored.reshape(grid.size), np.empty(grid.size, np.float32, order="F")
    for slab in slabs(grid.size):
        voxels[..., slab] = _scaled(stored[..., slab], scaling)
    return _volume(path, header, grid, voxels, _notes(path, header, grid))


def image_of(voxels: NDArray[Any], grid: Grid, like: Nifti1Pair | None, descrip: str = "", labels: bool = False) -> Any:
    """An image with voxels on a grid, as ``write`` would write them in their own type; of the class of ``like``."""
    header = _written_header(grid, voxels.dtype, descrip, labels)
    stored = voxels.reshape(grid.shape)
    if like is not None:
        return type(like)(stored, like.affine, header)
    kind: Any = Nifti2Image if isinstance(header, Nifti2Header) else Nifti1Image
    return kind(stored, header.get_best_affine(), header)


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI file, after the same checks of its header as in ``read``."""
    return _grid(path, _header(path))


def whole_type(path: Path) -> np.dtype[Any] | None:
    """The type of a file's voxels, in this machine's byte order; None where they are fractions or scaled."""
    header = _header(path)
    dtype = np.dtype(header.get_data_dtype()).newbyteorder("=")
    return dtype if dtype.kind in "iu" and _scaling(path, header) is None else None


def write(
    voxels: NDArray[Any], grid: Grid, path: Path, dtype: DTypeLike, *, descrip: str = "", labels: bool = False
) -> None:
    """Write voxels on a grid, whole or not at all: slope 1, intercept 0, and no text or extension of the input's.

    A grid that was read from NIfTI-2 is written as NIfTI-2, whose fields are wider. Equal voxels give equal bytes.
    Voxels are finite, in the range of ``dtype`` (int16 for CT, uint8 for a mask) and rounded where that is an integer
    type; the grid's raw fields are copied to the bit. ``descrip`` is where readers show an image's description, and
    is cut to 79 letters of ASCII. ``labels`` says that the values are labels.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: volumes are written as NIfTI; let the name end in .nii.gz.")
    _check_stored(path, voxels, grid, np.dtype(dtype))
    header = _written_header(grid, np.dtype(dtype), descrip, labels)
    with replacing(path) as stream:
        header.write_to(stream)
        for slab in slabs(grid.size):
            # In the file the first axis runs fastest.
            stream.write(np.ascontiguousarray(voxels[..., slab].T, dtype).data)


def _written_header(grid: Grid, dtype: np.dtype[Any], descrip: str, labels: bool) -> Nifti1Header:
    """That of an output on a grid; see :func:`write`."""
    header = Nifti2Header() if grid.fields["pixdim"].dtype == np.float64 else Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = descrip.encode("ascii", "replace")[:DESCRIP_BYTES]
    if labels:
        header.set_intent("label")
    for name, value in grid.fields.items():
        header[name] = value
    return header


def _volume(
    path: Path, header: Nifti1Header, grid: Grid, voxels: NDArray[np.float32], notes: tuple[str, ...]
) -> Volume:
    """Checked voxels with what their header says of them."""
    check_finite(path, voxels)
    intent = int(header["intent_code"])
    if intent in STATISTIC_INTENTS:
        notes = (*notes, "its header says that it holds the values of a statistic")
    return Volume(voxels, grid, path, "SEG" if intent in LABEL_INTENTS else None, notes)


def _header(path: Path) -> Nifti1Header:
    """The unrepaired header; a ``Nifti2Header``, which is a kind of ``Nifti1Header``, for NIfTI-2."""
    try:
        with opened(path) as stream:
            block = stream.read(Nifti2Header.sizeof_hdr)
    except TrailingBytesError:
        block = whole_members(path, Nifti2Header.sizeof_hdr).read(Nifti2Header.sizeof_hdr)
    kinds: tuple[type[Nifti1Header], ...] = (Nifti1Header, Nifti2Header)
    kind = next((kind for kind in kinds if kind.may_contain_header(block)), None)
    if kind is None:
        raise DataError(f"{path}: not a NIfTI file (it starts with {block[:8]!r}); check what was saved so.")
    header = kind(block[: kind.sizeof_hdr], check=False)
    if not header["magic"].item().startswith(b"n+"):
        raise DataError(f"{path}: the header of a .hdr/.img pair; convert the pair to one .nii.gz first.")
    _check_axes(path, header)
    shape = _shape(header)
    needed = _voxel_bytes(path, header) * math.prod(shape)
    check_promise(path, shape, _voxel_offset(path, header) + needed, path, compressed=is_gzip(path))
    return header


def _check_axes(path: Path, header: Nifti1Header) -> None:
    """Refuse what is neither one image nor one volume."""
    axes, shape = int(header["dim"][0]), _shape(header)
    if not 2 <= axes <= 7 or min(shape) < 1:
        raise DataError(f"{path}: {axes} axes of lengths {shape} are no image or volume; export the study again.")
    if any(length > 1 for length in shape[3:]):
        raise DataError(f"{path}: {axes}D with shape {shape}; split it into 3D volumes first.")


def _voxel_bytes(path: Path, header: Nifti1Header) -> int:
    """What a voxel takes; refuses those that are no intensities."""
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        raise DataError(f"{path}: unknown voxel type {code}; save it as int16 or float32.") from None
    check_type(path, dtype, code)
    return int(dtype.itemsize)


def check_type(path: Path, dtype: np.dtype[Any], name: object = None) -> None:
    """Refuse a type of voxels that are no intensities; ``name`` is what messages call it."""
    if dtype.fields is not None:
        raise DataError(f"{path}: the voxels are RGB colours, not intensities; convert the original study instead.")
    if dtype.kind == "c":
        raise DataError(f"{path}: the voxels are complex numbers; save their magnitude first.")
    if dtype.kind not in "iuf":
        raise DataError(
            f"{path}: voxels of type {dtype if name is None else name} are no numbers; save it as int16 or float32."
        )


def _shape(header: Nifti1Header) -> tuple[int, ...]:
    return tuple(int(length) for length in header["dim"][1 : int(header["dim"][0]) + 1])


def _voxel_offset(path: Path, header: Nifti1Header) -> int:
    """The byte at which the voxels start; a stored 0 means "right after the header"."""
    offset = float(header["vox_offset"])
    if offset == 0:
        return int(header.single_vox_offset)
    if not (math.isfinite(offset) and offset >= header.single_vox_offset):
        raise DataError(f"{path}: its voxels would start at byte {offset:g}, inside the header; export it again.")
    return int(offset)


def _grid(path: Path, header: Nifti1Header) -> Grid:
    grid = Grid(shape=_shape(header), affine=_affine_mm(path, header), fields=geometry_fields(header))
    check_affine(path, grid.affine, grid.size)
    return grid


def _affine_mm(path: Path, header: Nifti1Header) -> NDArray[np.float64]:
    """The affine (4, 4) that nibabel takes for the best: the sform, else the qform, else the spacing alone.

    Where sform and qform are both set and disagree, the sform counts here, and the fields keep both.
    """
    spatial = min(int(header["dim"][0]), 3)
    spacing = header["pixdim"][1 : spatial + 1]
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        text = " × ".join(f"{length:g}" for length in spacing)
        raise GeometryError(f"{path}: a voxel spacing of {text} is not positive; correct it or export the study again.")
    trusted = header.copy()
    trusted["pixdim"][spatial + 1 : 4] = 1  # the spacing along an axis that a 2D file does not have
    if trusted["pixdim"][0] not in (-1, 1):
        trusted["pixdim"][0] = 1  # the standard: take a handedness of 0 for 1
    try:
        affine = np.array(trusted.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path}: the orientation cannot be read ({error}); export the study again.") from None
    affine[:3] *= MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine


def _notes(path: Path, header: Nifti1Header, grid: Grid) -> tuple[str, ...]:
    """What is odd about where a header says that its voxels lie."""
    qform, sform = header["qform_code"] > 0, header["sform_code"] > 0
    if not (qform and sform):
        return () if qform or sform else (UNPLACED,)
    alone = header.copy()
    alone["sform_code"] = 0
    try:
        drift = drift_voxels(grid, replace(grid, affine=_affine_mm(path, alone)))
    except (GeometryError, np.linalg.LinAlgError):
        return ("its qform cannot be read; the sform was taken",)
    if drift <= LARGEST_DRIFT_VOXELS:
        return ()
    return (f"its sform and qform disagree, by {drift:.2g} voxels at a corner; the sform was taken",)


def _voxels(path: Path, stream: IO[bytes], header: Nifti1Header, grid: Grid) -> NDArray[np.float32]:
    """The intensities (X, Y, Z) of a file that is read to its end."""
    voxels = np.empty(grid.size, np.float32, order="F")
    start, dtype, scaling = _voxel_offset(path, header), header.get_data_dtype(), _scaling(path, header)
    for slab in slabs(grid.size):
        part = voxels[..., slab]
        raw = array_from_file(part.shape, dtype, cast("Any", stream), start, mmap=False)
        start += raw.nbytes
        part[...] = _scaled(raw, scaling)
    while stream.read(1 << 20):  # the checksum of a gzip stream stands at its end, and is compared only there
        pass
    return voxels


def _scaled(raw: NDArray[Any], scaling: tuple[float, float] | None) -> NDArray[np.float32]:
    """Stored voxels as intensities."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
        return np.asarray(raw if scaling is None else raw * np.float64(scaling[0]) + np.float64(scaling[1]), np.float32)


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
