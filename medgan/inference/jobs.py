"""What there is to convert: from INPUT to jobs whose outputs mirror its names, checked before any runs."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from medgan.data.layouts import NIFTI, read_table, stem
from medgan.data.volumes import find_images
from medgan.errors import ConfigError, DataError

MANIFEST, SUMMARY = "manifest.jsonl", "summary.json"
"""The batch's own files in the output folder."""
MAX_NAMED = 5
SUFFIX = re.compile(r"([_.-][A-Za-z0-9_.-]*[A-Za-z0-9])?")
"""What may be added to the outputs' names: nothing that could be a folder or another kind of file."""

Named = tuple[str, Path]
"""An input's name in records, and where it lies."""

MapKind = Literal["change", "uncertainty"]
"""What may lie beside an output: how much the model changed, and how unsure it is."""


@dataclass(frozen=True)
class Job:
    """One study to convert."""

    source: Path
    """The file, or the folder of a DICOM series."""
    name: str
    """Its path below INPUT or below the cohort's folder, with forward slashes: what records call it."""
    output: Path

    @property
    def sidecar(self) -> Path:
        """``NAME.json`` beside ``NAME.nii.gz``."""
        return self.output.with_name(stem(self.output) + ".json")

    def map(self, kind: MapKind) -> Path:
        """``NAME_change.nii.gz`` or ``NAME_uncertainty.nii.gz`` beside ``NAME.nii.gz``."""
        return self.output.with_name(f"{stem(self.output)}_{kind}.nii.gz")

    def kind(self, image: Path) -> MapKind | None:
        """Which map one of its images is; None for the output itself."""
        return next((kind for kind in get_args(MapKind) if image == self.map(kind)), None)

    def images(self, maps: Collection[MapKind] = get_args(MapKind)) -> tuple[Path, ...]:
        """The images that it writes; the output is the first."""
        return (self.output, *(self.map(kind) for kind in get_args(MapKind) if kind in maps))


@dataclass(frozen=True)
class Plan:
    """All that will be converted."""

    jobs: tuple[Job, ...]
    folder: Path | None
    """Where manifest and summary go; None where OUTPUT is the name of one file."""
    notes: tuple[str, ...] = ()
    """What the user should know of the choice."""


def find_jobs(
    source: Path,
    output: Path,
    domain: str,
    *,
    subjects: Collection[str] | None = None,
    maps: Collection[MapKind] = (),
    own: Collection[str] = (MANIFEST, SUMMARY),
    suffix: str = "",
) -> Plan:
    """The studies of INPUT and where each goes; refuses what would overwrite an input or another output.

    Args:
        source: An image, a folder (searched to the bottom), a folder that is one DICOM series, or a cohort CSV.
        output: A folder, or for one study a file name that ends in .nii.gz.
        domain: Of a cohort, the domain whose images are converted.
        subjects: Of a cohort, only these; None is everyone.
        maps: What is written beside each output.
        own: Names of the batch's own files in the output folder.
        suffix: What the outputs' names have after their inputs'.

    Raises:
        DataError: INPUT does not exist or holds no image to convert.
        ConfigError: A suffix that no file name can have, two studies for one output name, or an output in the place of
            an input.
    """
    named, notes = find_inputs(source, output, domain, subjects=subjects)
    plan = Plan(*_placed(source, named, output, suffix), notes)
    _check_names(plan, maps, own)
    _check_inputs_stay(plan, maps)
    return plan


def find_inputs(
    source: Path, output: Path, domain: str, *, subjects: Collection[str] | None = None
) -> tuple[list[Named], tuple[str, ...]]:
    """The images of INPUT by their names in records, and what the user should know of the choice.

    Args:
        source: As for :func:`find_jobs`.
        output: Images under it are no inputs.
        domain: Of a cohort, the domain whose images are meant.
        subjects: Of a cohort, only these; None is everyone.

    Raises:
        DataError: INPUT does not exist or holds no image.
        ConfigError: OUTPUT is the input folder.
    """
    notes: list[str] = []
    if not os.path.lexists(source):
        raise DataError(f"{source} does not exist; give an image, a folder or a cohort CSV.")
    if is_table(source):
        named = list(_of_table(source, domain, subjects))
    elif source.is_dir():
        named = list(_below(source, output, notes))
    else:
        named = [(source.name, source)]
    if not named:
        raise DataError(f"{source} holds no image to convert; give NIfTI, DICOM, PNG or TIFF images.")
    return named, tuple(notes)


def is_table(source: Path) -> bool:
    """Whether INPUT is a cohort CSV."""
    return source.suffix.lower() == ".csv" and not source.is_dir()


def _of_table(table: Path, domain: str, subjects: Collection[str] | None) -> Iterator[Named]:
    studies = read_table(table)
    own = [study for study in studies if study.domain == domain]
    if not own:
        there = ", ".join(sorted({study.domain for study in studies}))
        raise DataError(f"{table} has no image of domain {domain}, which this direction converts; it has: {there}.")
    chosen = [study for study in own if subjects is None or study.subject in subjects]
    if not chosen:
        raise DataError(f"{table} has {domain} images, but of no subject in the part of the split that was asked for.")
    for study in chosen:
        yield study.image.relative_to(table.parent).as_posix(), study.image


def _below(folder: Path, output: Path, notes: list[str]) -> Iterator[Named]:
    here, there = folder.resolve(), output.resolve()
    if here == there:
        raise ConfigError(f"OUTPUT is the input folder {folder}; give another, so that no input is overwritten.")
    images = find_images(folder)
    # By where the name lies: a linked image, as in git-annex, counts as lying where its link does.
    own = [image for image in images if not (image.parent.resolve() / image.name).is_relative_to(there)]
    if len(own) < len(images):
        notes.append(
            f"left out because they lie under OUTPUT ({output}): {len(images) - len(own)} of {len(images)} images"
        )
    for image in own:
        yield (here.name if image == folder else image.relative_to(folder).as_posix()), image


def _placed(source: Path, named: Sequence[Named], output: Path, suffix: str) -> tuple[tuple[Job, ...], Path | None]:
    """The jobs, and the folder of their records."""
    if not SUFFIX.fullmatch(suffix):
        raise ConfigError(
            f"--suffix '{suffix}': write _, - or . and then letters, digits, _, - or ., for example _syn."
        )
    if output.name.lower().endswith(NIFTI) and not output.is_dir():
        if len(named) > 1:
            raise ConfigError(f"{output} names one file, but {source} holds {len(named)} images; give a folder.")
        if suffix:
            raise ConfigError(f"{output} names the file itself; give a folder, or leave --suffix out.")
        name, image = named[0]
        return (Job(image, name, output),), None
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file and no folder; give a folder, or a file name that ends in .nii.gz.")
    jobs = []
    for name, image in named:
        mirrored = PurePosixPath(name)
        plain = mirrored.name if image.is_dir() else stem(image)
        jobs.append(Job(image, name, output / mirrored.with_name(f"{plain}{suffix}.nii.gz")))
    return tuple(jobs), output


def _check_names(plan: Plan, maps: Collection[MapKind], own: Collection[str]) -> None:
    taken = {plan.folder / name: "the batch itself" for name in own} if plan.folder else {}
    clashes = []
    for job in plan.jobs:
        for path in (*job.images(maps), job.sidecar):
            if path in taken:
                clashes.append(f"{job.name} and {taken[path]} would both write {path}")
            taken[path] = job.name
    if clashes:
        more = f", and {len(clashes) - MAX_NAMED} more" if len(clashes) > MAX_NAMED else ""
        raise ConfigError(f"{'; '.join(clashes[:MAX_NAMED])}{more}. Rename one of each, or convert them apart.")


def _check_inputs_stay(plan: Plan, maps: Collection[MapKind]) -> None:
    inputs = {job.source.resolve() for job in plan.jobs}
    for path in (path for job in plan.jobs for path in job.images(maps)):
        if path.resolve() in inputs:
            raise ConfigError(f"{path} is an input, and would be overwritten; give another OUTPUT.")
