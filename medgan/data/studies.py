"""Cohorts: which images of which subjects there are, in a table or in any of three layouts, and which are synthetic."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from medgan.data.domains import DomainPair
from medgan.data.endings import subjects_named
from medgan.data.hashes import file_hash, image_hash
from medgan.data.layouts import Listed, difference, parse_choice, read_bids, read_folders, read_nnunet, stem
from medgan.data.layouts import Study as Study
from medgan.data.streams import unreadable
from medgan.data.tables import read_table
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError
from medgan.text import printable

TABLE = "cohort.csv"
"""A folder that holds it is the cohort that it lists."""
MAX_NOTES = 4
AUGMENTATION = "Augmentation"
"""The key of how a case was made. ``Synthetic`` alone does not tell: phantoms and translations have it, too."""
SUFFIX_KEY = "Suffix"
"""The key of what the image's name has after its source's."""

LAYOUTS = """it is none of the layouts that medgan reads:
  a CSV `subject,domain,image[,mask][,split][,session]`, or a folder with it as cohort.csv (`medgan data csv` writes it)
  a folder for each domain, {source}/ and {target}/, or source/ and target/
  BIDS: sub-01/anat/sub-01_T1w.nii.gz
  nnU-Net raw: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz
Arrange the images so, or list them in a CSV."""


@dataclass(frozen=True)
class Options:
    """What cannot be told from a place itself."""

    root: Path | None = None
    """The folder that the paths in a table are relative to; None is the table's own."""
    bids: tuple[tuple[str, str], ...] = ()
    """Entities and the values that are wanted; the empty value is a name without that entity."""


@dataclass(frozen=True)
class Location:
    """A cohort's table or folder, and how it is read."""

    path: Path
    options: Options = field(default_factory=Options)

    @classmethod
    def of(cls, data: "Data") -> Self:
        """Of a path alone, the path read as it is."""
        return data if isinstance(data, cls) else cls(Path(str(data)))

    def __str__(self) -> str:
        return str(self.path)

    def facts(self) -> dict[str, Any]:
        """What a run notes of it, to find it again."""
        root, bids = self.options.root, dict(self.options.bids)
        facts = {"data": str(self.path.resolve()), "data_root": root and str(root.resolve()), "data_bids": bids}
        return {key: value for key, value in facts.items() if value}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """What :meth:`facts` noted; None where a run had no data."""
        if not facts.get("data"):
            return None
        root = Path(facts["data_root"]) if facts.get("data_root") else None
        return cls(Path(facts["data"]), Options(root, tuple(facts.get("data_bids", {}).items())))


Data = Path | Location
"""A cohort, as a user gives it."""
AS_IT_IS = Options()
"""Nothing is said of how."""


def options(root: Path | None, bids: str | None) -> Options:
    """What ``--root DIR`` and ``--bids run=1,acq=mprage`` say."""
    if root is not None and not root.is_dir():
        raise ConfigError(f"--root {root} is no folder; give the one that the table's paths are relative to.")
    return Options(root, parse_choice(bids) if bids else ())


def located(data: Path | None, root: Path | None = None, bids: str | None = None) -> Location | None:
    """A cohort that a user gives; None where none is given."""
    how = options(root, bids)
    if data is None and how != Options():
        raise ConfigError("--root and --bids say how a cohort is read; give it with --data.")
    return None if data is None else Location(data, how)


@dataclass(frozen=True)
class Cohort(Listed):
    """The studies that a task uses, as paths."""

    note: str = ""
    """Who counts as one subject although the files' names differ, for people; empty where names are equal."""
    doubt: str = ""
    """Names of files that could be one subject's or two subjects', for people; empty where all is clear."""
    folder: Path | None = None
    """Where its table lies, if that is another."""

    def beside(self, name: str) -> Path:
        """A file that says something of all of it, such as ``labels.json``: beside its table, or else in its folder."""
        places = [folder / name for folder in (self.folder, self.root) if folder]
        return next((place for place in places if place.is_file()), places[0])

    def subjects(self) -> list[str]:
        """Who is in it, each once, sorted."""
        return sorted({study.subject for study in self.studies})

    def names(self) -> dict[str, set[str]]:
        """By domain, who is in it."""
        names: dict[str, set[str]] = {}
        for study in self.studies:
            names.setdefault(study.domain, set()).add(study.subject)
        return names

    def parts(self) -> dict[str, set[str]]:
        """By subject, the parts that its author chose for it."""
        parts = {subject: set[str]() for subject in self.subjects()}
        for study in self.studies:
            parts[study.subject] |= {study.split} if study.split else set()
        return parts

    def of_domain(self, name: str) -> "Cohort":
        """The studies of one domain."""
        return replace(self, studies=tuple(study for study in self.studies if study.domain == name))

    def of_subjects(self, ids: Iterable[str]) -> "Cohort":
        """All studies of some subjects."""
        wanted = set(ids)
        return replace(self, studies=tuple(study for study in self.studies if study.subject in wanted))

    def below(self, path: Path) -> str:
        """A file's path below the cohort's folder, with forward slashes."""
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def relative(self, path: Path) -> str:
        """The same as records call it: what a terminal or UTF-8 cannot hold is escaped."""
        return printable(self.below(path))

    def file_hashes(self) -> dict[str, dict[str, str]]:
        """For each subject, its images' and masks' names and SHA-256."""
        hashes: dict[str, dict[str, str]] = {subject: {} for subject in self.subjects()}
        for study in self.studies:
            for path in filter(None, (study.image, study.mask)):
                hashes[study.subject].setdefault(self.relative(path), file_hash(path))
        return hashes

    def image_hashes(self) -> dict[str, dict[str, str]]:
        """For each subject, its images' names and what they show; see :func:`medgan.data.hashes.image_hash`."""
        hashes: dict[str, dict[str, str]] = {}
        for study in self.studies:
            if shown := image_hash(study.image):
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
        """Each source image with its target image, by subject and session; those that lack either are left out.

        Where there are several, they belong together by name (``source/S1/003.png``, ``target/S1/003.png``) or by
        folder (``day1/`` with one of each).
        """
        couples = []
        for subject in self.subjects():
            own = self.of_subjects([subject])
            sources, targets = (own.of_domain(name).studies for name in pair.names)
            matched: list[tuple[Study, Study]] = []
            for session in dict.fromkeys(study.session for study in sources):
                left, right = ([study for study in side if study.session == session] for side in (sources, targets))
                matched += _matched(left, right) if right else []
            if sources and targets and not matched:
                first, second = (f"its {side[0].domain} in {_session(side[0])}" for side in (sources, targets))
                raise DataError(
                    f"subject '{subject}' has {first} and {second}: only images of one session are a pair; list them "
                    "in a CSV to pair them all the same."
                )
            couples += matched
        return couples


def _session(study: Study) -> str:
    return f"session {study.session}" if study.session else "no session"


def _matched(sources: Sequence[Study], targets: Sequence[Study]) -> list[tuple[Study, Study]]:
    keys: tuple[Callable[[Path], object], ...] = (lambda _: None, stem, lambda path: path.parent)
    for key in keys:
        left, right = ({key(study.image): study for study in side} for side in (sources, targets))
        if len(left) == len(sources) and len(right) == len(targets) and left.keys() == right.keys():
            return [(study, right[name]) for name, study in left.items()]
    several = max((sources, targets), key=len)
    when = f" in {_session(sources[0])}" if sources[0].session else ""
    advice = difference(study.image for study in several) or "give the two images of a pair the same file name"
    raise DataError(
        f"subject '{sources[0].subject}' has {len(sources)} {sources[0].domain} and {len(targets)} {targets[0].domain} "
        f"images{when} that do not pair by name or folder; {advice}."
    )


def find_cohort(data: Data, pair: DomainPair) -> Cohort:
    """The studies of a pair's domains under a folder, or in a table; images of other domains are left out."""
    cohort = read_cohort(data, pair.names)
    check_options(data, cohort)
    if cohort is None:
        raise DataError(f"{data}: " + LAYOUTS.format(source=pair.source.name, target=pair.target.name))
    counts = Counter(study.domain for study in cohort.studies)
    if missing := " or ".join(name for name in pair.names if not counts[name]):
        there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "no image at all"
        raise DataError(f"{data} has no image of domain {missing}; it has: {there}. Name the domain so there.")
    wanted, others = ([s for s in cohort.studies if (s.domain in pair.names) is of_pair] for of_pair in (True, False))
    aside = [(path, f"of domain {study.domain}") for study in others for path in (study.image, study.mask) if path]
    return replace(cohort, studies=tuple(wanted), aside=(*cohort.aside, *aside))


def read_cohort(data: Data, names: Sequence[str], *, tested: bool = False) -> Cohort | None:
    """All studies in a table or under a folder, of whatever domain; None where the folder is in no layout.

    ``names`` are the domains, the source first where there are two. If ``tested``, images that nobody is trained on are
    meant as well, and what lies in a part of a layout.
    """
    place = Location.of(data)
    path, options = place.path, place.options
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            raise DataError(f"{path} is empty or does not exist; give a folder of studies or a cohort CSV.")
        table = path / TABLE if path.is_dir() else path
        of_table = not path.is_dir() or (os.path.lexists(table) and not table.is_dir())
        listed = (
            read_table(table, options.root)
            if of_table
            else read_nnunet(path, names, tested=tested)
            or read_bids(path, names, options.bids, tested=tested)
            or read_folders(path, names, tested=tested)
        )
    except OSError as error:
        raise unreadable(Path(error.filename or path), error) from None
    if listed is None:
        return None
    more = (f"and {len(listed.notes) - MAX_NOTES} more like these",) if len(listed.notes) > MAX_NOTES else ()
    shown = replace(listed, notes=(*listed.notes[:MAX_NOTES], *more))
    return Cohort(**vars(shown), folder=table.parent) if of_table else by_subject(Cohort(**vars(shown)), names)


def by_subject(cohort: Cohort, names: Collection[str]) -> Cohort:
    """The cohort whose subjects' names are without what their domain adds to each; a table says itself who is who."""
    by_domain = cohort.names()
    naming = subjects_named({name: by_domain[name] for name in names if name in by_domain})
    studies = tuple(
        replace(study, subject=printable(naming.subjects.get((study.domain, study.subject), study.subject)))
        for study in cohort.studies
    )
    return replace(cohort, studies=studies, note=naming.note, doubt=naming.doubt)


def check_options(data: Data, cohort: Cohort | None) -> None:
    """Refuse ``--root`` and ``--bids`` where they would say nothing of the cohort that was read, if there is one."""
    place = Location.of(data)
    if place.options.root and not (cohort and cohort.folder):
        raise ConfigError(f"--root is for a cohort CSV, whose paths are relative to it; {place} is none. Leave it out.")
    if place.options.bids and not (cohort and cohort.layout == "BIDS"):
        raise ConfigError(f"--bids chooses among the files of a BIDS folder; {place} is none. Leave it out.")


def sidecar(image: Path) -> dict[str, object]:
    """What lies beside an image as ``NAME.json``; empty where that is no sidecar."""
    return _sidecar(image)[0]


def damage(image: Path) -> str:
    """Why the ``NAME.json`` beside an image cannot be read, so that what it says is not known; empty where it can."""
    return _sidecar(image)[1]


def _sidecar(image: Path) -> tuple[dict[str, object], str]:
    path = image.parent / f"{stem(image)}.json"
    try:
        content = read_json(path, strict=False)
    except (OSError, ValueError) as error:
        return {}, f"{path.name} beside it cannot be read ({error})" if os.path.lexists(path) else ""
    return content if isinstance(content, dict) else {}, ""


def without_augmented(cohort: Cohort) -> tuple[Cohort, int]:
    """The studies that ``medgan augment`` did not make of others, and how many it did.

    The sidecar tells, or that of the file that an image links to. Whoever learns from such a case as from a real one
    learns from what a generator or its donors gave it. Refused are cohorts of nothing else, and damaged sidecars.
    """
    own = []
    for study in cohort.studies:
        if reason := damage(study.image):
            raise DataError(
                f"{study.image}: {reason}, so whether it is a synthetic case cannot be told; copy that file again, or "
                "remove it where the image is a real one."
            )
        files = (study.image, study.image.resolve())
        if not any(isinstance(sidecar(image).get(AUGMENTATION), dict) for image in files):
            own.append(study)
    if cohort.studies and not own:
        raise DataError(
            f"{cohort.root}: all {len(cohort.studies)} images are synthetic cases of `medgan augment`; give the cohort "
            "of real cases that they were made of."
        )
    return replace(cohort, studies=tuple(own)), len(cohort.studies) - len(own)


def augmented_left_out(count: int) -> str:
    """What people are told of cases that are not taken for real ones; empty where there are none."""
    what = "case of `medgan augment` is" if count == 1 else "cases of `medgan augment` are"
    return f"{count} synthetic {what} left out: only real ones are learnt from" if count else ""
