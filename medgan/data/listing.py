"""What lies under a folder: its images, and every file that is passed over, with the reason."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medgan.data import dicom
from medgan.data.raw import data_beside
from medgan.data.streams import is_folder, special
from medgan.data.volumes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, is_named
from medgan.errors import DataError
from medgan.text import few

CLAIMS = (*IMAGE_SUFFIXES, *FOREIGN_SUFFIXES)
"""What names of images end with, of formats that medgan reads and others."""
NOT_IMAGES = (
    *(".bval", ".bvec", ".cfg", ".css", ".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".js", ".json"),
    *(".jsonl", ".log", ".m", ".md", ".odt", ".pdf", ".py", ".rst", ".rtf", ".sh", ".toml", ".tsv", ".txt", ".xls"),
    *(".xlsx", ".xml", ".yaml", ".yml"),
)
"""Kinds of file that hold no image, and are not mentioned."""

UNREAD = {
    (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".rar"): "packed; unpack it first",
    (".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".webp"): "a picture that medgan does not read; give PNG or TIFF",
    (".npy", ".npz", ".mat", ".pkl", ".h5", ".hdf5", ".pt"): "numbers without a voxel grid; save them as NIfTI",
    (".raw", ".zraw", ".bin", ".dat"): "voxels without a header that names them; save them as NIfTI",
    (".par", ".rec"): "perhaps a Philips volume, which medgan does not read; convert it with `dcm2niix`",
    (".v",): "perhaps an ECAT volume, which medgan does not read; convert it to NIfTI",
    (".head", ".brik"): "perhaps an AFNI volume, which medgan does not read; convert it with `3dAFNItoNIFTI`",
    ("dicomdir",): "an index of DICOM files, no image",
}
"""What files are that are passed over, by how their names end."""


@dataclass(frozen=True)
class _Listing:
    """All that a folder holds."""

    images: tuple[Path, ...]
    """Sorted: files, and folders that are one DICOM series."""
    passed_over: Mapping[Path, str]
    """Why, for each file that is neither read nor known to be no image, and each folder that is not looked into."""


def find_images(folder: Path) -> _Listing:
    """Every image under a folder, and what is passed over.

    Whether the DICOM files of one folder are a series or single slices is told in ``dicom.studies_among``. What is
    named like an image and cannot be read is among the images, since reading it says what is wrong: broken files,
    broken links, pipes and devices, volumes in formats that medgan does not read, folders that cannot be listed.
    Hidden files and folders, and files that are known to be no images, are not mentioned. A linked folder is followed,
    and one that is reached twice is listed once.
    """
    if not is_folder(folder):
        raise DataError(f"{folder}: not a folder, or not to be reached; check the path and its permissions.")
    images: set[Path] = set()
    passed_over: dict[Path, str] = {}
    named_like_images = []
    for directory, files in _walk(folder, images, passed_over):
        if directory != folder and is_named(directory, CLAIMS):
            named_like_images.append(directory)
        slices = [path for path in files if _is_slice(path, images, passed_over)]
        try:
            studies, left = dicom.studies_among(directory, slices)
            images.update(studies)
            passed_over.update(left)
        except Exception:  # whatever these files bring about, the others are still listed; reading them says what
            images.add(directory)
    for data in filter(None, map(data_beside, sorted(images))):
        passed_over.pop(data, None)
        images.discard(data)
    images.update(each for each in named_like_images if not any(image.is_relative_to(each) for image in images))
    return _Listing(tuple(sorted(images)), dict(sorted(passed_over.items())))


def passed_over_lines(passed_over: Mapping[str, str], most: int = 5) -> Iterator[str]:
    """Lines for people on what was passed over, and why, by name: how many of each kind, and the first names."""
    for reason in sorted(set(passed_over.values())):
        names = [name for name, why in passed_over.items() if why == reason]
        yield f"passed over, {reason} ({len(names)}): {few(names, most, last=', and ')}"


def _walk(folder: Path, images: set[Path], passed_over: dict[Path, str]) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder with its visible files, real folders before linked ones.

    Those that cannot be listed go to ``images``, those that are reached twice to ``passed_over``.
    """

    def identity(folder: Path) -> tuple[int, int]:
        """By what a folder is known again under another name."""
        status = folder.stat()
        return status.st_dev, status.st_ino

    above = {identity(parent) for parent in Path(os.path.realpath(folder)).parents}
    identities, real, linked = set[tuple[int, int]](), [folder], list[Path]()
    while real or linked:
        directory = (real or linked).pop()
        try:
            place = identity(directory)
            if place in identities or place in above:
                passed_over[directory] = "a link to a folder that is listed already, or that holds this one"
                continue
            identities.add(place)
            listed = sorted(directory.iterdir())
        except OSError:
            images.add(directory)
            continue
        files = []
        for path in listed:
            if not is_folder(path):
                files.append(path)
            elif not path.name.startswith("."):
                (linked if path.is_symlink() else real).append(path)
        yield directory, files


def _is_slice(path: Path, images: set[Path], passed_over: dict[Path, str]) -> bool:
    """Whether a file is DICOM by what it holds; others go to ``images`` or ``passed_over``, or are known to be none."""
    claims = is_named(path, CLAIMS)
    if path.name.startswith("."):
        if claims and not path.name.startswith("._"):  # what macOS adds to every file that it copies
            passed_over[path] = "hidden"
    elif is_named(path, NOT_IMAGES):
        pass
    elif not is_named(path, IMAGE_SUFFIXES) and dicom.is_dicom(path):
        return True
    elif claims or is_named(path, dicom.SUFFIXES):
        images.add(path)
    else:
        passed_over[path] = _reason(path)
    return False


def _reason(path: Path) -> str:
    """Why a file is passed over."""
    if kind := special(path):
        return kind
    try:
        if not path.stat().st_size:
            return "an empty file"
    except OSError as error:
        return "a link to a file that is not there" if path.is_symlink() else f"not to be reached ({error.strerror})"
    return next((why for suffixes, why in UNREAD.items() if is_named(path, suffixes)), "not a file that medgan knows")
