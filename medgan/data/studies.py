"""Cohorts: which images of which subjects there are, found in any of four layouts."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.data import layouts
from medgan.data.domains import DomainPair
from medgan.data.endings import subjects_named
from medgan.data.layouts import Study
from medgan.data.volumes import file_hash, shown_hash
from medgan.errors import DataError

__all__ = ["Cohort", "Study", "find_cohort"]

LAYOUTS = """it is none of the layouts that medgan reads:
  a CSV `subject,domain,image[,mask][,split]`, or a folder with it as cohort.csv
  a folder for each domain, {source}/ and {target}/, or source/ and target/
  BIDS: sub-01/anat/sub-01_T1w.nii.gz
  nnU-Net raw: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz
Arrange the images so, or list them in a CSV."""


@dataclass(frozen=True)
class Cohort:
    """The studies that a task uses; it holds paths, and reads no voxels."""

    studies: tuple[Study, ...]
    root: Path = Path()
    """The folder to which files are named relatively, so that a cohort may move."""
    note: str = ""
    """Who counts as one subject although the files' names differ, for people; empty where names are equal."""
    doubt: str = ""
    """Names of files that could be one subject's or two subjects', for people; empty where all is clear."""

    def subjects(self) -> list[str]:
        """Who is in it, each once, sorted."""
        return sorted({study.subject for study in self.studies})

    def names(self) -> dict[str, set[str]]:
        """By domain, who is in it."""
        names: dict[str, set[str]] = {}
        for study in self.studies:
            names.setdefault(study.domain, set()).add(study.subject)
        return names

    def of_domain(self, name: str) -> "Cohort":
        """The studies of one domain."""
        return replace(self, studies=tuple(study for study in self.studies if study.domain == name))

    def of_subjects(self, ids: Iterable[str]) -> "Cohort":
        """All studies of some subjects."""
        wanted = set(ids)
        return replace(self, studies=tuple(study for study in self.studies if study.subject in wanted))

    def relative(self, path: Path) -> str:
        """A file's name below the cohort's folder, with forward slashes."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def file_hashes(self) -> dict[str, dict[str, str]]:
        """For each subject, its images' and masks' names and what is in them (SHA-256)."""
        hashes: dict[str, dict[str, str]] = {subject: {} for subject in self.subjects()}
        for study in self.studies:
            for path in filter(None, (study.image, study.mask)):
                hashes[study.subject].setdefault(self.relative(path), file_hash(path))
        return hashes

    def image_hashes(self) -> dict[str, dict[str, str]]:
        """For each subject, its images' names and what they show, whatever file that is stored in.

        Left out are images that cannot be read or that show nothing: see :func:`medgan.data.volumes.shown_hash`.
        """
        hashes: dict[str, dict[str, str]] = {}
        for study in self.studies:
            if shown := shown_hash(study.image):
                hashes.setdefault(study.subject, {})[self.relative(study.image)] = shown
        return hashes

    def fingerprint(self) -> str:
        """SHA-256 over subjects, domains and contents: the same wherever the files lie and however they are named."""
        lines = [
            "\t".join([study.subject, study.domain, *(file_hash(p) for p in (study.image, study.mask) if p)])
            for study in self.studies
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def pairs(self, pair: DomainPair) -> list[tuple[Study, Study]]:
        """Each source image with its target image, by subject; subjects that lack either are left out.

        Where a subject has several, they belong together by name (``source/S1/003.png``, ``target/S1/003.png``) or by
        folder (``ses-01/anat/`` with one of each).

        Raises:
            DataError: A subject whose images cannot be told apart so.
        """
        couples = []
        for subject in self.subjects():
            own = self.of_subjects([subject])
            sources, targets = (own.of_domain(name).studies for name in pair.names)
            if sources and targets:
                couples += _matched(sources, targets)
        return couples


def _matched(sources: tuple[Study, ...], targets: tuple[Study, ...]) -> list[tuple[Study, Study]]:
    keys: tuple[Callable[[Path], object], ...] = (lambda _: None, layouts.stem, lambda path: path.parent)
    for key in keys:
        left, right = ({key(study.image): study for study in side} for side in (sources, targets))
        if len(left) == len(sources) and len(right) == len(targets) and left.keys() == right.keys():
            return [(study, right[name]) for name, study in left.items()]
    raise DataError(
        f"subject '{sources[0].subject}' has {len(sources)} {sources[0].domain} and {len(targets)} {targets[0].domain} "
        "images that do not pair by name or folder; give the two images of a pair the same file name."
    )


def find_cohort(path: Path, pair: DomainPair) -> Cohort:
    """The studies of a pair's domains under a folder, or in a CSV; images of other domains are left out.

    Raises:
        DataError: Nothing there, no known layout, rows that cannot be used, or a domain without an image.
    """
    table = path / "cohort.csv" if path.is_dir() else path
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            raise DataError(f"{path} is empty or does not exist; give a folder of studies or a cohort CSV.")
        studies = layouts.read_table(table) if table.is_file() else _read_folder(path, pair)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read ({error.strerror}); check its permissions.") from None
    wanted = tuple(study for study in studies if study.domain in pair.names)
    counts = Counter(study.domain for study in studies)
    missing = [name for name in pair.names if not counts[name]]
    if missing:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "no image at all"
        raise DataError(
            f"{path} has no image of domain {' or '.join(missing)}; it has: {there}. Name the domain so there."
        )
    if table.is_file():  # a table says itself who is who
        return Cohort(wanted, root=table.parent)
    return _by_subject(Cohort(wanted, root=path))


def _by_subject(cohort: Cohort) -> Cohort:
    """The cohort whose subjects' names are without what their domain adds to each."""
    found = subjects_named(cohort.names())
    studies = tuple(
        replace(study, subject=found.subjects.get((study.domain, study.subject), study.subject))
        for study in cohort.studies
    )
    return replace(cohort, studies=studies, note=found.note, doubt=found.doubt)


def _read_folder(path: Path, pair: DomainPair) -> list[Study]:
    if (path / "dataset.json").is_file() and (path / "imagesTr").is_dir():
        return layouts.read_nnunet(path)
    if any(path.glob("sub-*/")):
        return layouts.read_bids(path, pair)
    if layouts.sides(path, pair):
        return layouts.read_folders(path, pair)
    raise DataError(f"{path}: " + LAYOUTS.format(source=pair.source.name, target=pair.target.name))
