"""DICOM: single slices, folders that are one series, and series that share a folder with others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgan.data.dicom_folder import MAX_NAMED, Parted, aside_notes, is_series, part
from medgan.data.dicom_header import dataset, read_header, text
from medgan.data.dicom_pixels import stored_values
from medgan.data.grid import Grid, Volume, check_affine, check_finite, made_up_grid
from medgan.data.series import Slice, in_order, series_affine
from medgan.data.streams import open_regular, special, unreadable
from medgan.errors import DataError

__all__ = ["dicom_files", "is_dicom", "is_series", "read", "read_grid", "studies_among"]

SUFFIXES = (".dcm", ".dicom", ".ima")
MAGIC, MAGIC_OFFSET = b"DICM", 128
FIRST_GROUPS = (b"\x02\0", b"\x08\0")
"""A data set without preamble begins with an element of one of these groups."""


def read(path: Path) -> Volume:
    """One DICOM slice, or a series of them, with the rescale slope and intercept applied.

    Args:
        path: A file (voxels (X, Y, 1)); a folder whose DICOM files are one series (voxels (X, Y, Z), ordered along
            the slice normal); or one of several series in a folder, ``FOLDER/series_2``. Files need no suffix and no
            preamble. What lies beside a series is left out: reports, indexes, localizers, exact copies, sub-folders.

    Raises:
        DataError: Not DICOM, pixels that are not all there, no scaling, colour, multi-frame, or several series.
        GeometryError: No place or size, slices missing, doubled, unevenly spaced, unlike each other, or from a tilted
            gantry.
    """
    slices, notes = _slices(path)
    grid = _grid(path, slices)
    for z, one in enumerate(slices):
        stored = stored_values(one.path)
        if not z:  # once the first slice has shown that the header's size is no fancy
            voxels = np.empty(grid.size, np.float32, order="F")
        slope, intercept = one.scaling or (1.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
            voxels[..., z] = (stored * slope + intercept).T
    check_finite(path, voxels)
    return Volume(voxels, grid, path, slices[0].modality, notes)


def read_grid(path: Path) -> Grid:
    """The grid of a DICOM slice or series, after the same checks of its headers as in ``read``."""
    return _grid(path, _slices(path)[0])


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, by ``DICM`` at byte 128, or because it begins as a bare data set does.

    A DICOMDIR is an index, not an image. Neither is a pipe or a device, which is not opened. A file that cannot be
    opened counts as DICOM: reading it tells why.
    """
    if path.name.upper() == "DICOMDIR" or special(path):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            head = file.read(MAGIC_OFFSET + len(MAGIC))
    except OSError:
        return True
    return head[MAGIC_OFFSET:] == MAGIC or (head[:2] in FIRST_GROUPS and _is_bare(path))


def dicom_files(path: Path) -> list[Path]:
    """The DICOM files of a series, or all those directly in a folder, by name; hidden files do not count.

    Raises:
        DataError: There is none, or the folder cannot be listed.
    """
    if is_series(path):
        return sorted(one.path for one in _slices(path)[0])
    try:
        files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".") and is_dicom(file)]
    except OSError as error:
        raise unreadable(path, error) from None
    if not files:
        raise DataError(f"{path}: a folder without DICOM files; give a file, or the folder of one DICOM series.")
    return files


def studies_among(folder: Path, files: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """What the DICOM files of one folder are: the path of each study, and what is none, with its reason.

    See :func:`medgan.data.dicom_folder.part`. Every path can be read; reading a broken one says what is wrong.
    """
    if not files:
        return [], {}
    parted = part(folder, files)
    return parted.studies(), dict(parted.left)


def _slices(path: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """The slice that a file is, or the ordered slices of a series; and what is odd about them."""
    notes: tuple[str, ...] = ()
    if path.is_dir() or is_series(path):
        slices, notes = _series(path)
    else:
        header = read_header(path)
        slices, notes = [header.slice()], aside_notes([header])
    return slices, (*notes, *_notes(slices))


def _series(path: Path) -> tuple[list[Slice], tuple[str, ...]]:
    folder = path if path.is_dir() else path.parent
    parted = part(folder, dicom_files(folder))
    if path.is_dir():
        found = parted.series if parted.whole else ()
    else:
        found = tuple(one for one in parted.series if one.name == path.name)
    if found:
        return in_order(path, found[0].slices()), found[0].notes
    if path.is_dir() and len(parted.singles) == 1 and not parted.series:
        return [read_header(parted.singles[0]).slice()], ()
    raise _not_one(path, parted)


def _not_one(path: Path, parted: Parted) -> DataError:
    """Why a folder, or a name in it, is not one series."""
    names = [one.name for one in parted.series]
    shown = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    if not path.is_dir():
        return DataError(f"{path}: no series of that name; {parted.folder} has {shown or 'no series but itself'}.")
    if names:
        beside = f" and {len(parted.singles)} other images" if parted.singles else ""
        return DataError(
            f"{path}: mixed series, {len(names)} volumes ({shown}){beside}; name one, such as {path / names[0]}, or "
            "give each series its own folder."
        )
    if parted.singles:
        return DataError(
            f"{path}: {len(parted.singles)} single DICOM images, of mixed series or at one place, are no volume; give "
            "the folder to `medgan convert`, which takes each for itself, or each series its own folder."
        )
    why = next(iter(parted.left.items()))
    return DataError(f"{path}: no DICOM image ({why[0].name}: {why[1]}); give the folder of one DICOM series.")


def _notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    first, notes = slices[0], []
    if not first.positioned:
        notes.append("no ImagePositionPatient: it was put at the origin")
    if first.modality is None and first.scaling is None:
        notes.append("neither Modality nor RescaleSlope: the stored values were taken as they are")
    return tuple(notes)


def _grid(path: Path, slices: Sequence[Slice]) -> Grid:
    affine = series_affine(slices)
    size = (*slices[0].size, len(slices))
    check_affine(path, affine, size)
    return made_up_grid(size, affine)


def _is_bare(path: Path) -> bool:
    """Whether a file without preamble is a DICOM data set: it names a class or a modality where DICOM has them."""
    try:
        data = dataset(path, ["SOPClassUID", "Modality", "Rows"])
    except DataError:
        return False
    return text(data, "SOPClassUID").startswith("1.2.840.10008.") or bool(text(data, "Modality") and "Rows" in data)
