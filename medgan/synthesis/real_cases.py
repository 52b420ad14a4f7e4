"""The real cases of an augmented cohort and their split, and the table and links that its folder holds of them."""

import csv
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.data.cache import Cache
from medgan.data.dicom import dicom_files, is_series
from medgan.data.domains import Domain, DomainPair
from medgan.data.hashes import file_hash
from medgan.data.preparation import GridConfig
from medgan.data.splits import Part, Split, SplitConfig, owner_of, owners_of, split_subjects
from medgan.data.streams import replacing, unwritable, write_text
from medgan.data.studies import Cohort, Data, Study, find_cohort, without_augmented
from medgan.data.volumes import read_volume
from medgan.errors import DataError, LeakageError, MedganError
from medgan.inference.jobs import as_json
from medgan.segmentation.labelled import LABELS_JSON, Labelled, Labels, labels_of, read_labelled
from medgan.text import few

MAX_NAMED = 5
COHORT = "cohort.csv"
REAL = "real"
"""The folder of links to the real files: a cohort's files lie beside its table."""


@dataclass(frozen=True)
class RealCases:
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


def read_real_cases(
    data: Data,
    domain: Domain,
    grid: GridConfig,
    labels: Labels | None,
    split: Split | None,
    subjects: Sequence[str],
    cache: Cache,
) -> RealCases:
    """Read a cohort's real training cases; those that an earlier augmentation made are left out.

    Without labels all that the masks mark is synthesised; without a split (a model's) the cohort's own ``split`` column
    counts, else one is drawn; without subjects every training subject with a mask is a recipient.

    Raises:
        DataError: No cohort, none but synthetic cases, subjects that the split does not know, or no labelled training
            case that can be read.
        LeakageError: A recipient or donor that is validated or tested on, by name or by content.
    """
    pair = DomainPair(source=domain, target=domain, paired=False)
    cohort, left_out = without_augmented(find_cohort(data, pair))
    split = split or split_subjects(cohort, pair, SplitConfig())
    training = [study for study in split.part(cohort, "train").studies if study.mask]
    _refuse_leaks(cohort, split, subjects, training)
    names = labels or _readable_labels(cohort)
    cases: dict[Study, Labelled] = {}
    broken: dict[Study, MedganError] = {}
    for study in training:
        try:
            cases[study] = read_labelled(study, domain, grid, names, cache)
        except MedganError as error:
            broken[study] = error
    if not cases:
        reasons = "; ".join(str(error) for error in list(broken.values())[:MAX_NAMED])
        raise DataError(f"{cohort.root}: no labelled training image can be read. {reasons or 'Name masks in its CSV.'}")
    recipients = tuple(study for study in training if not subjects or study.subject in subjects)
    if not recipients:
        raise DataError(f"{cohort.root}: no {domain.name} image of {', '.join(subjects)} has a mask.")
    return RealCases(cohort, split, recipients, cases, broken, names, left_out)


def _refuse_leaks(cohort: Cohort, split: Split, recipients: Sequence[str], training: Sequence[Study]) -> None:
    """Refuse subjects that the split does not know, other parts than the cohort's, and recipients outside of train.

    Also an image of a validation or test subject, now or when it was divided, under a training subject's name.
    """
    part_of = split.part_of
    if unknown := [subject for subject in cohort.subjects() if subject not in part_of]:
        raise DataError(
            f"{cohort.root}: the split does not know {few(unknown, MAX_NAMED)}; give the cohort that was split, "
            "or another --split."
        )
    moved = [
        f"'{study.subject}' is in the cohort's train part and in the split's {part_of[study.subject]} part"
        for study in cohort.studies
        if study.split == "train" and part_of[study.subject] != "train"
    ]
    if moved:
        raise LeakageError(
            f"{few(moved, MAX_NAMED)}: correct the cohort's `split` column, or use a model of its own split."
        )
    outside = [
        f"'{subject}' ({f'in its {part} part' if part else 'in none of its parts'})"
        for subject in recipients
        if (part := part_of.get(subject)) != "train"
    ]
    if outside:
        raise LeakageError(
            f"synthetic cases are made of the split's training subjects alone, not of "
            f"{few(outside, MAX_NAMED)}: they would be tested on what a training has seen."
        )
    parts: tuple[Part, ...] = ("validation", "test")
    owners = split.owners(parts) | owners_of(study for part in parts for study in split.part(cohort, part).studies)
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


def write_cohort(folder: Path, real: RealCases, cases: Sequence[tuple[str, Path, Path]]) -> None:
    """Write the table of real files and ``cases`` (subject, image, mask), link the real, and say what labels mean."""
    rows, part_of = [], real.split.part_of
    for study in real.cohort.studies:
        paths = [path and f"{REAL}/{real.cohort.relative(path)}" for path in (study.image, study.mask)]
        for source, path in zip((study.image, study.mask), paths, strict=True):
            if source and path:
                _link(source, folder / path, folder)
        rows.append([study.subject, study.domain, *(path or "" for path in paths), part_of.get(study.subject) or ""])
    domain = real.cohort.studies[0].domain
    for subject, *files in cases:
        rows.append([subject, domain, *(file.relative_to(folder).as_posix() for file in files), "train"])
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([["subject", "domain", "image", "mask", "split"], *rows])
    own = real.cohort.beside(LABELS_JSON)
    names = {str(value): name for name, values in real.labels.items() for value in values}
    with replacing(folder / LABELS_JSON) as stream:
        stream.write(own.read_bytes() if own.is_file() else as_json({"labels": names}).encode())
    write_text(folder / COHORT, table.getvalue())  # last: where the table is, all that it names is


def _link(source: Path, target: Path, folder: Path) -> None:
    """A link to a real file or series folder; a copy where the file system has no links.

    What was there before goes: it may belong to another cohort. So do links on the way from ``folder`` to the target,
    through which that cohort's own files would be changed.
    """
    if target.is_symlink() and target.resolve() == source.resolve():
        return
    try:
        for place in reversed([target, *target.parents]):
            if place.is_relative_to(folder) and place != folder and place.is_symlink():
                place.unlink()
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        if is_series(source):  # of several in a folder: here it gets one of its own
            for file in dicom_files(source):
                _link(file, target / file.name, folder)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source.resolve(), target_is_directory=source.is_dir())
        except OSError:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    except OSError as error:
        raise unwritable(target, error) from None
