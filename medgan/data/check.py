"""What can be wrong with a cohort, looked for before anything trains on it: ``medgan data check``."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.progress import track
from rich.table import Column, Table
from rich.text import Text

from medgan.data.belonging import cannot_be, contradictions, odd_hu
from medgan.data.domains import Domain, DomainPair
from medgan.data.endings import plain_spelling, subjects_named
from medgan.data.grid import Grid, Volume, apart, same_grid
from medgan.data.hashes import voxel_hash
from medgan.data.listing import find_images, passed_over_lines
from medgan.data.streams import is_folder
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_grid, read_volume
from medgan.errors import DataError, MedganError
from medgan.text import printable

BONE_HU = 200.0
"""A CT that stays below it shows no bone and no iodine."""
SPACING_RATIO = 2.0
"""A spacing more than this factor from its domain's median is an outlier."""
MOST_SHOWN = 3
"""Of each kind of finding, so many are shown before the rest is counted."""


@dataclass(frozen=True)
class _Finding:
    """Something to look at before training, and the studies that it is about."""

    kind: Literal["unreadable", "geometry", "duplicate", "leakage", "intensity", "spacing", "pairing"]
    text: str
    studies: tuple[Study, ...]


@dataclass(frozen=True)
class _Report:
    """What a cohort holds, and what is wrong with it; no findings means that it can be trained on."""

    readings: dict[Study, dict[str, Any]]
    """By study, in the cohort's order: shape, voxel size and intensities; empty where it cannot be read."""
    findings: tuple[_Finding, ...]
    cohort: Cohort

    def frame(self) -> pd.DataFrame:
        """One row a study, for CSV and JSON: what was read, and the findings about it."""
        return pd.DataFrame(
            {"subject": study.subject, "domain": study.domain, "image": self.cohort.relative(study.image)}
            | {"readable": bool(reading)}
            | reading
            | {"findings": "; ".join(finding.text for finding in self.findings if study in finding.studies)}
            for study, reading in self.readings.items()
        )

    def render(self, *, every: bool = False) -> RenderableType:
        """For a terminal of 80 columns: the findings, then what each domain holds; with ``every``, a line an image."""
        unique = len({reading["content"] for reading in self.readings.values() if reading})
        summary = (
            f"{len(self.readings)} images of {len(self.cohort.subjects())} subjects, {unique} unique; "
            f"{len(self.findings) or 'no'} finding{'s' * (len(self.findings) != 1)}"
        )
        notes = [*self.cohort.notes, *filter(None, [self.cohort.note])]
        table = self._images() if every else self._domains()
        return Group(Text(summary), *self._findings(None if every else MOST_SHOWN), *map(Text, notes), table)

    def _findings(self, most: int | None) -> Iterator[Text]:
        """The first findings of each kind, and how many more there are."""
        for kind in dict.fromkeys(finding.kind for finding in self.findings):
            own = [finding for finding in self.findings if finding.kind == kind]
            for finding in own[:most]:
                yield Text.assemble((f"{kind}: ", "red"), finding.text)
            if rest := len(own[most:]) if most else 0:
                yield Text.assemble((f"{kind}: ", "red"), f"{rest} more; --all shows every one, --csv FILE keeps them")

    def _domains(self) -> Table:
        """What was read, as ranges over the images of each domain."""
        domains = list(dict.fromkeys(study.domain for study in self.readings))
        columns = [_summed_up([study for study in self.readings if study.domain == name], self) for name in domains]
        table = Table("", *(Column(printable(name), overflow="fold") for name in domains))
        for row in columns[0] if columns else ():
            table.add_row(row, *(Text(column[row]) for column in columns))
        return table

    def _images(self) -> Table:
        """A line an image."""
        image = Column("image", overflow="fold", ratio=1)
        columns = image, "voxels", "mm", "axes", "1 to 99 %", "finding"
        table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
        for study, reading in self.readings.items():
            kinds = sorted({finding.kind for finding in self.findings if study in finding.studies})
            cells = [self.cohort.relative(study.image), *[""] * 4]
            if reading:
                sizes, spacing = "×".join(map(str, reading["shape"])), [f"{mm:.2g}" for mm in reading["spacing_mm"]]
                cells[1:] = sizes, "×".join(spacing), reading["orientation"], _range([reading["p1"], reading["p99"]])
            table.add_row(*map(Text, cells), Text(", ".join(kinds), style="red"))
        return table


def check_cohort(cohort: Cohort, pair: DomainPair, console: Console | None = None) -> _Report:
    """Read every study and look for what training would trip over or, worse, not notice; a bad file stops nothing.

    A console that is a terminal has a progress bar meanwhile.
    """
    readings: dict[Study, dict[str, Any]] = {study: {} for study in cohort.studies}
    grids: dict[Study, Grid] = {}
    unreadable: list[_Finding] = []
    intensities: list[_Finding] = []
    domains = {domain.name: domain for domain in (pair.source, pair.target)}
    hidden = console is None or not console.is_terminal
    for study in track(cohort.studies, "checking", console=console, transient=True, disable=hidden):
        try:
            volume = read_volume(study.image)
            readings[study], grids[study] = _reading(volume), volume.grid
            intensities += _intensities(study, volume, domains[study.domain])
        except Exception as error:  # whatever a reader trips over is a finding, and the next file is still read
            unreadable.append(_unreadable(study, study.image, error))
    read = {study: reading for study, reading in readings.items() if reading}
    findings = [*unreadable, *intensities, *_spacings(read), *_masks(grids)]
    findings += _pairs(cohort, pair, grids) if pair.paired else []
    findings += [*_duplicates(read, cohort), *_subjects(cohort)]
    return _Report(readings, tuple(findings), cohort)


def _reading(volume: Volume) -> dict[str, Any]:
    lowest, p1, p99, highest = (float(value) for value in np.percentile(volume.voxels, [0, 1, 99, 100]))
    return {
        "shape": volume.grid.size,
        "spacing_mm": volume.grid.spacing_mm,
        "orientation": "".join(nib.orientations.aff2axcodes(volume.grid.affine)),
        "minimum": lowest,
        "p1": p1,
        "p99": p99,
        "maximum": highest,
        "content": voxel_hash(volume),
    }


def _unreadable(study: Study, path: Path, error: Exception) -> _Finding:
    """Our own errors name the file; those of a library may not."""
    return _Finding("unreadable", str(error) if isinstance(error, MedganError) else f"{path}: {error!r}", (study,))


def _intensities(study: Study, volume: Volume, domain: Domain) -> Iterator[_Finding]:
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    texts = []
    if low == high:
        texts = [f"{study.image} is {low:g} everywhere; remove it."]
    elif reasons := [*contradictions(volume, domain)]:
        refused = f"{study.image} {cannot_be(domain)}: {'; '.join(reasons)}"
        texts = [f"{refused}; training refuses it: correct or remove it."]
    elif domain.unit == "HU":
        texts = [f"{study.image}: {reason}; correct or remove it." for reason in odd_hu(volume.voxels)]
        if high < BONE_HU and not texts:
            texts = [f"{study.image} has no value above {high:g} HU: no bone, so it is clipped, or a crop; look at it."]
    yield from (_Finding("intensity", text, (study,)) for text in texts)


def _spacings(read: dict[Study, dict[str, Any]]) -> Iterator[_Finding]:
    """Voxel sizes far from the median of their domain: of slices in their plane, of volumes along all three axes."""
    groups: dict[tuple[str, int], list[Study]] = defaultdict(list)
    for study, reading in read.items():
        groups[study.domain, 3 if reading["shape"][2] > 1 else 2].append(study)
    for (domain, axes), studies in groups.items():
        spacings = np.sort([read[study]["spacing_mm"][:axes] for study in studies], axis=1)
        median = np.median(spacings, axis=0)
        for study, spacing in zip(studies, spacings, strict=True):
            if np.maximum(spacing / median, median / spacing).max() > SPACING_RATIO:
                text = f"{study.image} has voxels of {_mm(spacing)} mm, the median of {domain} is {_mm(median)} mm"
                yield _Finding("spacing", f"{text}; resample or remove it, unless this is meant.", (study,))


def _masks(grids: dict[Study, Grid]) -> Iterator[_Finding]:
    for study, grid in grids.items():
        if study.mask:
            try:
                mask = read_grid(study.mask)
                if not same_grid(grid, mask):
                    both = f"{study.mask} and {study.image} are on different voxel grids ({apart(grid, mask)})"
                    yield _Finding("geometry", f"{both}; draw or resample the mask on it.", (study,))
            except Exception as error:  # as for images
                yield _unreadable(study, study.mask, error)


def _pairs(cohort: Cohort, pair: DomainPair, grids: dict[Study, Grid]) -> Iterator[_Finding]:
    for subject in cohort.subjects():
        own = cohort.of_subjects([subject])
        missing = [name for name in pair.names if not own.of_domain(name).studies]
        if missing:
            text = f"subject '{subject}' has no {missing[0]} image, so it is no pair to train on; add or remove it."
            yield _Finding("pairing", text, own.studies)
        try:
            couples = own.pairs(pair)
        except DataError as error:
            yield _Finding("pairing", str(error), own.studies)
            continue
        coupled = {each for two in couples for each in two}
        for study in own.studies if couples else ():
            if study not in coupled:
                text = f"{study.image} has no partner in its session, so it is not trained on; add or remove it."
                yield _Finding("pairing", text, (study,))
        for source, target in couples:
            if {source, target} <= grids.keys() and not same_grid(grids[source], grids[target]):
                text = (
                    f"{source.image} and {target.image} ({apart(grids[source], grids[target])}) are on different "
                    "voxel grids, so they cannot be trained as a pair; register them first with `medgan data register`."
                )
                yield _Finding("geometry", text, (source, target))


def _duplicates(read: dict[Study, dict[str, Any]], cohort: Cohort) -> Iterator[_Finding]:
    by_content: dict[str, list[Study]] = defaultdict(list)
    for study, reading in read.items():
        if reading["minimum"] < reading["maximum"]:  # one value everywhere shows nobody, and is a finding of its own
            by_content[reading["content"]].append(study)
    for studies in by_content.values():
        subjects = sorted({study.subject for study in studies})
        images = ", ".join(cohort.relative(study.image) for study in studies)
        if len(subjects) > 1:
            text = f"{images} are one image under subjects {', '.join(subjects)}: a test would see what was trained on"
            yield _Finding("leakage", f"{text}; give them one subject, or remove all but one.", tuple(studies))
        elif len(studies) > 1:
            text = f"{images} are one image, {len(studies)} times in subject {subjects[0]}; remove all but one."
            yield _Finding("duplicate", text, tuple(studies))


def _subjects(cohort: Cohort) -> Iterator[_Finding]:
    """Subjects in two parts, and those who may be one and the same by their names alone."""
    for subject, parts in cohort.parts().items():
        if len(parts) > 1:
            text = f"subject '{subject}' is in {' and '.join(sorted(parts))}; correct the `split` column."
            yield _Finding("leakage", text, cohort.of_subjects([subject]).studies)
    naming = subjects_named(cohort.names())
    if cohort.doubt:
        advice = "give both images of a subject one name, or list the images in a CSV that says who is who."
        yield _Finding("leakage", f"{cohort.doubt}; {advice}", cohort.studies)
    elif alike := naming.note or naming.doubt:
        text = f"by their names, {alike}; if they are one subject, call them so in the table."
        yield _Finding("leakage", text, cohort.studies)
    spellings: dict[str, list[str]] = defaultdict(list)
    for subject in cohort.subjects():
        spellings[plain_spelling(subject)].append(subject)
    for subjects in spellings.values():
        if len(subjects) > 1:
            names = ", ".join(f"'{subject}'" for subject in subjects)
            text = f"subjects {names} differ by their spelling alone; if they are one, give them one name."
            yield _Finding("leakage", text, cohort.of_subjects(subjects).studies)


def left_out(data: Path, cohort: Cohort) -> Iterator[str]:
    """Lines for people on what lies in a cohort's folder and is not of it: other images, and what may hold some."""
    if not is_folder(data):
        return
    listing, aside = find_images(data), dict(cohort.aside)
    own = {path for study in cohort.studies for path in (study.image, study.mask) if path}
    own |= {path.parent for path in own}  # a table may name the slices of a folder that is listed as one
    others = {image: aside.get(image, f"no part of {cohort.layout}") for image in listing.images if image not in own}
    passed_over = {**listing.passed_over, **others}
    names = {printable(path.relative_to(data).as_posix()): why for path, why in passed_over.items()}
    yield from passed_over_lines(names)


def _summed_up(studies: Sequence[Study], report: _Report) -> dict[str, str]:
    """What the images of a domain have, by name: how many, and ranges over those that were read."""
    read = [report.readings[study] for study in studies if report.readings[study]]
    masks, found = (sum(map(bool, each)) for each in ([s.mask for s in studies], _with_findings(studies, report)))
    rows = {"images": f"{len(studies)} of {len({study.subject for study in studies})} subjects"}
    rows |= {"masks": str(masks), "unreadable": str(len(studies) - len(read)), "with findings": str(found)}
    shapes, spacings = ([reading[name] for reading in read] for name in ("shape", "spacing_mm"))
    axes = Counter(reading["orientation"] for reading in read)
    ends = [_range([reading[name] for reading in read]) for name in ("minimum", "p1", "p99", "maximum")]
    return rows | {
        "voxels": " × ".join(_range(axis) for axis in zip(*shapes, strict=True)),
        "mm": " × ".join(_range(axis) for axis in zip(*spacings, strict=True)),
        "axes": ", ".join(f"{name} {count}" if len(axes) > 1 else name for name, count in axes.most_common()),
        **dict(zip(("lowest", "1 %", "99 %", "highest"), ends, strict=True)),
    }


def _with_findings(studies: Sequence[Study], report: _Report) -> list[bool]:
    concerned = {study for finding in report.findings for study in finding.studies}
    return [study in concerned for study in studies]


def _range(values: Sequence[float]) -> str:
    """The lowest and the highest; one number where they read the same."""
    ends = [f"{end:.0f}" if abs(end) >= 100 else f"{end:.3g}" for end in (min(values), max(values))] if values else []
    return "…".join(dict.fromkeys(ends))


def _mm(spacing: Sequence[float]) -> str:
    return " × ".join(f"{mm:.3g}" for mm in spacing)
