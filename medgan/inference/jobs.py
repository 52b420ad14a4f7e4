"""What there is to convert, and the files of one study: its images and the sidecar that vouches for them.

From INPUT come jobs whose outputs mirror its names, checked before any runs. Files are written whole or not at all. A
sidecar holds no path of this machine and no word of the input's header; the input is named as it lies below INPUT.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from numpy.typing import NDArray

from medgan.data import nifti
from medgan.data.hashes import file_hash
from medgan.data.layouts import map_beside, stem
from medgan.data.listing import find_images, passed_over_lines
from medgan.data.streams import is_folder, special, unfinished_folder, unwritable, write_text
from medgan.data.studies import Cohort, Data, Location, check_options, read_cohort
from medgan.data.tables import is_table
from medgan.data.volumes import KINDS, Grid, is_named, is_series, write_volume
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError
from medgan.text import few, printable, record_name
from medgan.training.model_folder import Description

MANIFEST, SUMMARY = "manifest.jsonl", "summary.json"
"""The batch's own files in the output folder."""
SUFFIX = re.compile(r"([_.-][A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")
"""What may be added to the outputs' names: nothing that could be a folder or another kind of file."""
LONGEST_NAME_BYTES = 255 - len("_uncertainty.nii.gz")
"""Of an output without its ending, so that file systems take it and what is written beside it."""

Named = tuple[str, Path]
"""An input's path below INPUT or the cohort's folder, with forward slashes, and where it lies."""

MapKind = Literal["change", "uncertainty"]
"""What may lie beside an output: how much the model changed, and how unsure it is."""
NOT_FOR_CLINICAL_USE = "Synthetic image for research. Not for diagnosis: what it shows was never measured."
STRENGTH = "Strength"
"""What a sidecar calls the share of the change that was added; without it that is 1."""
MADE_FROM = ("SourceSHA256", "Direction", STRENGTH, "Model", "ChangeMap", "Uncertainty", "Augmentation")
"""What an output depends on; one that agrees in all of it is kept."""
OURS = ("Synthetic", "Segmentation", "Classification")
"""What the sidecars that medgan writes say of themselves."""
MAPS: dict[MapKind, str] = {"change": "ChangeMap", "uncertainty": "Uncertainty"}
"""What a sidecar calls the maps beside an output."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One study to convert."""

    source: Path
    """The file, or the folder of a DICOM series."""
    name: str
    """Its path below INPUT or below the cohort's folder, with forward slashes: what records call it. What a terminal
    or UTF-8 cannot hold is escaped."""
    output: Path
    problem: str = field(default="", kw_only=True)
    """Why it cannot be converted, as far as its names tell."""

    @property
    def sidecar(self) -> Path:
        """``NAME.json`` beside ``NAME.nii.gz``."""
        return self.output.with_name(stem(self.output) + ".json")

    def map(self, kind: MapKind) -> Path:
        """``NAME_change.nii.gz`` or ``NAME_uncertainty.nii.gz`` beside ``NAME.nii.gz``."""
        return map_beside(self.output, kind)

    def kind(self, image: Path) -> MapKind | None:
        """Which map one of its images is; None for the output itself."""
        return next((kind for kind in MAPS if image == self.map(kind)), None)

    def images(self, maps: Collection[MapKind] = tuple(MAPS)) -> tuple[Path, ...]:
        """The images that it writes; the output is the first."""
        return (self.output, *(self.map(kind) for kind in MAPS if kind in maps))


@dataclass(frozen=True)
class Plan:
    """All that will be converted."""

    jobs: tuple[Job, ...]
    folder: Path | None
    """Where manifest and summary go; None where OUTPUT is the name of one file."""
    notes: tuple[str, ...] = ()
    """What the user should know of the choice."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of INPUT that is neither converted nor known to be no image."""
    cohort: Cohort | None = None
    """What INPUT is, if that is a cohort."""


@dataclass(frozen=True)
class _Inputs:
    """The images of INPUT; see :class:`Plan`."""

    named: tuple[Named, ...]
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)


def find_jobs(
    source: Data,
    output: Path,
    domain: str,
    *,
    pair: Sequence[str] = (),
    subjects: Collection[str] | None = None,
    cohort: Cohort | None = None,
    maps: Collection[MapKind] = (),
    own: Collection[str] = (MANIFEST, SUMMARY),
    suffix: str = "",
    table: str | None = None,
) -> Plan:
    """The studies of INPUT and where each goes.

    A study whose output would take the place of an input, or of what another study writes, has a problem: it fails,
    and the others are converted.

    Args:
        source: An image, a DICOM series' folder, a cohort, or another folder, which is searched to the bottom.
        output: A folder, or for one study a file name that ends in .nii.gz.
        domain: Of a cohort, the domain whose images are converted.
        pair: The model's two domains, source first, where it has two.
        subjects: Of a cohort, only these; None is everyone.
        cohort: What INPUT is, where that has been read.
        maps: What is written beside each output.
        own: Names of the batch's own files in the output folder.
        suffix: What the outputs' names have after their inputs'.
        table: The one file in the output folder that all studies go to, where they do not become images.

    Raises:
        DataError: INPUT does not exist or holds no image to convert.
        ConfigError: A suffix that no file name can have, no place for any output, or OUTPUT is where a cohort's images
            lie.
    """
    path = Location.of(source).path
    if not (os.path.lexists(path) or is_series(path)):
        raise DataError(f"{path} does not exist; give an image, a folder or a cohort CSV.")
    inputs = _below(path, output) if is_folder(path) else _Inputs(() if is_table(path) else ((path.name, path),))
    series = any(image == path for _, image in inputs.named)
    if not series and (cohort := cohort or cohort_at(source, pair or (domain,))):
        inputs = _of_cohort(cohort, path, domain, subjects, inputs)
    if not inputs.named:
        rest = "".join(f" {line}." for line in passed_over_lines(inputs.passed_over))
        raise DataError(f"{path} holds no image to convert; give images in {KINDS}.{rest}")
    if table:
        jobs = tuple(Job(image, record_name(name), output / table) for name, image in inputs.named)
        return Plan(jobs, output, inputs.notes, inputs.passed_over, cohort)
    jobs, folder = _placed(path, inputs.named, output, suffix)
    # Broken links, pipes and devices cannot be converted, so they take nobody's name.
    real = [
        job for job in jobs if is_series(job.source) or (os.access(job.source, os.F_OK) and not special(job.source))
    ]
    over = _over_inputs(real, maps)
    problems = _clashes(real, folder, maps, own) | over
    if problems and (len(problems) == len(jobs) or (over and is_table(path))):
        raise ConfigError(few(list(problems.values()), 5, between="; ", last="; and "))
    jobs = tuple(replace(job, problem=problems.get(job, "")) for job in jobs)
    notes = (*inputs.notes, *(_shortened(real) if folder else ()), *_alike(real))
    return Plan(jobs, folder, notes, inputs.passed_over, cohort)


def cohort_at(source: Data, names: Sequence[str]) -> Cohort | None:
    """The cohort that INPUT is; None where it is an image, or a folder in no layout.

    Raises:
        DataError: A table or layout that cannot be used.
        ConfigError: Options that say nothing of what is there.
    """
    path = Location.of(source).path
    holds_some = is_table(path) or (is_folder(path) and os.access(path, os.R_OK | os.X_OK) and any(path.iterdir()))
    cohort = read_cohort(source, names, tested=True) if holds_some else None
    check_options(source, cohort)
    return cohort


def _of_cohort(cohort: Cohort, source: Path, domain: str, subjects: Collection[str] | None, inputs: _Inputs) -> _Inputs:
    """A cohort's images of a domain; what else was found in its folder is passed over."""
    own = [study for study in cohort.studies if study.domain == domain]
    if not own:
        there = ", ".join(sorted({study.domain for study in cohort.studies})) or "none"
        raise DataError(f"{source} has no image of domain {domain}, which is asked for; it has: {there}.")
    chosen = [study.image for study in own if subjects is None or study.subject in subjects]
    if not chosen:
        raise DataError(f"{source} has {domain} images, but of no subject in the part of the split that was asked for.")
    notes, passed_over = [*inputs.notes, *cohort.notes], dict(inputs.passed_over)
    if inputs.named:
        below = {image: name for name, image in inputs.named}
        folders = {image.parent for image in below}
        chosen = [image for image in chosen if image in below or image in folders or not image.is_relative_to(source)]
        notes.append(f"read as {cohort.layout}: {len(chosen)} images of domain {domain}")
        known = {study.image: f"of domain {study.domain}, not {domain}" for study in cohort.studies}
        known |= dict.fromkeys((study.image for study in own), "of no subject in the part that was asked for")
        known |= dict.fromkeys((study.mask for study in cohort.studies if study.mask), "masks or label maps")
        known |= dict(cohort.aside)
        for image in below.keys() - {*chosen}:
            if image.parent not in chosen:
                passed_over[record_name(below[image])] = known.get(image) or f"no part of {cohort.layout}"
    named = tuple((cohort.below(image), image) for image in chosen)
    return _Inputs(named, tuple(notes), dict(sorted(passed_over.items())))


def _below(folder: Path, output: Path) -> _Inputs:
    """The images under a folder, but for those under ``output``."""
    here, there = Path(os.path.realpath(folder)), Path(os.path.realpath(output))
    if here == there:
        raise ConfigError(f"OUTPUT is the input folder {folder}; give another, so that no input is overwritten.")

    def outside(paths: Iterable[Path]) -> list[Path]:
        # By where the name lies: a linked image, as in git-annex, counts as lying where its link does.
        return [path for path in paths if not (Path(os.path.realpath(path.parent)) / path.name).is_relative_to(there)]

    listing = find_images(folder)
    images = outside(listing.images)
    notes = []
    if len(images) < len(listing.images):
        count = len(listing.images)
        notes.append(f"left out because they lie under OUTPUT ({output}): {count - len(images)} of {count} images")
    passed_over = {
        record_name(path.relative_to(folder).as_posix()): listing.passed_over[path]
        for path in outside(listing.passed_over)
    }
    named = [(here.name if image == folder else image.relative_to(folder).as_posix(), image) for image in images]
    return _Inputs(tuple(named), tuple(notes), passed_over)


def _placed(source: Path, named: Sequence[Named], output: Path, suffix: str) -> tuple[tuple[Job, ...], Path | None]:
    """The jobs, and the folder of their records."""
    if not SUFFIX.fullmatch(suffix):
        raise ConfigError(
            f"--suffix '{suffix}': write _, - or . and then letters, digits, _, - or ., 100 at most, for example _syn."
        )
    if is_named(output, nifti.SUFFIXES) and not is_folder(output):
        if len(named) > 1:
            raise ConfigError(f"{output} names one file, but {source} holds {len(named)} images; give a folder.")
        if suffix:
            raise ConfigError(f"{output} names the file itself; give a folder, or leave --suffix out.")
        name, image = named[0]
        return (Job(image, record_name(name), output),), None
    if os.path.lexists(output) and not is_folder(output):
        raise ConfigError(f"{output} is a file and no folder; give a folder, or a file name that ends in .nii.gz.")
    jobs = []
    for name, image in named:
        mirrored = PurePosixPath(name)
        own = mirrored.name if is_folder(image) else stem(image)
        jobs.append(Job(image, record_name(name), output / mirrored.with_name(_fitting(own, suffix) + ".nii.gz")))
    return tuple(jobs), output


def _fitting(name: str, suffix: str = "") -> str:
    """An input's name with a suffix, as every output may bear it: cut, and unique by a hash, where it is too long."""
    encoded, room = os.fsencode(name), LONGEST_NAME_BYTES - len(suffix)
    if len(encoded) > room:
        mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
        name = encoded[: room - len(mark)].decode(errors="ignore") + mark
    return name + suffix


def _shortened(jobs: Iterable[Job]) -> Iterator[str]:
    """What is said of outputs that bear a shorter name than their inputs."""
    for job in jobs:
        if _fitting(stem(job.source)) != stem(job.source):
            yield f"its name is too long for an output, so it becomes {printable(job.output.name)}: {job.name}"


def _alike(jobs: Iterable[Job]) -> Iterator[str]:
    """What is said of outputs whose names differ, but not for every disk."""
    groups: dict[str, dict[Path, str]] = defaultdict(dict)
    for job in jobs:
        groups[unicodedata.normalize("NFC", str(job.output)).casefold()][job.output] = job.name
    for names in (group.values() for group in groups.values()):
        if len(names) > 1:
            yield (
                f"these names differ by case or by the form of an accent only, and a disk that does not tell them "
                f"apart holds one of their outputs: {', '.join(names)}"
            )


def _clashes(
    jobs: Sequence[Job], folder: Path | None, maps: Collection[MapKind], own: Collection[str]
) -> dict[Job, str]:
    """For each job that writes where another or the batch itself does, what is wrong."""
    writers: dict[Path, list[str]] = defaultdict(list)
    if folder:
        writers |= {folder / name: ["the batch itself"] for name in own}
    written = {job: (*job.images(maps), job.sidecar) for job in jobs}
    for job, paths in written.items():
        for path in paths:
            writers[path].append(job.name)
    folders = {parent for path in writers for parent in path.parents}
    problems: dict[Job, str] = {}
    for job, paths in written.items():
        for path in paths:
            others = ["what goes into a folder of that name"] if path in folders else []
            others += [name for name in writers[path] if name != job.name]
            if others:
                clash = f"{job.name} and {others[0]} would both write {path}"
                problems.setdefault(job, f"{clash}; rename one of them, or convert them apart.")
    return problems


def _over_inputs(jobs: Sequence[Job], maps: Collection[MapKind]) -> dict[Job, str]:
    """For each job that would overwrite an input, what is wrong."""
    inputs = {os.path.realpath(job.source) for job in jobs}
    return {
        job: f"{path} is an input, and would be overwritten; give another OUTPUT."
        for job in jobs
        for path in job.images(maps)
        if os.path.realpath(path) in inputs
    }


def model_origin(description: Description) -> Facts:
    """Which model it was: its name, and hashes of its weights and of its description."""
    return {
        "Name": description.model_name(),
        "WeightsSHA256": description.weights_sha256,
        "DescriptionSHA256": description.sha256,
    }


def strength_fact(strength: float) -> Facts:
    """What a sidecar says of a strength: nothing of the whole change, which outputs of an earlier medgan have."""
    return {} if strength == 1 else {STRENGTH: strength}


def is_finished(job: Job, facts: Facts) -> bool:
    """Whether the job's outputs exist and are what it would write.

    Outputs of a killed conversion may be there in part; they are finished, not refused.

    Raises:
        DataError: Something else lies in their place; it is never overwritten unasked.
    """
    wanted = job.images([kind for kind, name in MAPS.items() if facts.get(name) is not None])
    there = [path for path in wanted if os.path.lexists(path)]
    sidecar = read_sidecar(job.sidecar)
    if sidecar is None:
        there += [job.sidecar] if os.path.lexists(job.sidecar) else []
        if there:
            raise DataError(f"{there[0]}: exists and is no output of medgan; give another OUTPUT, or add --overwrite.")
        return False
    if not there:
        return False
    differing = [name for name in MADE_FROM if sidecar.get(name) != facts.get(name)]
    if differing:
        raise DataError(f"{job.output}: exists, made with another {' and '.join(differing)}; add --overwrite.")
    for path in there:
        if sidecar["Outputs"].get(printable(path.name)) != file_hash(path):
            raise DataError(f"{path}: exists, but was changed since it was written; move it away, or add --overwrite.")
    return len(there) == len(wanted)


def read_sidecar(path: Path) -> Facts | None:
    """The sidecar of an output, or None where there is none that medgan wrote."""
    try:
        content = read_json(path, strict=False)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("Outputs"), dict):
        return None
    return content if any(content.get(mark) is True for mark in OURS) else None


def write_outputs(job: Job, images: Mapping[Path, NDArray[Any]], grid: Grid, facts: Facts) -> None:
    """Write a job's images and its sidecar, so that whatever has its final name is whole.

    All are made in a hidden folder first. The sidecar takes its place before the images that it describes, and the
    output comes last: a conversion that is killed in between leaves nothing that a later one takes for another's.
    Images are voxels (X, Y, Z) by final path, stored in their own type; facts are the sidecar but for their hashes.

    Raises:
        DataError: They cannot be written.
    """
    before = read_sidecar(job.sidecar)
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(job.output.parent) as folder:
            for path, voxels in images.items():
                write_volume(
                    voxels, grid, folder / path.name, voxels.dtype,
                    descrip=header_text(facts, job.kind(path)), labels=bool(facts.get("Segmentation")),
                )  # fmt: skip
            hashes = {printable(path.name): file_hash(folder / path.name) for path in images}
            write_text(folder / job.sidecar.name, as_json(facts | {"Outputs": hashes}))
            for path in (job.sidecar, *reversed(list(images))):
                (folder / path.name).replace(path)
        for path in job.images():
            if before and path not in images and printable(path.name) in before["Outputs"]:
                path.unlink(missing_ok=True)  # a map of the output that was just replaced
    except OSError as error:
        raise unwritable(job.output, error) from None


def as_json(content: Mapping[str, Any]) -> str:
    """JSON for people, too."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def header_text(facts: Facts, kind: MapKind | None = None) -> str:
    """What an image's own header says of it, or of a map of some kind, if the sidecar is lost; at most 79 letters."""
    what = "LABEL MAP" if facts.get("Segmentation") else f"SYNTHETIC {kind} map" if kind else "SYNTHETIC"
    what += f", strength {facts[STRENGTH]:.3g}" if STRENGTH in facts else ""
    model = facts.get("Model") or {}
    name, weights = model.get("Name", ""), str(model.get("WeightsSHA256", ""))[:8]
    room = nifti.DESCRIP_BYTES - len(f"{what}, medgan  {weights}, not for diagnosis")
    return " ".join(f"{what}, medgan {name[: max(room, 0)]} {weights}".split()) + ", not for diagnosis"
