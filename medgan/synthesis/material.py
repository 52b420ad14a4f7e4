"""What an augmented cohort is made of: one cohort, its split, and the training cases that are donors and recipients."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medgan.data.cache import Cache
from medgan.data.domains import Domain, DomainPair
from medgan.data.hashes import file_hash, known_by
from medgan.data.leaks import owner_of
from medgan.data.preparation import GridConfig
from medgan.data.sidecars import without_augmented
from medgan.data.splits import Part, Split, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Data, Study, find_cohort
from medgan.data.volumes import read_volume
from medgan.errors import DataError, LeakageError, MedganError
from medgan.segmentation.labelled import LABELS_JSON, Labelled, Labels, labels_of, read_labelled
from medgan.text import few

MAX_NAMED = 5


@dataclass(frozen=True)
class Material:
    """Everything real that goes into an augmented cohort."""

    cohort: Cohort
    split: Split
    recipients: tuple[Study, ...]
    """Labelled images of training subjects that get synthetic ones."""
    cases: Mapping[Study, Labelled]
    """All labelled training images that can be read; the donors."""
    broken: Mapping[Study, MedganError]
    """Those that cannot, and why."""
    labels: Labels
    left_out: int = 0
    """Images of the cohort's table that an earlier augmentation made: they are neither donors nor recipients, and no
    part of ``cohort``."""

    @property
    def donors(self) -> Sequence[Labelled]:
        """In the cohort's order."""
        return tuple(self.cases.values())

    @property
    def donors_hash(self) -> str:
        """SHA-256 over the donors' subjects, images and masks: a case depends on all of them."""
        lines = [
            "\t".join([study.subject, *(file_hash(path) for path in (study.image, study.mask) if path)])
            for study in self.cases
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def find_material(
    data: Data,
    domain: Domain,
    grid: GridConfig,
    labels: Labels | None,
    split: Split | None,
    subjects: Sequence[str],
    cache: Cache,
) -> Material:
    """Read a cohort's real training cases; those that an earlier augmentation made are left out.

    Args:
        data: The cohort.
        domain: Whose images are augmented.
        grid: The networks' grid.
        labels: What is synthesised; None is all that the cohort's masks mark.
        split: Whom a model has learnt from; None is the cohort's own ``split`` column, else a drawn split.
        subjects: The recipients; none is every training subject with a mask.
        cache: Keeps prepared images.

    Raises:
        DataError: No cohort, none but synthetic cases, subjects that the split does not know, or no labelled training
            case that can be read.
        LeakageError: A recipient or donor that is validated or tested on, by name or by content.
    """
    pair = DomainPair(source=domain, target=domain, paired=False)
    cohort, made_before = without_augmented(find_cohort(data, pair))
    parts = split or split_subjects(cohort, pair, SplitConfig())
    _check_parts(cohort, parts)
    _check_recipients(parts, subjects)
    training = [study for study in parts.part(cohort, "train").studies if study.mask]
    _check_content(training, cohort, parts)
    names = labels or _readable_labels(cohort)
    cases, broken = _read(training, domain, grid, names, cache)
    if not cases:
        reasons = "; ".join(str(error) for error in list(broken.values())[:MAX_NAMED])
        raise DataError(f"{cohort.root}: no labelled training image can be read. {reasons or 'Name masks in its CSV.'}")
    recipients = tuple(study for study in training if not subjects or study.subject in subjects)
    if not recipients:
        raise DataError(f"{cohort.root}: no {domain.name} image of {', '.join(subjects)} has a mask.")
    return Material(cohort, parts, recipients, cases, broken, names, made_before)


def _read(
    studies: Sequence[Study], domain: Domain, grid: GridConfig, labels: Labels, cache: Cache
) -> tuple[dict[Study, Labelled], dict[Study, MedganError]]:
    """The cases that can be read, and why the others cannot."""
    cases: dict[Study, Labelled] = {}
    broken: dict[Study, MedganError] = {}
    for study in studies:
        try:
            cases[study] = read_labelled(study, domain, grid, labels, cache)
        except MedganError as error:
            broken[study] = error
    return cases, broken


def part_of(split: Split, subject: str) -> str | None:
    """The part that a subject is in."""
    return next((part for part in ("train", "validation", "test") if subject in getattr(split, part)), None)


def _check_parts(cohort: Cohort, split: Split) -> None:
    unknown = [subject for subject in cohort.subjects() if part_of(split, subject) is None]
    if unknown:
        raise DataError(
            f"{cohort.root}: the split does not know {few(unknown, MAX_NAMED)}; give the cohort that was split, "
            "or another --split."
        )
    moved = [
        f"'{study.subject}' is in the cohort's train part and in the split's {part_of(split, study.subject)} part"
        for study in cohort.studies
        if study.split == "train" and part_of(split, study.subject) != "train"
    ]
    if moved:
        raise LeakageError(
            f"{few(moved, MAX_NAMED)}: correct the cohort's `split` column, or use a model of its own split."
        )


def _check_recipients(split: Split, subjects: Sequence[str]) -> None:
    outside = [
        f"'{subject}' ({'in its ' + part + ' part' if (part := part_of(split, subject)) else 'in none of its parts'})"
        for subject in subjects
        if part_of(split, subject) != "train"
    ]
    if outside:
        raise LeakageError(
            f"synthetic cases are made of the split's training subjects alone, not of "
            f"{few(outside, MAX_NAMED)}: they would be tested on what a training has seen."
        )


def _check_content(training: Sequence[Study], cohort: Cohort, split: Split) -> None:
    """Refuse an image of a validation or test subject, now or when it was divided, under a training subject's name."""
    kept: tuple[Part, ...] = ("validation", "test")
    now = [study for part in kept for study in split.part(cohort, part).studies]
    owners = split.owners(kept) | {digest: study.subject for study in now for digest in known_by(study.image)}
    leaks = [
        f"'{study.subject}' has the image {study.image.name} of '{owner}'"
        for study in training
        if (owner := owner_of(study.image, owners))
    ]
    if leaks:
        raise LeakageError(f"{few(leaks, MAX_NAMED)}, who is not trained on: correct the cohort or its split.")


def _readable_labels(cohort: Cohort) -> Labels:
    """What the masks mark; one that cannot be read is named when its case is made, and stops nobody here."""
    if cohort.beside(LABELS_JSON).is_file():
        return labels_of(cohort)
    readable = []
    for study in cohort.studies:
        try:
            if study.mask:
                read_volume(study.mask)
                readable.append(study)
        except MedganError:
            continue
    return labels_of(replace(cohort, studies=tuple(readable)))
