"""Which images are compared: every synthetic image with its source, reference, mask and labels.

A set of images is a folder, ``COHORT:DOMAIN`` (a cohort's images of one domain: of a CSV, folders, BIDS, nnU-Net raw)
or ``FOLDER:NAME`` (the files NAME in a folder, such as ``plain`` for ``sub-01/plain.nii.gz``). An image's *name* is its
path below the folder, without the ending; its *subject* is the cohort's, else the first folder of the name, else the
name.

Two images belong together if their names are equal, or one's ends with the other's (``convert`` keeps the names below
its input folder, and its sidecars tell of a ``--suffix``); or else if each is the only one of their subject and session
in its set. A synthetic image takes its subject from its source.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from medgan.data.layouts import key_below, stem
from medgan.data.listing import find_images
from medgan.data.masks import LABELS_JSON
from medgan.data.sidecars import SUFFIX, sidecar
from medgan.data.splits import Split
from medgan.data.studies import AS_IT_IS, Cohort, Location, Options, read_cohort
from medgan.data.tables import is_table
from medgan.errors import ConfigError, DataError
from medgan.text import printable

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
    session: str = ""
    """The visit, where the cohort's layout says so."""


@dataclass(frozen=True)
class ImageSet:
    """The images of one role."""

    place: str
    """As the user wrote it."""
    folder: Path
    images: tuple[Image, ...]
    whole: bool
    """Whether all of it is meant, as of a folder, and not what is needed of it, as of a cohort."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of a folder that is neither an image nor known to be none."""

    def partner(self, image: Image, own: "ImageSet") -> Image | None:
        """The image of this set that belongs to ``image`` of the set ``own``.

        Raises:
            DataError: Several could.
        """
        alike = self._index.get(_last(image.name), [])
        tails = [other for other in alike if f"/{other.name}".endswith(f"/{image.name}")
                 or f"/{image.name}".endswith(f"/{other.name}")]  # fmt: skip
        same = [other for other in tails if other.name == image.name] or tails
        if not same:
            visit = image.subject, image.session
            same = self._index.get(visit, [])
            if len(same) == 1 < len(own._index.get(visit, [])):
                same = []
        if len(same) > 1:
            raise DataError(
                f"{image.path}: {len(same)} of {self.place} could belong to it ({same[0].name}, {same[1].name}, …); "
                "give the two images of a pair one name below their folders."
            )
        return same[0] if same else None

    @cached_property
    def _index(self) -> dict[str | tuple[str, str], list[Image]]:
        """The images by the last part of their name, and by subject and session."""
        index: dict[str | tuple[str, str], list[Image]] = defaultdict(list)
        for image in self.images:
            index[_last(image.name)].append(image)
            index[image.subject, image.session].append(image)
        return index


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
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """What lies among the images and is neither one nor known to be none, with the reason."""


def read_images(
    place: str | Path,
    column: Literal["image", "mask"] = "image",
    *,
    pair: Sequence[str] = (),
    options: Options = AS_IT_IS,
) -> ImageSet:
    """The images at a place, a folder, ``COHORT:DOMAIN`` or ``FOLDER:NAME``; of a cohort the images or the masks.

    Args:
        place: Where.
        column: What is meant of a cohort.
        pair: The domains of sources and references, where both are known.
        options: How a cohort is read.
    """
    root, wanted = split_place(place)
    cohort = None
    if is_table(root) or (root.is_dir() and (wanted or column == "mask")):
        names = pair if wanted in pair else (wanted,)
        cohort = read_cohort(Location(root, options), names, tested=True)
    images = _of_cohort(cohort, wanted, column) if cohort else []
    passed_over: Mapping[str, str] = {}
    if cohort and (images or not root.is_dir()):
        folder, whole = cohort.beside(LABELS_JSON).parent, False
    else:
        listing, folder, whole = find_images(root), root, True
        images = _below(root, wanted, listing.images)
        passed_over = {printable(path.relative_to(root).as_posix()): why for path, why in listing.passed_over.items()}
    if not images:
        raise DataError(f"{place} holds no {column}; give a folder of images, or `COHORT:DOMAIN`.")
    return ImageSet(str(place), folder, tuple(images), whole, passed_over)


def check_heeded(options: Options, places: Iterable[str | Path | None]) -> None:
    """Refuse options that none of the places heeds."""
    tables = [is_table(split_place(place)[0]) for place in places if place is not None]
    if options.root and not any(tables):
        raise ConfigError("--root is for a cohort CSV, whose paths are relative to it; no place is one. Leave it out.")
    if options.bids and all(tables):
        raise ConfigError("--bids chooses among the files of a BIDS folder; no place is one. Leave it out.")


def split_place(place: str | Path) -> tuple[Path, str]:
    """A place's folder or table, and what is named after the colon; empty where nothing is."""
    before, colon, wanted = str(place).rpartition(":")
    return (Path(before), wanted) if colon and not Path(place).exists() else (Path(place), "")


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
        synthetic = _with_subjects_of(synthetic, others["source"])
    own = sum(_partner_or_none(reference, image, synthetic) is not None for image in synthetic.images)
    if paired is None:
        paired = 2 * own >= len(synthetic.images)
    roles: dict[Role, ImageSet] = {"reference": reference, **others} if paired else dict(others)
    cases, failures = [], []
    for image in synthetic.images:
        try:
            cases.append(_case(image, synthetic, roles))
        except DataError as error:
            failures.append(Failure(image.name, printable(str(error))))
    if paired and reference.whole:
        taken = {case.partners["reference"] for case in cases}
        why = f"no synthetic image in {synthetic.place} belongs to it; convert its source."
        failures += [
            Failure(image.name, printable(f"{image.path}: {why}"))
            for image in reference.images
            if image.path not in taken
        ]
    passed_over = {name: why for images in (*roles.values(), synthetic) for name, why in images.passed_over.items()}
    return Matching(tuple(cases), paired, own, tuple(failures), passed_over)


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
            "reference, for example `COHORT:plain`."
        )
    return Case(image.subject, image.name, image.path, partners)


def _with_subjects_of(synthetic: ImageSet, sources: ImageSet) -> ImageSet:
    partners = [(image, _partner_or_none(sources, image, synthetic)) for image in synthetic.images]
    images = [replace(own, subject=its.subject, session=its.session) if its else own for own, its in partners]
    return replace(synthetic, images=tuple(images))


def _partner_or_none(images: ImageSet, image: Image, own: ImageSet) -> Image | None:
    try:
        return images.partner(image, own)
    except DataError:
        return None


def _of_cohort(cohort: Cohort, domain: str, column: Literal["image", "mask"]) -> list[Image]:
    studies = [study for study in cohort.studies if study.domain == domain or not domain]
    paths = [(study, study.image if column == "image" else study.mask) for study in studies]
    images = [Image(study.subject, _name(path, cohort.root), path, study.session) for study, path in paths if path]
    return list(dict.fromkeys(images))  # the scans of a subject may share one mask


def _below(folder: Path, wanted: str, paths: Sequence[Path]) -> list[Image]:
    """The images below a folder, but for maps: ``NAME_change`` beside ``NAME`` is no image of the domain."""
    known = {(path.parent, stem(path)) for path in paths}
    images = []
    for path in paths:
        is_map = stem(path).endswith(MAPS) and (path.parent, stem(path).rpartition("_")[0]) in known
        if not is_map and wanted in ("", stem(path)):
            name, suffix = _name(path, folder), sidecar(path).get(SUFFIX)
            if isinstance(suffix, str):  # of `medgan convert --suffix`
                name = name.removesuffix(suffix)
            images.append(Image(name.split("/")[0], name, path))
    return images


def _name(path: Path, folder: Path) -> str:
    return printable(key_below(path, folder))


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def training_pairs(
    training: str | Path, split: Split | None, source: str | None, reference: str, options: Options = AS_IT_IS
) -> tuple[Case, ...]:
    """The pairs of source and reference to fit baselines on, as cases whose synthetic image is the reference itself.

    Args:
        training: A cohort, whose domains are then those of the two places, or ``COHORT:SOURCE,REFERENCE``.
        split: Who of the cohort was trained on; without it, everybody.
        source: The place of the evaluated sources, such as ``cohort.csv:mr``; nothing if there are none.
        reference: That of the references.
        options: How the cohort is read.

    Raises:
        ConfigError: The domains are not known.
    """
    table, colon, names = str(training).rpartition(":")
    if colon and not Path(training).exists():
        domains = [name.strip() for name in names.split(",")]
    else:
        table, domains = str(training), [split_place(place)[1] for place in (source, reference) if place]
    if not all(domains) or len(domains) not in ((2,) if source else (1, 2)):
        raise ConfigError(
            f"--training {training}: which domains are source and reference is not known; write "
            "COHORT:SOURCE,REFERENCE, for example cohort.csv:mr,ct."
        )
    references = read_images(f"{table}:{domains[-1]}", pair=tuple(domains), options=options)
    others: dict[Role, ImageSet] = {}
    if source:
        others["source"] = read_images(f"{table}:{domains[0]}", pair=tuple(domains), options=options)
    cases = match(references, references, others, paired=True).cases
    return tuple(case for case in cases if split is None or case.subject in split.train)
