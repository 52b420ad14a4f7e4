# mypy: untyped-calls-exclude="nibabel"
"""The one entry to images on disk: read and write volumes."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medgan.data import dicom, images, metaimage, nifti, nrrd
from medgan.data.dicom import is_series
from medgan.data.grid import Grid, Volume
from medgan.data.streams import open_regular, unreadable
from medgan.errors import DataError

__all__ = ["Grid", "Volume", "is_series", "read_grid", "read_volume", "stored_type", "write_volume"]

IMAGE_SUFFIXES = (*nifti.SUFFIXES, *images.SUFFIXES, *metaimage.SUFFIXES, *nrrd.SUFFIXES)
"""Names that claim to be an image that medgan reads; DICOM is told by its content, too."""

KINDS = "NIfTI, DICOM, MetaImage, NRRD, PNG or TIFF"
"""What medgan reads, in words."""

FOREIGN = {
    (".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip"): "packed in a way that medgan does not read; unpack it first",
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "a .hdr/.img pair; convert the pair to one .nii.gz first",
    (".mgh", ".mgz"): "FreeSurfer volumes are not read; convert it with `mri_convert` first",
    (".mnc",): "MINC volumes are not read; convert it with `mnc2nii` first",
    (".gipl", ".b2nd"): "such volumes are not read; convert it to .nii.gz first",
}
"""Volume formats that medgan does not read, but does not overlook either, and what to do."""

FOREIGN_SUFFIXES = tuple(suffix for suffixes in FOREIGN for suffix in suffixes)


class Format(Protocol):
    """What a module that reads one kind of file offers."""

    def read(self, path: Path) -> Volume: ...

    def read_grid(self, path: Path) -> Grid: ...


def read_volume(path: Path) -> Volume:
    """Read NIfTI, MetaImage, NRRD, one DICOM slice, a folder that is one DICOM series, or a grey PNG or TIFF.

    Raises:
        DataError: Missing, empty, unreadable or broken files, and kinds of image that medgan refuses by name.
        GeometryError: A grid that an output could not lie on exactly.
    """
    return _format_of(path).read(path)


def read_grid(path: Path) -> Grid:
    """The grid of an image, after the same checks as in ``read_volume``, but without reading its voxels."""
    return _format_of(path).read_grid(path)


def stored_type(path: Path) -> np.dtype[Any]:
    """The type in which an image of the same kind is stored without loss of what ``read_volume`` reads.

    That of a NIfTI file, where it holds whole numbers without scaling; float32 for all else.
    """
    own = nifti.whole_type(path) if path.is_file() and is_named(path, nifti.SUFFIXES) else None
    return np.dtype(np.float32) if own is None else own


def write_volume(
    voxels: NDArray[np.generic], grid: Grid, path: Path, dtype: DTypeLike, *, descrip: str = "", labels: bool = False
) -> None:
    """Write voxels (X, Y, Z) as NIfTI on a grid, whole or not at all; see ``medgan.data.nifti.write``."""
    nifti.write(voxels, grid, path, dtype, descrip=descrip, labels=labels)


def data_beside(path: Path) -> Path | None:
    """The file with the voxels of an image whose header is a file of its own; None where there is no such file."""
    kind = next((each for each in (metaimage, nrrd) if is_named(path, each.SUFFIXES)), None)
    try:
        data = kind.read_header(path).data if kind else path
    except DataError:
        return None
    return None if data == path else data


def _format_of(path: Path) -> Format:
    try:
        if path.is_dir() or is_series(path):
            return dicom
        with open_regular(path) as file:
            empty = not file.read(1)
    except OSError as error:
        raise unreadable(path, error) from None
    if empty:
        raise DataError(f"{path}: an empty file; copy or export it again.")
    if named := next((each for each in (nifti, images, metaimage, nrrd) if is_named(path, each.SUFFIXES)), None):
        return named
    if dicom.is_dicom(path):
        return dicom
    for suffixes, why in FOREIGN.items():
        if is_named(path, suffixes):
            raise DataError(f"{path}: {why}.")
    raise DataError(f"{path}: not an image that medgan reads; give {KINDS}.")


def is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a name ends so, in any case."""
    return path.name.lower().endswith(suffixes)
