"""The one entry to images on disk: read and write volumes, find them in a folder, tell one from another."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medgan.data import dicom, images, nifti
from medgan.data.grid import Grid, Volume
from medgan.errors import DataError

__all__ = ["Grid", "Volume", "file_hash", "find_images", "read_grid", "read_volume", "stored_type", "write_volume"]

IMAGE_SUFFIXES = (*nifti.SUFFIXES, *images.SUFFIXES)
"""Names that claim to be an image that medgan reads; DICOM is told by its content, too."""

FOREIGN = (".hdr", ".img", ".mgh", ".mgz", ".mha", ".mhd", ".nhdr", ".nrrd")
"""Volume formats that medgan does not read, but does not overlook either."""

NOT_IMAGES = (".bval", ".bvec", ".csv", ".html", ".json", ".md", ".pdf", ".py", ".tsv", ".txt", ".xml", ".yaml", ".yml")


class Format(Protocol):
    """What a module that reads one kind of file offers."""

    def read(self, path: Path) -> Volume: ...

    def read_grid(self, path: Path) -> Grid: ...


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file, one DICOM slice, a folder that is one DICOM series, or a grey PNG or TIFF.

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
    own = nifti.whole_type(path) if path.is_file() and _is_named(path, nifti.SUFFIXES) else None
    return np.dtype(np.float32) if own is None else own


def write_volume(
    voxels: NDArray[np.generic], grid: Grid, path: Path, dtype: DTypeLike, *, descrip: str = "", labels: bool = False
) -> None:
    """Write voxels (X, Y, Z) as NIfTI on a grid, whole or not at all; see ``medgan.data.nifti.write``."""
    nifti.write(voxels, grid, path, dtype, descrip=descrip, labels=labels)


def find_images(folder: Path) -> list[Path]:
    """Every image under a folder, sorted: files, and folders that are one DICOM series.

    Whether the DICOM files of one folder are a series or single slices is told in ``dicom.studies_among``. Hidden files
    and files that are no images are passed over. Broken images, volumes in formats that medgan does not read, and
    folders that cannot be listed are in the result: reading them says what is wrong. A linked folder is followed,
    and one that is reached twice is listed once.

    Raises:
        DataError: ``folder`` is missing or not a folder.
    """
    try:
        if not folder.is_dir():
            raise DataError(f"{folder}: not a folder; check the path.")
    except OSError as error:
        raise _unreadable(folder, error) from None
    unreadable: list[Path] = []
    found: list[Path] = []
    for directory, files in _walk(folder, unreadable):
        slices = [path for path in files if not _is_named(path, IMAGE_SUFFIXES) and dicom.is_dicom(path)]
        found += dicom.studies_among(directory, slices)
        found += [path for path in {*files}.difference(slices) if _is_named(path, (*IMAGE_SUFFIXES, *FOREIGN))]
    return sorted({*found, *unreadable})


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes; of a DICOM series, over the sorted hashes of its files, whatever their names."""
    try:
        if path.is_dir():
            digests = sorted(file_hash(file) for file in dicom.dicom_files(path))
            return hashlib.sha256("\n".join(digests).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _format_of(path: Path) -> Format:
    try:
        if path.is_dir():
            return dicom
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if empty:
        raise DataError(f"{path}: an empty file; copy or export it again.")
    if _is_named(path, nifti.SUFFIXES):
        return nifti
    if _is_named(path, images.SUFFIXES):
        return images
    if dicom.is_dicom(path):
        return dicom
    if _is_named(path, FOREIGN):
        raise DataError(f"{path}: {path.suffix} volumes are not read; convert it to .nii.gz first.")
    raise DataError(f"{path}: not an image that medgan reads; give NIfTI, DICOM, PNG or TIFF.")


def _walk(folder: Path, unreadable: list[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder under ``folder`` with its visible files; those that cannot be listed go to ``unreadable``."""
    seen = {folder.resolve()}

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    for name, directories, files in os.walk(folder, onerror=note, followlinks=True):
        directory = Path(name)
        new = []
        for child in sorted(directories):
            real = (directory / child).resolve()
            if not child.startswith(".") and real not in seen:
                seen.add(real)
                new.append(child)
        directories[:] = new
        yield (
            directory,
            [
                directory / file
                for file in sorted(files)
                if not file.startswith(".") and not _is_named(Path(file), NOT_IMAGES)
            ],
        )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions.")


def _is_named(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)
