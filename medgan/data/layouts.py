"""How studies lie on disk without a table: plain folders, one a domain, nnU-Net raw, or BIDS; and what a study is.

Each reader lists what is there, under the domain names that the layout gives it; ``medgan.data.studies`` keeps those
of a pair. In BIDS a file is ``sub-XX[/ses-YY]/<datatype>/sub-XX[_ses-YY][_<entities>]_<suffix>.nii.gz``, and
``derivatives/`` lends masks and no images.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.data import dicom, nifti
from medgan.data.domains import domain_names
from medgan.data.listing import find_images
from medgan.data.streams import is_folder
from medgan.data.volumes import IMAGE_SUFFIXES, is_named, is_series
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError

ENDINGS = (*IMAGE_SUFFIXES, *dicom.SUFFIXES)
ROLES = ("source", "target")
"""What the folders of two domains may be called instead of by their names."""
MASK_FOLDERS = ("masks", "labels", "segmentations")
"""Folders beside those of the domains that hold masks."""
MASK_ENDINGS = ("mask", "masks", "label", "labels", "seg", "segmentation", "roi")
"""After ``_``, ``-`` or ``.``: the file ``NAME_mask`` beside ``NAME`` is its mask."""
IMAGES_TR, IMAGES_TS = "imagesTr", "imagesTs"
"""The folders of an nnU-Net data set whose subjects are trained on, and of those that are kept apart."""
LABELS = ("labelsTr", "labelsTs")
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
    session: str = ""
    """The visit, where the layout says so: only images of one visit are a pair."""


@dataclass(frozen=True)
class Listed:
    """The studies of a table or of a folder in a layout."""

    studies: tuple[Study, ...]
    root: Path = Path()
    """The folder to which files are named relatively, so that a cohort may move."""
    layout: str = ""
    """How it was read, in words."""
    aside: tuple[tuple[Path, str], ...] = ()
    """Images there that are known to be none of its studies, and what they are."""
    notes: tuple[str, ...] = ()
    """What the user should know of how it was read."""


def stem(image: Path) -> str:
    """A study's name without its ending: ``a/case.nii.gz`` is ``case``; a series folder keeps its dots."""
    ending = next((e for e in ENDINGS if image.name.lower().endswith(e)), "")
    return image.name if is_folder(image) else image.name[: len(image.name) - len(ending)]


def map_beside(image: Path, kind: str) -> Path:
    """Where ``medgan convert`` writes a map of an image: ``NAME_change.nii.gz`` or ``NAME_uncertainty.nii.gz``."""
    return image.with_name(f"{stem(image)}_{kind}.nii.gz")


def key_below(image: Path, folder: Path) -> str:
    """What an image is called below a folder, and its mask below another."""
    return (image.relative_to(folder).parent / stem(image)).as_posix()


def masks_beside(images: Mapping[Path, str]) -> dict[str, list[Path]]:
    """By an image's name, as of :func:`key_below`, the images that are its masks by their names' endings."""
    names = set(images.values())
    beside: dict[str, list[Path]] = {}
    for image, key in images.items():
        parts = (key.rpartition(mark) for mark in "_-.")
        own = next((before for before, _, last in parts if last.lower() in MASK_ENDINGS), "")
        if own in names:
            beside.setdefault(own, []).append(image)
    return beside


def read_folders(path: Path, names: Sequence[str], *, tested: bool = False) -> Listed | None:
    """Studies of plain folders: the subject is the first folder below the domain's, or else the file's stem.

    A domain's folder is ``<domain name>/`` in small or capital letters, or of two ``source/`` and ``target/``. A mask
    is ``NAME_mask`` beside ``NAME``, or has the image's name below ``masks/`` or ``masks/<domain>/``. Of several masks
    none is used: one may show a lesion, and another an organ.

    If ``tested``, one side of a pair counts only where nothing else is there, and unknown subjects are no error.
    """
    folders: dict[str, list[Path]] = {}  # by their names in small letters
    for folder in filter(is_folder, sorted(path.iterdir())):
        folders.setdefault(folder.name.lower(), []).append(folder)
    if {"trainA", "trainB"} <= {each.name for several in folders.values() for each in several}:
        raise DataError(
            f"{path} has trainA/ and trainB/, which do not say what they show; call them {' and '.join(names)}, or "
            "give one of them alone."
        )
    sides = _sides(path, folders, names)
    # One side alone: `plain/`, perhaps with masks, says that it holds plain scans; among folders of other names it is
    # one of many, and `source/` says nothing.
    own_names = {side.name.lower() for side in sides.values()}
    half_said = own_names <= {*names} and not folders.keys() - own_names - {*MASK_FOLDERS}
    if not sides or (tested and len(sides) < len(set(names)) and not half_said):
        return None
    drawn: dict[str, list[Path]] = {}
    for folder in (each for word in MASK_FOLDERS if word not in names for each in folders.get(word, [])):
        for mask in find_images(folder).images:
            drawn.setdefault(key_below(mask, folder), []).append(mask)
    masks = [mask for several in drawn.values() for mask in several]
    studies, notes = [], []
    for name, folder in sides.items():
        images = {image: key_below(image, folder) for image in find_images(folder).images}
        beside = masks_beside(images)
        drawn_beside = {mask for several in beside.values() for mask in several}
        masks += sorted(drawn_beside)
        for image, key in images.items():
            if image in drawn_beside:
                continue
            own = [*beside.get(key, []), *(drawn.get(f"{folder.name}/{key}") or drawn.get(key, []))]
            if len(own) > 1:
                listed = ", ".join(mask.relative_to(path).as_posix() for mask in own)
                notes.append(f"{name}/{key} has {len(own)} masks and is used with none: {listed}; leave one")
            subject = _subject(image, folder, strict=not tested)
            studies.append(Study(subject, name, image, own[0] if len(own) == 1 else None))
    layout = f"folders {' and '.join(f'{side.name}/' for side in sides.values())}"
    return Listed(tuple(studies), path, layout, tuple((mask, "masks or label maps") for mask in masks), tuple(notes))


def _sides(path: Path, folders: Mapping[str, Sequence[Path]], names: Sequence[str]) -> dict[str, Path]:
    """The folder of each domain."""
    sides = {}
    for name, role in zip(names, ROLES if len(set(names)) == len(ROLES) else names, strict=True):
        own = folders.get(name) or folders.get(role, [])
        if len(own) > 1:
            raise DataError(f"{path} has {' and '.join(each.name for each in own)}; leave one.")
        if own:
            sides[name] = own[0]
    return sides


def _subject(image: Path, folder: Path, *, strict: bool) -> str:
    below = image.relative_to(folder).parts
    if strict and len(below) == 1 and is_series(image):
        raise DataError(
            f"{image.parent} holds several DICOM series and no folder for each subject, so whose they are is unknown; "
            "give each subject a folder there, or list the series in a CSV."
        )
    return below[0] if len(below) > 1 else stem(image)


def read_nnunet(path: Path, names: Sequence[str], *, tested: bool = False) -> Listed | None:
    """Studies of an nnU-Net raw folder: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``.

    The channel's name is the domain's, see ``domain_names``; the case is the subject, its label the mask. If
    ``tested``, it may be one of the data set's folders, images that nobody is trained on are meant as well, and one of
    no channel is left aside.
    """
    root, folders = path, [name for name in (IMAGES_TR, IMAGES_TS) if (path / name).is_dir()]
    if tested and path.name in (IMAGES_TR, IMAGES_TS, *LABELS) and (path.parent / "dataset.json").is_file():
        root, folders = path.parent, [path.name]
    if not folders or not (root / "dataset.json").is_file():
        return None
    channels, ending = _description(root / "dataset.json", names)
    studies: list[Study] = []
    aside: list[tuple[Path, str]] = []
    for name in [name for name in folders if name not in LABELS] if tested else [IMAGES_TR]:
        if not (root / name).is_dir():
            raise DataError(f"{root} has no {name}/, where an nnU-Net data set has what is trained on; name it so.")
        for image in sorted((root / name).iterdir()):
            if not image.name.endswith(ending) or image.name.startswith("."):
                continue
            case, _, number = image.name.removesuffix(ending).rpartition("_")
            if case and number.isdecimal() and int(number) in channels:
                label = root / name.replace("images", "labels") / (case + ending)
                studies.append(Study(case, channels[int(number)], image, label if label.exists() else None))
            elif tested:
                aside.append((image, "of no channel in dataset.json"))
            else:
                raise DataError(f"{image} is of no channel in dataset.json; name it CASE_0000{ending}, by the channel.")
    labels = [root / name for name in LABELS if (root / name).is_dir()]
    aside += [(label, "label maps") for folder in labels for label in find_images(folder).images]
    return Listed(tuple(studies), path, "nnU-Net raw", tuple(aside))


def _description(path: Path, names: Sequence[str]) -> tuple[dict[int, str], str]:
    """The domains by channel (``modality`` before nnU-Net 2) and the files' ending, as ``dataset.json`` says."""
    try:
        description = read_json(path, strict=False)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); correct it, or copy it again.") from None
    try:
        named = description.get("channel_names") or description["modality"]
        numbered = named.items() if isinstance(named, dict) else enumerate(named)
        possible = {int(n): [str(name).lower(), *domain_names(str(name))] for n, name in numbered}
        ending = str(description.get("file_ending", ".nii.gz"))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f'{path} names no channels; it must hold `"channel_names": {{"0": "<domain>", …}}`.') from None
    return {n: next((name for name in names if name in those), those[0]) for n, those in possible.items()}, ending


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
    chosen = _chosen(images, [each for each in choice if each[0] != "label"], names)
    aside = [(file.path, "masks, label maps or phase images") for file in others]
    aside += [(file.path, "not chosen by --bids") for file in images if file not in chosen]
    surplus = len(images) - len(chosen)
    notes = [f"--bids leaves out {surplus} of {len(images)} images"] if surplus else []
    studies = []
    for file in chosen:
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
    images = list(files)
    for key, value in choice:
        groups: dict[tuple[str, ...], list[_File]] = defaultdict(list)
        for file in images:
            groups[file.subject, file.domain(names), "" if key == "ses" else file.value("ses")].append(file)
        images = []
        for group in groups.values():
            wanted = [file for file in group if file.has(key, value)]
            there_is_a_choice = wanted if key == SUFFIX else any(file.value(key) for file in group)
            images += wanted if there_is_a_choice else group
    return images


def _is_mask_of(mask: _File, image: _File, choice: Choice) -> bool:
    """Whether a mask is of an image's subject, session and datatype, with no entity that contradicts its own.

    An outline of the brain, as every second tool writes, is none unless it is chosen.
    """
    mask_choice = [(key, value) for key, value in choice if key in MASKS_OWN]
    brain = "brain" in (mask.value("desc").lower(), mask.value("label").lower())
    return (
        (mask.subject, mask.value("ses")) == (image.subject, image.value("ses"))
        and mask.path.parent.name == image.path.parent.name
        and all(image.value(key) == value for key, value in mask.entities.items() if key not in MASKS_OWN)
        and all(mask.has(key, value) for key, value in mask_choice if mask.value(key))
        and (not brain or ("desc", "brain") in mask_choice or ("label", "brain") in mask_choice)
    )
