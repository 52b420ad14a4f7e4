"""Studies of a BIDS folder, ``sub-XX[/ses-YY]/<datatype>/sub-XX[_ses-YY][_<entities>]_<suffix>.nii.gz``.

``derivatives/`` lends masks and no images.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.data import nifti
from medgan.data.layouts import Listed, Study, domain_names, few, stem
from medgan.data.listing import find_images
from medgan.data.volumes import is_named
from medgan.errors import ConfigError

Choice = Sequence[tuple[str, str]]

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
LABELS = (*MASKS, "probseg")


@dataclass(frozen=True)
class Named:
    """A file and what its name says."""

    path: Path
    subject: str
    entities: Mapping[str, str]
    suffix: str

    def value(self, key: str) -> str:
        """The value of an entity, or the suffix; empty where the name has none."""
        return self.suffix if key == SUFFIX else self.entities.get(key, "")

    @property
    def session(self) -> str:
        """YY of ``ses-YY``; empty where there is none."""
        return self.entities.get("ses", "")

    @property
    def is_image(self) -> bool:
        """Whether it shows a body: no mask, no label map, no phase."""
        phase = self.entities.get("part", "mag") != "mag" or self.suffix.lower().startswith("phase")
        return not phase and self.suffix not in LABELS and "label" not in self.entities


def parse_choice(text: str) -> tuple[tuple[str, str], ...]:
    """What ``--bids run=1,acq=mprage`` says.

    Raises:
        ConfigError: Text of another form.
    """
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


def named(path: Path) -> Named | None:
    """What a file's name says; None where it is no name of a BIDS image."""
    found = NAME.fullmatch(stem(path)) if is_named(path, nifti.SUFFIXES) else None
    if not found:
        return None
    entities = dict(entity.split("-", 1) for entity in found[2].split("_")[1:])
    return Named(path, found[1], entities, found[3])


def find_files(folder: Path, *, strict: bool = True) -> list[Named]:
    """The named files of all subjects in a folder, or else of the subject whose folder it is or lies in.

    Raises:
        OSError: Where that is ``strict``, a folder that cannot be read.
    """
    subjects, within = sorted(folder.glob("sub-*/")), ""
    if not subjects:
        within = next((part.name for part in (folder, *folder.parents) if part.name.startswith("sub-")), "")
        subjects = [folder] if within else []
    files = []
    for subject in subjects:
        for image in find_images(subject).images:
            if strict and image.is_dir():
                next(image.iterdir(), None)  # raises where it cannot be listed
            found = named(image)
            if found and found.subject == (within or subject.name):
                files.append(found)
    return files


def read_bids(folder: Path, names: Sequence[str], choice: Choice = (), *, strict: bool = True) -> Listed | None:
    """The images of a BIDS folder with their masks; None where it is none.

    Args:
        folder: The data set, or the folder of a subject or of a session.
        names: The domains that are asked for; an image is of the first that its name can mean, see ``domain_names``.
        choice: Entities and their values: of images that differ in one, these are kept.
        strict: Whether a folder that cannot be read is an error.

    Raises:
        OSError: A folder that cannot be read.
        ConfigError: A value that no file has.
    """
    files = find_files(folder, strict=strict)
    if not files:
        return None
    images = [file for file in files if file.is_image]
    labels = [file for file in files if not file.is_image]
    if (folder / "derivatives").is_dir():
        labels += [
            file
            for derivative in sorted((folder / "derivatives").iterdir())
            if derivative.is_dir()
            for file in find_files(derivative, strict=strict)
        ]
    labels = [file for file in labels if file.suffix in MASKS]
    _check_choice(choice, [*images, *labels])
    kept = _chosen(images, [each for each in choice if each[0] != "label"], names)
    aside = [(file.path, "masks, label maps or phase images") for file in files if not file.is_image]
    aside += [(file.path, "not chosen by --bids") for file in images if file not in kept]
    notes = [f"--bids leaves out {len(images) - len(kept)} of {len(images)} images"] if len(kept) < len(images) else []
    studies = []
    for file in kept:
        masks = _masks(file, labels, choice)
        if len(masks) > 1:
            notes.append(
                f"{file.path.name} has {len(masks)} masks and is used with none: {_difference(masks)}; choose by --bids"
            )
        mask = masks[0].path if len(masks) == 1 else None
        studies.append(Study(file.subject, _domain(file, names), file.path, mask, session=file.session))
    return Listed(studies, aside=aside, notes=few(notes))


def difference(images: Iterable[Path]) -> str:
    """In what the names of several images differ, and how to choose among them; empty where they are no BIDS names."""
    files = [named(image) for image in images]
    known = [file for file in files if file]
    return f"{_difference(known)}; choose with --bids {_example(known)}" if len(known) == len(files) > 1 else ""


def _difference(files: Sequence[Named]) -> str:
    differing = _differing(files)
    return "they differ in " + " and ".join(
        f"{key} ({', '.join(sorted({file.value(key) or 'none' for file in files}))})" for key in differing
    )


def _differing(files: Sequence[Named]) -> list[str]:
    keys = dict.fromkeys([*(key for file in files for key in file.entities), SUFFIX])
    return [key for key in keys if len({file.value(key) for file in files}) > 1]


def _example(files: Sequence[Named]) -> str:
    first = min(files, key=lambda file: file.path)
    return ",".join(f"{key}={first.value(key)}" for key in _differing(files)) or "run=1"


def _domain(file: Named, names: Sequence[str]) -> str:
    possible = domain_names(file.suffix, enhanced="ce" in file.entities)
    return next((name for name in names if name in possible), possible[0])


def _check_choice(choice: Choice, files: Sequence[Named]) -> None:
    for key, value in choice:
        there = sorted({file.value(key) for file in files})
        if not any(_same(value, each) for each in there):
            has = ", ".join(each or "(none)" for each in there)
            raise ConfigError(f"--bids {key}={value}: no image has it; there are: {has}.")


def _chosen(files: Sequence[Named], choice: Choice, names: Sequence[str]) -> list[Named]:
    """Of images of one subject, session and domain that differ in an entity, those with the wanted value.

    Where none of them has the entity there is nothing to choose; where all have other values, none is wanted.
    """
    kept = list(files)
    for key, value in choice:
        groups: dict[tuple[str, ...], list[Named]] = defaultdict(list)
        for file in kept:
            groups[(file.subject, _domain(file, names), "" if key == "ses" else file.session)].append(file)
        kept = [
            file
            for group in groups.values()
            for file in group
            if _same(value, file.value(key)) or not _has(group, key, value)
        ]
    return kept


def _has(group: Sequence[Named], key: str, value: str) -> bool:
    """Whether there is something to choose; a suffix is every name's, and chosen where one is the wanted."""
    if key == SUFFIX:
        return any(_same(value, file.suffix) for file in group)
    return any(file.value(key) for file in group)


def _same(wanted: str, value: str) -> bool:
    """Numbers with zeros in front are what they are without."""
    both = wanted.isdecimal() and value.isdecimal()
    return int(wanted) == int(value) if both else wanted.lower() == value.lower()


def _masks(image: Named, masks: Iterable[Named], choice: Choice) -> list[Named]:
    """What is drawn on an image: of its subject, session and datatype, with no entity that contradicts its own.

    An outline of the brain, as every second tool writes, is none unless it is chosen.
    """
    asked = [(key, value) for key, value in choice if key in MASKS_OWN]

    def fits(mask: Named) -> bool:
        own = all(image.value(key) == value for key, value in mask.entities.items() if key not in MASKS_OWN)
        brain = "brain" in (mask.value("desc").lower(), mask.value("label").lower())
        wanted = all(_same(value, mask.value(key)) for key, value in asked if mask.value(key))
        return own and wanted and (not brain or ("desc", "brain") in asked or ("label", "brain") in asked)

    return [
        mask
        for mask in masks
        if (mask.subject, mask.session) == (image.subject, image.session)
        and mask.path.parent.name == image.path.parent.name
        and fits(mask)
    ]
