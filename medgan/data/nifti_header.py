# mypy: untyped-calls-exclude="nibabel"
"""A NIfTI header judged as it is stored, before any voxel is read and any memory is taken for one.

nibabel repairs a doubtful header while it loads (a zero spacing becomes 1 mm, a handedness of 0 becomes 1). Here the
raw bytes are judged instead, so that the same raw fields can be written back.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medgan.data.grid import UNPLACED, Grid, check_affine, drift_voxels, geometry_fields
from medgan.data.streams import TrailingBytesError, check_promise, is_gzip, opened, whole_members
from medgan.errors import DataError, GeometryError

LARGEST_DRIFT_VOXELS = 0.5
"""How far apart sform and qform may lie unmentioned."""

MM_PER_UNIT = {1: 1e3, 2: 1.0, 3: 1e-3}
"""By ``xyzt_units & 7``: metres, millimetres, micrometres. A file without a unit is taken to be in millimetres."""


def raw_header(path: Path) -> Nifti1Header:
    """The header as stored, once its magic, axes, voxel type and promised size have been checked.

    Args:
        path: A NIfTI-1 or NIfTI-2 file of either byte order, compressed or not.

    Returns:
        The unrepaired header; a ``Nifti2Header``, which is a kind of ``Nifti1Header``, for NIfTI-2.

    Raises:
        DataError: Not one NIfTI file, 4D, colour, complex, or a header that promises more than the file can hold.
    """
    try:
        with opened(path) as stream:
            block = stream.read(Nifti2Header.sizeof_hdr)
    except TrailingBytesError:
        block = whole_members(path, Nifti2Header.sizeof_hdr).read(Nifti2Header.sizeof_hdr)
    if Nifti1Header.may_contain_header(block):
        header = Nifti1Header(block[: Nifti1Header.sizeof_hdr], check=False)
    elif Nifti2Header.may_contain_header(block):
        header = Nifti2Header(block, check=False)
    else:
        raise DataError(
            f"{path}: not a NIfTI file (it starts with {block[:8]!r}); check what was saved under this name."
        )
    if not header["magic"].item().startswith(b"n+"):
        raise DataError(f"{path}: the header of a .hdr/.img pair; convert the pair to one .nii.gz first.")
    _check_axes(path, header)
    _check_type(path, header)
    _check_promise(path, header)
    return header


def grid_of(path: Path, header: Nifti1Header) -> Grid:
    """Where a checked header's voxels lie; the file's path is for the messages.

    Raises:
        GeometryError: Zero, negative, infinite or impossible spacing, or an affine that is singular or sheared.
    """
    affine = _affine_mm(path, header)
    grid = Grid(shape=_shape(header), affine=affine, fields=geometry_fields(header))
    check_affine(path, affine, grid.size)
    return grid


def notes_on(path: Path, header: Nifti1Header, grid: Grid) -> tuple[str, ...]:
    """What is odd about where a checked header says that its voxels lie."""
    if not (header["qform_code"] > 0 or header["sform_code"] > 0):
        return (UNPLACED,)
    if header["qform_code"] > 0 and header["sform_code"] > 0:
        alone = header.copy()
        alone["sform_code"] = 0
        try:
            drift = drift_voxels(grid, replace(grid, affine=_affine_mm(path, alone)))
        except (GeometryError, np.linalg.LinAlgError):
            return ("its qform cannot be read; the sform was taken",)
        if not drift <= LARGEST_DRIFT_VOXELS:
            return (f"its sform and qform disagree, by {drift:.2g} voxels at a corner; the sform was taken",)
    return ()


def voxel_offset(path: Path, header: Nifti1Header) -> int:
    """The byte at which the voxels start; a stored 0 means "right after the header"."""
    offset = float(header["vox_offset"])
    if offset == 0:
        return int(header.single_vox_offset)
    if not (math.isfinite(offset) and offset >= header.single_vox_offset):
        raise DataError(
            f"{path}: the voxels would start at byte {offset:g}, inside the header; export the study again."
        )
    return int(offset)


def _shape(header: Nifti1Header) -> tuple[int, ...]:
    return tuple(int(length) for length in header["dim"][1 : int(header["dim"][0]) + 1])


def _check_axes(path: Path, header: Nifti1Header) -> None:
    axes, shape = int(header["dim"][0]), _shape(header)
    if not 2 <= axes <= 7 or min(shape) < 1:
        raise DataError(f"{path}: {axes} axes of lengths {shape} are no image or volume; export the study again.")
    if any(length > 1 for length in shape[3:]):
        raise DataError(f"{path}: {axes}D with shape {shape}; split it into 3D volumes first.")


def _check_type(path: Path, header: Nifti1Header) -> None:
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        raise DataError(f"{path}: unknown voxel type {code}; save it as int16 or float32.") from None
    if dtype.fields is not None:
        raise DataError(f"{path}: the voxels are RGB colours, not intensities; convert the original study instead.")
    if dtype.kind == "c":
        raise DataError(f"{path}: the voxels are complex numbers; save their magnitude first.")
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {code} are no numbers; save it as int16 or float32.")


def _check_promise(path: Path, header: Nifti1Header) -> None:
    shape = _shape(header)
    needed = voxel_offset(path, header) + math.prod(shape) * int(header.get_data_dtype().itemsize)
    check_promise(path, shape, needed, path, compressed=is_gzip(path))


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
