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
from medgan.data.splits import Split
from medgan.data.studies import AS_IT_IS, SUFFIX_KEY, Location, Options, read_cohort, sidecar
from medgan.data.tables import is_table
from medgan.errors import ConfigError, DataError
from medgan.text import printable

Place = str | Path
Role = Literal["reference", "source", "mask", "labels"]

MAPS = ("_change", "_uncertainty")
"""What `medgan convert` adds to an image's name for the maps beside it."""


@dataclass(frozen=True)
class Image:
    """One image of a set; its session is the visit, where the cohort's layout says so."""

    subject: str
    name: str
    path: Path
    session: str = ""


@dataclass(frozen=True)
class ImageSet:
    """The images of one role."""

    place: str
    folder: Path
    images: tuple[Image, ...]
    whole: bool
    """Whether all of it is meant, as of a folder, and not what is needed of it, as of a cohort."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of a folder that is neither an image nor known to be none."""

    def candidates(self, image: Image, own: "ImageSet") -> list[Image]:
        """The images of this set that could belong to ``image`` of the set ``own``: one where that is clear."""
        alike = self._index[image.name.split("/")[-1]]
        tails = [other for other in alike if f"/{other.name}".endswith(f"/{image.name}")
                 or f"/{image.name}".endswith(f"/{other.name}")]  # fmt: skip
        if tails:
            return [other for other in tails if other.name == image.name] or tails
        visit = image.subject, image.session
        same = self._index[visit]
        return [] if len(same) == 1 < len(own._index[visit]) else same

    @cached_property
    def _index(self) -> defaultdict[str | tuple[str, str], list[Image]]:
        """The images by the last part of their name, and by subject and session."""
        index: defaultdict[str | tuple[str, str], list[Image]] = defaultdict(list)
        for image in self.images:
            index[image.name.split("/")[-1]].append(image)
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
    """As of the sets."""


def read_images(
    place: Place,
    column: Literal["image", "mask"] = "image",
    *,
    pair: Sequence[str] = (),
    options: Options = AS_IT_IS,
) -> ImageSet:
    """The images at a place; of a cohort its images or its masks, as ``column`` says.

    ``pair`` are the domains of sources and references, where both are known.
    """
    root, wanted = split_place(place)
    names = pair if wanted in pair else (wanted,)
    images: list[Image] = []
    of_cohort = is_table(root) or (root.is_dir() and (wanted or column == "mask"))
    if of_cohort and (cohort := read_cohort(Location(root, options), names, tested=True)):
        for study in cohort.studies:
            path = study.image if column == "image" else study.mask
            if path and wanted in ("", study.domain):
                name = printable(key_below(path, cohort.root))
                images.append(Image(study.subject, name, path, study.session))
        if images:
            images = list(dict.fromkeys(images))  # the scans of a subject may share one mask
            return ImageSet(str(place), cohort.beside(LABELS_JSON).parent, tuple(images), whole=False)
    passed_over: Mapping[str, str] = {}
    if not is_table(root):
        listing = find_images(root)
        images = _below(root, wanted, listing.images)
        passed_over = {printable(path.relative_to(root).as_posix()): why for path, why in listing.passed_over.items()}
    if not images:
        raise DataError(f"{place} holds no {column}; give a folder of images, or `COHORT:DOMAIN`.")
    return ImageSet(str(place), root, tuple(images), whole=True, passed_over=passed_over)


def _below(folder: Path, wanted: str, paths: Sequence[Path]) -> list[Image]:
    """The images below a folder, but for maps: ``NAME_change`` beside ``NAME`` is no image of the domain."""
    known = {(path.parent, stem(path)) for path in paths}
    images = []
    for path in paths:
        is_map = stem(path).endswith(MAPS) and (path.parent, stem(path).rpartition("_")[0]) in known
        if not is_map and wanted in ("", stem(path)):
            name, suffix = printable(key_below(path, folder)), sidecar(path).get(SUFFIX_KEY)
            if isinstance(suffix, str):  # of `medgan convert --suffix`
                name = name.removesuffix(suffix)
            images.append(Image(name.split("/")[0], name, path))
    return images


def check_heeded(options: Options, places: Iterable[Place | None]) -> None:
    """Refuse options that none of the places heeds."""
    tables = [is_table(split_place(place)[0]) for place in places if place is not None]
    if options.root and not any(tables):
        raise ConfigError("--root is for a cohort CSV, whose paths are relative to it; no place is one. Leave it out.")
    if options.bids and all(tables):
        raise ConfigError("--bids chooses among the files of a BIDS folder; no place is one. Leave it out.")


def split_place(place: Place) -> tuple[Path, str]:
    """A place's folder or table, and what is named after the colon; empty where nothing is."""
    before, colon, wanted = str(place).rpartition(":")
    return (Path(before), wanted) if colon and not Path(place).exists() else (Path(place), "")


def match(
    synthetic: ImageSet, reference: ImageSet, others: Mapping[Role, ImageSet], paired: bool | None = None
) -> Matching:
    """Each synthetic image with its partners; one that lacks any becomes a failure, never a silent gap.

    A reference without a synthetic image is a failure too, if the references are a folder; a cohort may hold more.
    ``paired`` is whether each synthetic image shall have a reference of its own; by default, whether at least half do.
    """
    if "source" in others:
        images = []
        for image in synthetic.images:
            sources = others["source"].candidates(image, synthetic)
            whose = sources[0] if len(sources) == 1 else image
            images.append(replace(image, subject=whose.subject, session=whose.session))
        synthetic = replace(synthetic, images=tuple(images))
    own = sum(len(reference.candidates(image, synthetic)) == 1 for image in synthetic.images)
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
        files = images.candidates(image, synthetic)
        if len(files) > 1:
            raise DataError(
                f"{image.path}: {len(files)} of {images.place} could belong to it ({files[0].name}, {files[1].name}, "
                "…); give the two images of a pair one name below their folders."
            )
        if not files:
            raise DataError(
                f"{image.path}: no {role} in {images.place} has its name ({image.name}) or is alone of its subject "
                f"({image.subject}); name them alike, or leave the image out."
            )
        partners[role] = files[0].path
    if "reference" in partners and partners["reference"] == partners.get("source"):
        raise DataError(
            f"{partners['reference']} is both source and reference of {image.path}; give the target domain as "
            "reference, for example `COHORT:plain`."
        )
    return Case(image.subject, image.name, image.path, partners)


def training_pairs(
    training: Place, split: Split | None, source: Place | None, reference: Place, options: Options = AS_IT_IS
) -> tuple[Case, ...]:
    """The pairs of source and reference to fit baselines on, as cases whose synthetic image is the reference itself.

    ``training`` is a cohort, whose domains are then those of the evaluated ``source`` and ``reference``, or
    ``COHORT:SOURCE,REFERENCE``. With a ``split`` only its training part is taken.
    """
    table, named = split_place(training)
    domains = [split_place(place)[1] for place in (source, reference) if place]
    if named:
        domains = [name.strip() for name in named.split(",")]
    if not all(domains) or len(domains) not in ((2,) if source else (1, 2)):
        raise ConfigError(
            f"--training {training}: which domains are source and reference is not known; write "
            "COHORT:SOURCE,REFERENCE, for example cohort.csv:mr,ct."
        )
    references = read_images(f"{table}:{domains[-1]}", pair=domains, options=options)
    others: dict[Role, ImageSet] = {}
    if source:
        others["source"] = read_images(f"{table}:{domains[0]}", pair=domains, options=options)
    cases = match(references, references, others, paired=True).cases
    return tuple(case for case in cases if split is None or case.subject in split.train)
