"""Which images are compared: every synthetic image with its source, reference, mask and labels.

A set of images is a folder, ``cohort.csv:DOMAIN`` (a cohort's images of one domain) or ``FOLDER:NAME`` (the files NAME
in a folder, such as ``plain`` for ``sub-01/plain.nii.gz``). An image's *name* is its path below the folder, without the
ending; its *subject* is the CSV's, else the first folder of the name, else the name.

Two images belong together if their names are equal, or one's ends with the other's (``convert`` keeps the names below
its input folder, and its sidecars tell of a ``--suffix``); or else if each is the only one of their subject in its set.
A synthetic image takes its subject from its source.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from medgan.data.layouts import read_table, stem
from medgan.data.listing import find_images
from medgan.data.sidecars import SUFFIX, sidecar
from medgan.errors import DataError

Role = Literal["reference", "source", "mask", "labels"]

MAPS = ("_change", "_uncertainty")
"""What `medgan convert` adds to an image's name for the maps beside it."""


@dataclass(frozen=True)
class Image:
    """One image of a set."""

    subject: str
    name: str
    """Its path below the set's folder, without the ending and with forward slashes."""
    path: Path


@dataclass(frozen=True)
class ImageSet:
    """The images of one role."""

    place: str
    """As the user wrote it."""
    folder: Path
    images: tuple[Image, ...]
    whole: bool
    """Whether all of it is meant, as of a folder, and not what is needed of it, as of a cohort."""

    def partner(self, image: Image, own: "ImageSet") -> Image | None:
        """The image of this set that belongs to ``image`` of the set ``own``.

        Raises:
            DataError: Several could.
        """
        tails = [other for other in self._by_stem.get(_last(image.name), []) if _ends_with(other.name, image.name)]
        same = [other for other in tails if other.name == image.name] or tails
        if not same:
            same = self._by_subject.get(image.subject, [])
            if len(same) == 1 < len(own._by_subject.get(image.subject, [])):
                same = []
        if len(same) > 1:
            raise DataError(
                f"{image.path}: {len(same)} of {self.place} could belong to it ({same[0].name}, {same[1].name}, …); "
                "give the two images of a pair one name below their folders."
            )
        return same[0] if same else None

    @cached_property
    def _by_stem(self) -> dict[str, list[Image]]:
        return _grouped((_last(image.name), image) for image in self.images)

    @cached_property
    def _by_subject(self) -> dict[str, list[Image]]:
        return _grouped((image.subject, image) for image in self.images)


@dataclass(frozen=True)
class Case:
    """A synthetic image and what it is compared with."""

    subject: str
    name: str
    synthetic: Path
    partners: Mapping[Role, Path]


@dataclass(frozen=True)
class Failure:
    """An image that was not judged, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Matching:
    """Who belongs to whom."""

    cases: tuple[Case, ...]
    paired: bool
    """Whether every case has a reference of its own; else the references are other subjects of the target domain."""
    own_references: int
    """Synthetic images that have a reference of their own."""
    failures: tuple[Failure, ...]


def read_images(place: str | Path, column: Literal["image", "mask"] = "image") -> ImageSet:
    """The images at a place; of a cohort's rows the ``image``, or the ``mask`` where that is asked for.

    Raises:
        DataError: The place does not exist, is no set of images, or holds none.
    """
    before, colon, wanted = str(place).rpartition(":")
    if not colon or Path(place).exists():
        before, wanted = str(place), ""
    root = Path(before)
    if root.is_file() and root.suffix.lower() == ".csv":
        images = _of_cohort(root, wanted, column)
    else:
        images = _below(root, wanted)
    if not images:
        raise DataError(f"{place} holds no {column}; give a folder of images, or `cohort.csv:DOMAIN`.")
    return ImageSet(str(place), root if root.is_dir() else root.parent, tuple(images), whole=root.is_dir())


def match(
    synthetic: ImageSet, reference: ImageSet, others: Mapping[Role, ImageSet], paired: bool | None = None
) -> Matching:
    """Each synthetic image with its partners; one that lacks any becomes a failure, never a silent gap.

    A reference without a synthetic image is a failure too, if the references are a folder; a cohort may hold more.

    Args:
        synthetic: What is judged.
        reference: Real images of the target domain.
        others: The sources, masks or labels, where there are any.
        paired: Whether each synthetic image shall have a reference of its own; by default, whether at least half have.
    """
    if "source" in others:
        synthetic = _with_subjects_of(others["source"], synthetic)
    own = sum(_partner_or_none(reference, image, synthetic) is not None for image in synthetic.images)
    if paired is None:
        paired = 2 * own >= len(synthetic.images)
    roles: dict[Role, ImageSet] = {"reference": reference, **others} if paired else dict(others)
    cases, failures = [], []
    for image in synthetic.images:
        try:
            cases.append(_case(image, synthetic, roles))
        except DataError as error:
            failures.append(Failure(image.name, str(error)))
    if paired and reference.whole:
        taken = {case.partners["reference"] for case in cases}
        lone = [image for image in reference.images if image.path not in taken]
        failures += [
            Failure(
                image.name, f"{image.path}: no synthetic image in {synthetic.place} belongs to it; convert its source."
            )
            for image in lone
        ]
    return Matching(tuple(cases), paired, own, tuple(failures))


def _case(image: Image, synthetic: ImageSet, roles: Mapping[Role, ImageSet]) -> Case:
    partners: dict[Role, Path] = {}
    for role, images in roles.items():
        partner = images.partner(image, synthetic)
        if partner is None:
            raise DataError(
                f"{image.path}: no {role} in {images.place} has its name ({image.name}) or is alone of its subject "
                f"({image.subject}); name them alike, or leave the image out."
            )
        partners[role] = partner.path
    if "reference" in partners and partners["reference"] == partners.get("source"):
        raise DataError(
            f"{partners['reference']} is both source and reference of {image.path}; give the target domain as "
            "reference, for example `cohort.csv:plain`."
        )
    return Case(image.subject, image.name, image.path, partners)


def _with_subjects_of(sources: ImageSet, synthetic: ImageSet) -> ImageSet:
    def subject(image: Image) -> str:
        source = _partner_or_none(sources, image, synthetic)
        return source.subject if source else image.subject

    return replace(synthetic, images=tuple(replace(image, subject=subject(image)) for image in synthetic.images))


def _partner_or_none(images: ImageSet, image: Image, own: ImageSet) -> Image | None:
    try:
        return images.partner(image, own)
    except DataError:
        return None


def _of_cohort(table: Path, domain: str, column: Literal["image", "mask"]) -> list[Image]:
    studies = [study for study in read_table(table) if study.domain == domain or not domain]
    paths = [(study.subject, study.image if column == "image" else study.mask) for study in studies]
    images = [Image(subject, _name(path, table.parent), path) for subject, path in paths if path]
    return list(dict.fromkeys(images))  # the scans of a subject may share one mask


def _below(folder: Path, wanted: str) -> list[Image]:
    """The images below a folder, but for maps: ``NAME_change`` beside ``NAME`` is no image of the domain."""
    found = find_images(folder).images
    keys = {_key(path) for path in found}
    maps = {path for path in found if stem(path).endswith(MAPS) and _plain_key(path) in keys}
    paths = [path for path in found if path not in maps and (not wanted or stem(path) == wanted)]
    names = [_without_suffix(_name(path, folder), path) for path in paths]
    return [Image(name.split("/")[0], name, path) for name, path in zip(names, paths, strict=True)]


def _key(path: Path) -> tuple[Path, str]:
    return path.parent, stem(path)


def _plain_key(path: Path) -> tuple[Path, str]:
    return path.parent, stem(path).rpartition("_")[0]


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder).parent / stem(path)).as_posix()


def _without_suffix(name: str, path: Path) -> str:
    """The name that an output of ``medgan convert --suffix`` has from its source."""
    suffix = sidecar(path).get(SUFFIX)
    return name.removesuffix(suffix) if isinstance(suffix, str) else name


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _ends_with(name: str, other: str) -> bool:
    return f"/{name}".endswith(f"/{other}") or f"/{other}".endswith(f"/{name}")


def _grouped(pairs: Iterable[tuple[str, Image]]) -> dict[str, list[Image]]:
    groups: dict[str, list[Image]] = defaultdict(list)
    for key, image in pairs:
        groups[key].append(image)
    return groups
