"""How studies lie on disk: a CSV table, plain folders, BIDS or nnU-Net raw.

Each reader lists what is there, under the domain names that the layout gives it; ``medgan.data.studies`` keeps those
of a pair.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.data.domains import Domain, DomainPair
from medgan.data.listing import find_images
from medgan.data.streams import is_folder
from medgan.data.volumes import is_series
from medgan.documents import read_json
from medgan.errors import DataError

COLUMNS = ("subject", "domain", "image")
"""What a cohort's CSV must have; ``mask`` and ``split`` may follow."""
SPLITS = {"": None, "train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""What a cell of the ``split`` column may say, and what it means."""
ENDINGS = (".nii.gz", ".nii", ".dcm", ".dicom", ".ima", ".png", ".tiff", ".tif", ".mha", ".mhd", ".nrrd", ".nhdr")
NIFTI = (".nii.gz", ".nii")
MR_SUFFIXES = ("t1w", "t2w", "pdw", "t2starw", "flair")
MAX_PROBLEMS = 5


@dataclass(frozen=True)
class Study:
    """One image of one subject."""

    subject: str
    domain: str
    image: Path
    """A file, or a folder that is one DICOM series."""
    mask: Path | None = None
    """Labels on the image's voxel grid, for example a lesion's outline."""
    split: str | None = None
    """The part that the cohort's author chose: train, validation or test."""


def stem(image: Path) -> str:
    """A study's name without its ending: ``a/case.nii.gz`` is ``case``; a series folder keeps its dots."""
    ending = next((e for e in ENDINGS if image.name.lower().endswith(e)), "")
    return image.name if is_folder(image) else image.name[: len(image.name) - len(ending)]


def read_table(path: Path) -> list[Study]:
    """Studies of a CSV ``subject,domain,image[,mask][,split]``; paths are relative to it and stay in its folder.

    Raises:
        DataError: Not a table, a column missing, or rows that cannot be used; the rows are named by line.
    """
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), skipinitialspace=True)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; "
                "its first line must be `subject,domain,image[,mask][,split]`."
            )
        studies, problems = _studies(rows, path.parent)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8 ({error}); save the table as comma-separated text.") from None
    if problems:
        shown = "; ".join(problems[:MAX_PROBLEMS]) + ("; …" if len(problems) > MAX_PROBLEMS else "")
        raise DataError(f"{path}: {len(problems)} of its rows cannot be used. {shown}. Correct or remove them.")
    if not studies:
        raise DataError(f"{path} has a header and no rows; list one image a line.")
    return studies


def _studies(rows: "csv.DictReader[str]", folder: Path) -> tuple[list[Study], list[str]]:
    first_line: dict[tuple[str, Path], int] = {}
    studies, problems = [], []
    for row in rows:
        line = rows.line_num
        try:
            study = _study(row, folder)
            first = first_line.setdefault((study.domain, study.image), line)
            if first != line:
                raise DataError(f"image '{row['image']}' is already on line {first}")
            studies.append(study)
        except DataError as problem:
            problems.append(f"Line {line}: {problem}")
    return studies, problems


def _study(row: Mapping[str | Any, str | Any], folder: Path) -> Study:
    """One row, checked; the errors say what is wrong with it, and their reader says where."""
    if None in row:
        raise DataError("more cells than the header has columns")
    cells = {column: (text or "").strip() for column, text in row.items()}
    empty = [column for column in COLUMNS if not cells[column]]
    if empty:
        raise DataError(f"no {' and no '.join(empty)}")
    part = cells.get("split", "").lower()
    if part not in SPLITS:
        raise DataError(f"split '{part}' is none of train, validation, test")
    mask = cells.get("mask")
    return Study(
        cells["subject"],
        cells["domain"],
        _inside(folder, cells["image"], "image"),
        _inside(folder, mask, "mask") if mask else None,
        SPLITS[part],
    )


def _inside(folder: Path, entry: str, column: str) -> Path:
    """The file that a cell names. By name alone: a link in the folder may point anywhere, as git-annex's do."""
    root = Path(os.path.normpath(folder.absolute()))
    place = Path(os.path.normpath(root / entry))
    if not place.is_relative_to(root):
        raise DataError(f"{column} '{entry}' leads out of {folder}; keep a cohort's files beside its CSV")
    path = folder / place.relative_to(root)
    if not (path.exists() or is_series(path)):
        raise DataError(f"{column} '{entry}' does not exist")
    return path


def sides(path: Path, pair: DomainPair) -> dict[str, Path]:
    """The folder of each domain of a pair: ``<domain name>/``, or else ``source/`` and ``target/``."""
    found = {}
    for name, role in zip(pair.names, ("source", "target"), strict=True):
        folder = next((path / word for word in (name, role) if (path / word).is_dir()), None)
        if folder:
            found[name] = folder
    return found


def read_folders(path: Path, pair: DomainPair) -> list[Study]:
    """Studies of plain folders: the subject is the first folder below the domain's, or else the file's stem."""
    return [
        Study(_subject(image.relative_to(folder), image), name, image)
        for name, folder in sides(path, pair).items()
        for image in find_images(folder).images
    ]


def _subject(below: Path, image: Path) -> str:
    if len(below.parts) == 1 and is_series(image):
        raise DataError(
            f"{image.parent} holds several DICOM series and no folder for each subject, so whose they are is unknown; "
            "give each subject a folder there, or list the series in a CSV."
        )
    return below.parts[0] if len(below.parts) > 1 else stem(image)


def read_bids(path: Path, pair: DomainPair) -> list[Study]:
    """Studies of a BIDS folder, ``sub-XX[/ses-YY]/<datatype>/sub-XX[_<entities>]_<suffix>.nii.gz``.

    The suffix in lower case is the domain's name: ``_T1w`` is ``t1w`` or ``t1``, ``_FLAIR`` is ``flair``, and ``mr`` is
    any T1w, T2w, PDw, T2starw or FLAIR. A ``ce-`` entity, the agent that was given, adds ``_gd``: ``_ce-gd_T1w`` is
    ``t1_gd``. A ``_ct`` is ``ct``, and ``contrast`` with a ``ce-`` entity or ``plain`` without.
    """
    studies = []
    for subject in sorted(path.glob("sub-*/")):
        for image in find_images(subject).images:
            if image.is_dir() and not os.access(image, os.R_OK | os.X_OK):
                raise DataError(f"{image} cannot be read; check its permissions.")
            if image.name.startswith(subject.name + "_") and image.name.endswith(NIFTI):
                *entities, suffix = stem(image).lower().split("_")
                enhanced = any(entity.startswith("ce-") for entity in entities)
                studies.append(Study(subject.name, _bids_domain(suffix, enhanced, pair), image))
    return studies


def _bids_domain(suffix: str, enhanced: bool, pair: DomainPair) -> str:
    """The pair's name for such an image, or else the name by which another pair could ask for it."""
    if suffix == "ct":
        names = ["contrast" if enhanced else "plain", "ct"]
    else:
        names = [word + "_gd" * enhanced for word in (suffix.removesuffix("w"), suffix)]
        names += ["mr"] * (suffix in MR_SUFFIXES)

    def wanted(domain: Domain) -> bool:
        return domain.name in names and (domain.modality == "CT") == (suffix == "ct")

    return next((domain.name for domain in (pair.source, pair.target) if wanted(domain)), names[0])


def read_nnunet(path: Path) -> list[Study]:
    """Studies of an nnU-Net raw folder: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``.

    The channel's name in lower case is the domain's name, the case is the subject, its label the mask.
    """
    channels, ending = _description(path / "dataset.json")
    return list(_cases(path, channels, ending))


def _description(path: Path) -> tuple[dict[int, str], str]:
    """What ``dataset.json`` says of channels (``modality`` before nnU-Net 2) and of the files' ending."""
    try:
        description = read_json(path)
        names = description.get("channel_names") or description["modality"]
        channels = {int(number): str(name).lower() for number, name in names.items()}
        return channels, str(description.get("file_ending", ".nii.gz"))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f'{path} names no channels; it must hold `"channel_names": {{"0": "<domain>", …}}`.') from None


def _cases(path: Path, channels: Mapping[int, str], ending: str) -> Iterator[Study]:
    for image in sorted((path / "imagesTr").iterdir()):
        if not image.name.endswith(ending) or image.name.startswith("."):
            continue
        case, _, number = image.name.removesuffix(ending).rpartition("_")
        if not case or not number.isdecimal() or int(number) not in channels:
            raise DataError(
                f"{image} is of no channel in dataset.json; name images CASE_0000{ending}, by number of the channel."
            )
        label = path / "labelsTr" / (case + ending)
        yield Study(case, channels[int(number)], image, label if label.exists() else None)
