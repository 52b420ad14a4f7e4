# mypy: untyped-calls-exclude="SimpleITK"
"""DICOM through SimpleITK and GDCM: single slices, and folders that are one series."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medgan.data.grid import Grid, Volume, check_affine, check_finite, made_up_grid
from medgan.data.series import Slice, in_order, is_stack, positions_mm, series_affine
from medgan.data.streams import special
from medgan.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".ima")
MAGIC, MAGIC_OFFSET = b"DICM", 128

SERIES, POSITION, FRAMES = "0020|000e", "0020|0032", "0028|0008"


def read(path: Path) -> Volume:
    """One DICOM slice, or the series that a folder holds, with the rescale slope and intercept applied.

    Args:
        path: A file (voxels (X, Y, 1)), or a folder whose DICOM files are one series (voxels (X, Y, Z), ordered along
            the slice normal). Files need no suffix; sub-folders and other files do not count.

    Raises:
        DataError: Not DICOM, truncated, colour, multi-frame, or several series in one folder.
        GeometryError: Slices missing, doubled, unevenly spaced, unlike each other, or from a tilted gantry.
    """
    slices = _slices(path)
    grid = _grid(path, slices)
    names = [str(one.path) for one in slices]
    try:
        with _quiet():  # as float from the start: slices of PET and MR differ in slope, and so in stored type
            image = sitk.ReadImage(names if len(names) > 1 else names[0], sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError as error:
        raise DataError(f"{path}: the DICOM pixels cannot be decoded ({_reason(error)}); export it again.") from None
    voxels = np.asarray(sitk.GetArrayFromImage(image).T, dtype=np.float32)
    check_finite(path, voxels)
    return Volume(voxels, grid, path)


def read_grid(path: Path) -> Grid:
    """The grid of a DICOM slice or series, after the same checks of its headers as in ``read``."""
    return _grid(path, _slices(path))


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM: by its suffix, or by ``DICM`` at byte 128, since exports often have none.

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
        with path.open("rb") as file:
            file.seek(MAGIC_OFFSET)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return True


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder, by name; hidden files do not count.

    Raises:
        DataError: There is none, or the folder cannot be listed.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_dicom(path)]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror}); check the folder and its permissions."
        ) from None
    if not files:
        raise DataError(f"{folder}: a folder without DICOM files; give a file, or the folder of one DICOM series.")
    return files


def studies_among(folder: Path, files: Sequence[Path]) -> list[Path]:
    """What the DICOM files of one folder are: one study, the folder itself, or a study each.

    One study: they share one SeriesInstanceUID and lie at two positions or more; or they are several series of which
    one at least is a stack of four even positions. Reading the folder then says that its series are mixed: to take
    such files for single pictures would lose that they are volumes. Everything else is a collection of single slices,
    as teaching sets and exported key images are.

    Args:
        folder: Where the files lie.
        files: Its DICOM files. One that cannot be read does not count here, but reading the result names it.
    """
    series: dict[str, list[Slice]] = {}
    for path in files:
        try:
            one = read_slice(path)
        except DataError:
            continue
        series.setdefault(one.series, []).append(one)
    if len(series) == 1:
        whole = len(positions_mm(next(iter(series.values())))) > 1
    else:
        whole = any(is_stack(slices) for slices in series.values())
    return [folder] if whole else list(files)


def read_slice(path: Path) -> Slice:
    """The header of one DICOM image.

    Raises:
        DataError: Not a DICOM image, truncated, colour, or more than one frame.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with _quiet():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(
            f"{path}: not DICOM, truncated, or no image ({_reason(error)}); copy it again, or move reports and "
            "structure sets out of the folder."
        ) from None
    if reader.GetNumberOfComponents() > 1:
        raise DataError(f"{path}: the pixels are RGB colours, not intensities; give the original grey-scale images.")
    x, y, frames = (*reader.GetSize(), 1)[:3]
    if frames > 1 or int(_tag(reader, FRAMES) or 1) > 1:
        raise DataError(f"{path}: multi-frame DICOM ({frames} frames); convert it to NIfTI first with `dcm2niix`.")
    return Slice(
        path=path,
        series=_tag(reader, SERIES),
        size=(x, y),
        spacing_mm=np.array(reader.GetSpacing()),
        origin_mm=np.array(reader.GetOrigin()),
        direction=np.array(reader.GetDirection()).reshape(3, 3),
        positioned=bool(_tag(reader, POSITION)),
    )


def _slices(path: Path) -> list[Slice]:
    """The slice that a file is, or the ordered slices of the series in a folder."""
    if not path.is_dir():
        return [read_slice(path)]
    return in_order(path, [read_slice(file) for file in dicom_files(path)])


def _grid(path: Path, slices: Sequence[Slice]) -> Grid:
    affine = series_affine(slices)
    check_affine(path, affine)
    return made_up_grid((*slices[0].size, len(slices)), affine)


def _tag(reader: sitk.ImageFileReader, tag: str) -> str:
    """A tag's text without DICOM's padding; empty where the file has no such tag."""
    return str(reader.GetMetaData(tag)).strip(" \0") if reader.HasMetaDataKey(tag) else ""


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK message, without the object's address."""
    return str(error).strip().splitlines()[-1].rpartition("): ")[2]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK's warnings off stderr: what they could say about a series has been checked before."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
