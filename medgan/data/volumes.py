"""The one entry to images on disk: read and write volumes, and PNG and TIFF pictures as slices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medgan.data import dicom, nifti, raw
from medgan.data.dicom import is_series
from medgan.data.grid import LPS_TO_RAS, Grid, Volume, made_up_grid
from medgan.data.nifti import write as write_volume
from medgan.data.streams import open_regular, unreadable
from medgan.errors import DataError

__all__ = ["Grid", "Volume", "is_series", "read_grid", "read_volume", "stored_type", "write_volume"]

PICTURES = (".png", ".tif", ".tiff")
IMAGE_SUFFIXES = (*nifti.SUFFIXES, *PICTURES, *raw.SUFFIXES)
"""Names that claim to be an image that medgan reads; DICOM is told by its content, too."""
KINDS = "NIfTI, DICOM, MetaImage, NRRD, PNG or TIFF"
FOREIGN = {
    (".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip"): "packed in a way that medgan does not read; unpack it first",
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "a .hdr/.img pair; convert the pair to one .nii.gz first",
    (".mgh", ".mgz"): "FreeSurfer volumes are not read; convert it with `mri_convert` first",
    (".mnc",): "MINC volumes are not read; convert it with `mnc2nii` first",
    (".gipl", ".b2nd"): "such volumes are not read; convert it to .nii.gz first",
}
"""Volume formats that medgan does not read, but does not overlook either, and what to do."""

FOREIGN_SUFFIXES = tuple(suffix for suffixes in FOREIGN for suffix in suffixes)
GREY_MODES = ("L", "I;16", "I;16B")
SIGNED_MODE = "I"
BITS_PER_SAMPLE = 258
"""The TIFF tag that tells a signed 16-bit picture (HU) from a 32-bit one: Pillow opens both as ``SIGNED_MODE``."""


def read_volume(path: Path) -> Volume:
    """Read NIfTI, MetaImage, NRRD, one DICOM slice, a folder that is one DICOM series, or a grey PNG or TIFF.

    Raises:
        DataError: Missing, empty, unreadable or broken files, and kinds of image that medgan refuses by name.
        GeometryError: A grid that an output could not lie on exactly.
    """
    return _readers(path)[0](path)


def read_grid(path: Path) -> Grid:
    """The grid of an image, after the same checks as in ``read_volume``, but without reading its voxels."""
    return _readers(path)[1](path)


def stored_type(path: Path) -> np.dtype[Any]:
    """The type in which an image of the same kind is stored without loss of what ``read_volume`` reads.

    That of a NIfTI file, where it holds whole numbers without scaling; float32 for all else.
    """
    own = nifti.whole_type(path) if path.is_file() and is_named(path, nifti.SUFFIXES) else None
    return np.dtype(np.float32) if own is None else own


def is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a name ends so, in any case."""
    return path.name.lower().endswith(suffixes)


def _readers(path: Path) -> tuple[Callable[[Path], Volume], Callable[[Path], Grid]]:
    """Of a file's format: what reads its voxels, and its grid alone."""
    try:
        if path.is_dir() or is_series(path):
            return dicom.read, dicom.read_grid
        with open_regular(path) as file:
            empty = not file.read(1)
    except OSError as error:
        raise unreadable(path, error) from None
    if empty:
        raise DataError(f"{path}: an empty file; copy or export it again.")
    if is_named(path, nifti.SUFFIXES):
        return nifti.read, nifti.read_grid
    if is_named(path, PICTURES):
        return _read_picture, _picture_grid
    if is_named(path, raw.SUFFIXES):
        return raw.read, raw.read_grid
    if dicom.is_dicom(path):
        return dicom.read, dicom.read_grid
    for suffixes, why in FOREIGN.items():
        if is_named(path, suffixes):
            raise DataError(f"{path}: {why}.")
    raise DataError(f"{path}: not an image that medgan reads; give {KINDS}.")


def _read_picture(path: Path) -> Volume:
    """A grey picture of 8 or 16 bit as voxels (X, Y, 1), intensities as stored.

    Columns run along X and rows along Y, as in ITK: towards the patient's left and posterior, on a grid of 1 mm that is
    made up, since these formats do not tell. Any resolution that is stored (dots per inch) speaks of paper.
    """
    with _picture(path) as picture:
        pixels = np.asarray(picture, dtype=np.float32)  # (rows, columns)
    return Volume(pixels.T[..., np.newaxis], made_up_grid((*picture.size, 1), LPS_TO_RAS.copy()), path)


def _picture_grid(path: Path) -> Grid:
    with _picture(path) as picture:
        return made_up_grid((*picture.size, 1), LPS_TO_RAS.copy())


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """A picture whose kind has been checked; whatever breaks while it is decoded is a DataError."""
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as picture:
            _check_picture(path, picture)
            yield picture
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever a broken file provokes: OSError, SyntaxError, TypeError, ...
        raise DataError(f"{path}: cannot be read as PNG or TIFF ({error}); copy or export it again.") from None


def _check_picture(path: Path, picture: Image.Image) -> None:
    if getattr(picture, "n_frames", 1) > 1:
        raise DataError(f"{path}: several pages; save each as its own picture, or the stack as NIfTI.")
    if picture.mode in GREY_MODES:
        return
    if picture.mode == SIGNED_MODE and getattr(picture, "tag_v2", {}).get(BITS_PER_SAMPLE) == (16,):
        return
    if picture.mode in (SIGNED_MODE, "F", "1"):
        raise DataError(f"{path}: pixels of mode {picture.mode}, not 8 or 16 bit; save it so, or as NIfTI.")
    raise DataError(f"{path}: a colour picture (mode {picture.mode}), not intensities; save it grey with 8 or 16 bit.")
