"""Studies of a BIDS folder, ``sub-XX[/ses-YY]/<datatype>/sub-XX[_ses-YY][_<entities>]_<suffix>.nii.gz``.

``derivatives/`` lends masks and no images.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.data import nifti
from medgan.data.domains import domain_names
from medgan.data.layouts import Listed, Study, stem
from medgan.data.listing import find_images
from medgan.data.volumes import is_named
from medgan.errors import ConfigError

Choice = Sequence[tuple[str, str]]
"""Entities and their values: of images that differ in one, these are kept."""

SUFFIX = "suffix"
"""Stands in ``--bids`` for the last word of a name, such as T1w."""
ENTITIES = (
    "acq", "ce", "chunk", "desc", "dir", "echo", "flip", "inv", "label", "mt", "part", "rec", "res", "run", "ses",
    "space", "task", "trc", SUFFIX,
)  # fmt: skip
"""What ``--bids`` may choose by. Subjects are chosen by the split, or by a table."""
NAME = re.compile(r"(sub-[A-Za-z0-9+]+)((?:_[a-z]+-[A-Za-z0-9+.]+)*)_([A-Za-z0-9]+)")
MASKS = ("mask", "roi", "dseg")
MASKS_OWN = ("label", "desc", "space", "res", "den", "hemi")
"""What a mask's name has of its own, and says nothing of the image that it belongs to."""


@dataclass(frozen=True)
class _File:
    """A file and what its name says."""

    path: Path
    subject: str
    entities: Mapping[str, str]
    suffix: str

    def value(self, key: str) -> str:
        """The value of an entity, or the suffix; empty where the name has none."""
        return self.suffix if key == SUFFIX else self.entities.get(key, "")

    def has(self, key: str, wanted: str) -> bool:
        """Whether an entity has a value; numbers with zeros in front are what they are without."""
        value = self.value(key)
        numbers = wanted.isdecimal() and value.isdecimal()
        return int(wanted) == int(value) if numbers else wanted.lower() == value.lower()

    @property
    def is_image(self) -> bool:
        """Whether it shows a body: no mask, no label map, no phase."""
        phase = self.value("part") not in ("", "mag") or self.suffix.lower().startswith("phase")
        return not phase and self.suffix not in (*MASKS, "probseg") and "label" not in self.entities

    def domain(self, names: Sequence[str]) -> str:
        """The first of the names that its own can mean, see ``domain_names``, or else the closest."""
        possible = domain_names(self.suffix, enhanced="ce" in self.entities)
        return next((name for name in names if name in possible), possible[0])


def parse_choice(text: str) -> tuple[tuple[str, str], ...]:
    """What ``--bids run=1,acq=mprage`` says."""
    choice = []
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.lower()
        if not equals or key not in ENTITIES:
            raise ConfigError(
                f"--bids {text}: write ENTITY=VALUE[,ENTITY=VALUE], such as run=1,acq=mprage; `rec=` is names without "
                f"rec-. Entities: {', '.join(ENTITIES)}."
            )
        choice.append((key, value.removeprefix(f"{key}-")))
    return tuple(choice)


def read_bids(path: Path, names: Sequence[str], choice: Choice = (), *, tested: bool = False) -> Listed | None:
    """The images of a BIDS folder with their masks; None where it is none.

    If ``tested``, it may be the folder of a subject or of a session, and folders that cannot be read are no error. An
    image is of the first domain in ``names`` that its own name can mean.

    Raises:
        OSError: A folder that cannot be read.
        ConfigError: A value that no file has.
    """
    if not (tested and path.name.startswith(("sub-", "ses-"))) and not any(path.glob("sub-*/")):
        return None
    files = _files(path, strict=not tested)
    if not files:
        return None
    images, others = ([file for file in files if file.is_image is wanted] for wanted in (True, False))
    derivatives = sorted((path / "derivatives").iterdir()) if (path / "derivatives").is_dir() else []
    derived = [file for each in derivatives if each.is_dir() for file in _files(each, strict=not tested)]
    labels = [file for file in (*others, *derived) if file.suffix in MASKS]
    for key, value in choice:
        if not any(file.has(key, value) for file in (*images, *labels)):
            there = ", ".join(each or "(none)" for each in sorted({file.value(key) for file in (*images, *labels)}))
            raise ConfigError(f"--bids {key}={value}: no image has it; there are: {there}.")
    kept = _chosen(images, [each for each in choice if each[0] != "label"], names)
    aside = [(file.path, "masks, label maps or phase images") for file in others]
    aside += [(file.path, "not chosen by --bids") for file in images if file not in kept]
    notes = [f"--bids leaves out {len(images) - len(kept)} of {len(images)} images"] if len(kept) < len(images) else []
    studies = []
    for file in kept:
        masks = [mask for mask in labels if _is_mask_of(mask, file, choice)]
        if len(masks) > 1:
            notes.append(
                f"{file.path.name} has {len(masks)} masks and is used with none: {_differ(masks)}; choose by --bids"
            )
        mask = masks[0].path if len(masks) == 1 else None
        studies.append(Study(file.subject, file.domain(names), file.path, mask, session=file.value("ses")))
    return Listed(tuple(studies), path, "BIDS", tuple(aside), tuple(notes))


def difference(images: Iterable[Path]) -> str:
    """In what the names of several images differ, and how to choose among them; empty where they are no BIDS names."""
    files = [_named(image) for image in sorted(images)]
    known = [file for file in files if file]
    if len(known) < max(len(files), 2):
        return ""
    example = ",".join(f"{key}={known[0].value(key)}" for key in _differing(known)) or "run=1"
    return f"{_differ(known)}; choose with --bids {example}"


def _named(path: Path) -> _File | None:
    """What a file's name says; None where it is no name of a BIDS image."""
    parts = NAME.fullmatch(stem(path)) if is_named(path, nifti.SUFFIXES) else None
    if not parts:
        return None
    entities = dict(entity.split("-", 1) for entity in parts[2].split("_")[1:])
    return _File(path, parts[1], entities, parts[3])


def _files(folder: Path, *, strict: bool) -> list[_File]:
    """The named files of all subjects in a folder, or else of the subject whose folder it is or lies in."""
    subjects = [(subject, subject.name) for subject in sorted(folder.glob("sub-*/"))]
    if not subjects:
        subjects = [(folder, part.name) for part in (folder, *folder.parents) if part.name.startswith("sub-")][:1]
    files = []
    for subject, name in subjects:
        for image in find_images(subject).images:
            if strict and image.is_dir():
                next(image.iterdir(), None)  # raises where it cannot be listed
            file = _named(image)
            if file and file.subject == name:
                files.append(file)
    return files


def _differing(files: Sequence[_File]) -> list[str]:
    keys = dict.fromkeys([*(key for file in files for key in file.entities), SUFFIX])
    return [key for key in keys if len({file.value(key) for file in files}) > 1]


def _differ(files: Sequence[_File]) -> str:
    values = {key: ", ".join(sorted({file.value(key) or "none" for file in files})) for key in _differing(files)}
    return "they differ in " + " and ".join(f"{key} ({those})" for key, those in values.items())


def _chosen(files: Sequence[_File], choice: Choice, names: Sequence[str]) -> list[_File]:
    """Of images of one subject, session and domain that differ in an entity, those with the wanted value.

    Where none of them has the entity there is nothing to choose; where all have other values, none is wanted. A suffix
    is every name's, and is chosen where one has the wanted.
    """
    kept = list(files)
    for key, value in choice:
        groups: dict[tuple[str, ...], list[_File]] = defaultdict(list)
        for file in kept:
            groups[file.subject, file.domain(names), "" if key == "ses" else file.value("ses")].append(file)
        kept = []
        for group in groups.values():
            wanted = [file for file in group if file.has(key, value)]
            there_is_a_choice = wanted if key == SUFFIX else any(file.value(key) for file in group)
            kept += wanted if there_is_a_choice else group
    return kept


def _is_mask_of(mask: _File, image: _File, choice: Choice) -> bool:
    """Whether a mask is of an image's subject, session and datatype, with no entity that contradicts its own.

    An outline of the brain, as every second tool writes, is none unless it is chosen.
    """
    asked = [(key, value) for key, value in choice if key in MASKS_OWN]
    brain = "brain" in (mask.value("desc").lower(), mask.value("label").lower())
    return (
        (mask.subject, mask.value("ses")) == (image.subject, image.value("ses"))
        and mask.path.parent.name == image.path.parent.name
        and all(image.value(key) == value for key, value in mask.entities.items() if key not in MASKS_OWN)
        and all(mask.has(key, value) for key, value in asked if mask.value(key))
        and (not brain or ("desc", "brain") in asked or ("label", "brain") in asked)
    )
