"""How studies lie on disk without a table: plain folders, one a domain, or nnU-Net raw; and what a study is.

Each reader lists what is there, under the domain names that the layout gives it; ``medgan.data.studies`` keeps those
of a pair. Tables and BIDS have modules of their own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan.data import dicom
from medgan.data.listing import find_images
from medgan.data.streams import is_folder
from medgan.data.volumes import IMAGE_SUFFIXES, is_series
from medgan.documents import read_json
from medgan.errors import DataError

ENDINGS = (*IMAGE_SUFFIXES, *dicom.SUFFIXES)
ROLES = ("source", "target")
"""What the folders of two domains may be called instead of by their names."""
MASK_FOLDERS = ("masks", "labels", "segmentations")
"""Folders beside those of the domains that hold masks."""
MASK_ENDINGS = ("mask", "masks", "label", "labels", "seg", "segmentation", "roi")
"""After ``_``, ``-`` or ``.``: the file ``NAME_mask`` beside ``NAME`` is its mask."""
MAX_NAMED = 4
MR_WORDS = ("t1", "t2", "pd", "t2star", "flair")
ENHANCED = ("t1ce", "t1gd", "t1c", "t1_ce", "t1_gd")


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
    """What a layout's reader found."""

    studies: Sequence[Study]
    aside: Sequence[tuple[Path, str]] = ()
    """Images that are known to be none of the studies, and what they are."""
    notes: tuple[str, ...] = ()
    """What the user should know."""


def stem(image: Path) -> str:
    """A study's name without its ending: ``a/case.nii.gz`` is ``case``; a series folder keeps its dots."""
    ending = next((e for e in ENDINGS if image.name.lower().endswith(e)), "")
    return image.name if is_folder(image) else image.name[: len(image.name) - len(ending)]


def domain_names(word: str, *, enhanced: bool = False) -> list[str]:
    """What domains an image may be of by the word that the field calls it, the closest first.

    ``T1w`` is ``t1`` or ``t1w``, ``FLAIR`` is ``flair``, and ``mr`` is any of T1w, T2w, PDw, T2starw and FLAIR; with
    contrast agent ``_gd`` follows: ``t1_gd``. ``CT`` is ``ct``, and ``contrast`` with agent or ``plain`` without.
    """
    word = word.lower()
    if word == "ct":
        return ["contrast" if enhanced else "plain", "ct"]
    if word in ENHANCED:
        return ["t1_gd", word, "mr"]
    short = word.removesuffix("w")
    return [each + "_gd" * enhanced for each in (short, word)] + ["mr"] * (short in MR_WORDS)


def sides(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folder of each domain: ``<domain name>/`` in small or capital letters, or of two ``source/`` and ``target/``.

    Raises:
        DataError: Two folders that could be one domain's.
    """
    folders = _folders(path)
    found = {}
    for name, role in zip(names, ROLES if len(set(names)) == len(ROLES) else names, strict=True):
        word = next((word for word in (name, role) if word in folders), None)
        if word:
            if len(folders[word]) > 1:
                raise DataError(f"{path} has {' and '.join(each.name for each in folders[word])}; leave one.")
            found[name] = folders[word][0]
    return found


def says_its_domain(path: Path, names: Sequence[str], sides: Mapping[str, Path]) -> bool:
    """Whether a folder with half of a pair is a layout, where it would be searched to the bottom otherwise.

    ``plain/`` alone, or with masks, says that it holds plain scans. Among folders of other names it is one of many, and
    ``source/`` or ``target/`` alone says nothing.
    """
    own = {side.name.lower() for side in sides.values()}
    return own <= {*names} and not _folders(path).keys() - own - {*MASK_FOLDERS}


def _folders(path: Path) -> dict[str, list[Path]]:
    """The folders in a folder, by their names in small letters."""
    folders: dict[str, list[Path]] = {}
    for folder in sorted(path.iterdir()):
        if is_folder(folder):
            folders.setdefault(folder.name.lower(), []).append(folder)
    return folders


def read_folders(path: Path, names: Sequence[str], *, strict: bool = True) -> Listed:
    """Studies of plain folders: the subject is the first folder below the domain's, or else the file's stem.

    A mask is ``NAME_mask`` beside ``NAME``, or has the image's name below ``masks/`` or ``masks/<domain>/``. Of several
    masks none is used: one may show a lesion, and another an organ.

    Args:
        path: The folder that holds those of the domains.
        names: The domains that are asked for, the source first, where there are two.
        strict: Whether an image of which nobody knows whose it is is an error.

    Raises:
        DataError: Such an image, or two folders that could be one domain's.
    """
    by_word = _folders(path)
    drawn: dict[str, list[Path]] = {}
    for word in MASK_FOLDERS:
        for folder in by_word.get(word, []) if word not in names else []:
            for mask in find_images(folder).images:
                drawn.setdefault(key_below(mask, folder), []).append(mask)
    masks = [mask for several in drawn.values() for mask in several]
    studies, notes = [], []
    for name, folder in sides(path, names).items():
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
            chosen = own[0] if len(own) == 1 else None
            studies.append(Study(_subject(image.relative_to(folder), image, strict), name, image, chosen))
    return Listed(studies, aside=[(mask, "masks or label maps") for mask in masks], notes=few(notes))


def few(notes: Sequence[str]) -> tuple[str, ...]:
    """The first notes, and how many more there are."""
    more = (f"and {len(notes) - MAX_NAMED} more like these",) if len(notes) > MAX_NAMED else ()
    return (*notes[:MAX_NAMED], *more)


def key_below(image: Path, folder: Path) -> str:
    """What an image is called below a folder, and its mask below another."""
    return (image.relative_to(folder).parent / stem(image)).as_posix()


def masks_beside(images: Mapping[Path, str]) -> dict[str, list[Path]]:
    """By the name of an image, the images that are its masks by their names' endings.

    Args:
        images: What each is called, as by :func:`key_below`.
    """
    names = set(images.values())
    beside: dict[str, list[Path]] = {}
    for image, key in images.items():
        if (own := _masked(key)) in names:
            beside.setdefault(own, []).append(image)
    return beside


def _masked(key: str) -> str:
    """Whose mask a file would be by its ending; empty where the ending says nothing."""
    for mark in "_-.":
        before, _, last = key.rpartition(mark)
        if last.lower() in MASK_ENDINGS:
            return before
    return ""


def _subject(below: Path, image: Path, strict: bool) -> str:
    if strict and len(below.parts) == 1 and is_series(image):
        raise DataError(
            f"{image.parent} holds several DICOM series and no folder for each subject, so whose they are is unknown; "
            "give each subject a folder there, or list the series in a CSV."
        )
    return below.parts[0] if len(below.parts) > 1 else stem(image)


LABELS = ("labelsTr", "labelsTs")
TRAINED, TESTED = "imagesTr", "imagesTs"
"""The folders of an nnU-Net data set whose subjects are trained on, and of those that are kept apart."""


def nnunet_folders(path: Path, *, tested: bool) -> tuple[Path, tuple[str, ...]]:
    """The data set that a folder is, and which of its image folders are meant; none where it is no nnU-Net raw.

    Args:
        path: The data set, or one of its folders.
        tested: Whether images that nobody is trained on are meant as well.
    """
    if tested and path.name in (TRAINED, TESTED, *LABELS) and (path.parent / "dataset.json").is_file():
        return path.parent, (path.name,)
    folders = tuple(name for name in (TRAINED, TESTED) if (path / name).is_dir())
    if not folders or not (path / "dataset.json").is_file():
        return path, ()
    return path, folders if tested else (TRAINED,)


def read_nnunet(
    path: Path, names: Sequence[str], folders: Sequence[str] = (TRAINED,), *, strict: bool = True
) -> Listed:
    """Studies of an nnU-Net raw folder: ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``, ``dataset.json``.

    The channel's name is the domain's, see ``domain_names``; the case is the subject, its label the mask.

    Args:
        path: The data set.
        names: The domains that are asked for.
        folders: Its image folders.
        strict: Whether an image of no channel is an error, or one that is left aside.

    Raises:
        DataError: No channels or no such folder, or an image of no channel.
    """
    channels, ending = _description(path / "dataset.json")
    named = {number: _channel_domain(name, names) for number, name in channels.items()}
    studies: list[Study] = []
    aside: list[tuple[Path, str]] = []
    for folder in (each for each in folders if each not in LABELS):
        for image, study in _cases(path, folder, named, ending):
            if study:
                studies.append(study)
            elif strict:
                raise DataError(
                    f"{image} is of no channel in dataset.json; name images CASE_0000{ending}, by the channel's number."
                )
            else:
                aside.append((image, "of no channel in dataset.json"))
    aside += [
        (label, "label maps") for name in LABELS if (path / name).is_dir() for label in find_images(path / name).images
    ]
    return Listed(studies, aside=aside)


def _channel_domain(channel: str, names: Iterable[str]) -> str:
    possible = [channel, *domain_names(channel)]
    return next((name for name in names if name in possible), channel)


def _description(path: Path) -> tuple[dict[int, str], str]:
    """What ``dataset.json`` says of channels (``modality`` before nnU-Net 2) and of the files' ending."""
    try:
        description = read_json(path, strict=False)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); correct it, or copy it again.") from None
    try:
        names = description.get("channel_names") or description["modality"]
        numbered = names.items() if isinstance(names, dict) else enumerate(names)
        channels = {int(number): str(name).lower() for number, name in numbered}
        return channels, str(description.get("file_ending", ".nii.gz"))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f'{path} names no channels; it must hold `"channel_names": {{"0": "<domain>", …}}`.') from None


def _cases(path: Path, folder: str, channels: Mapping[int, str], ending: str) -> Iterator[tuple[Path, Study | None]]:
    """Each image of a folder, and the study that it is by its name."""
    if not (path / folder).is_dir():
        raise DataError(
            f"{path} has no {folder}/, where an nnU-Net data set has what is trained on; name the folder so."
        )
    for image in sorted((path / folder).iterdir()):
        if not image.name.endswith(ending) or image.name.startswith("."):
            continue
        case, _, number = image.name.removesuffix(ending).rpartition("_")
        if not case or not number.isdecimal() or int(number) not in channels:
            yield image, None
            continue
        label = path / folder.replace("images", "labels") / (case + ending)
        yield image, Study(case, channels[int(number)], image, label if label.exists() else None)
