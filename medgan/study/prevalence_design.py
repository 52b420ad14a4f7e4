"""Cohorts of phantom subjects that differ in one thing: how many subjects of the target domain have lesions."""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from medgan.config import Config
from medgan.data.cache import default_folder
from medgan.data.layouts import Study
from medgan.data.streams import write_text
from medgan.data.tables import read_table
from medgan.errors import ConfigError
from medgan.phantom.cohort import COLUMNS, PAIRED, write_phantom
from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import LESIONS, Tissue

Percent = Annotated[int, Field(ge=0, le=100)]

ABDOMINAL = ("abdomen_ct", "abdomen_mr_ct")
"""Phantoms whose subjects have lesions in the liver."""
LESION = "lesion"
LABELS: dict[str, tuple[int, ...]] = {
    "liver": (Tissue.LIVER,),
    "kidney": (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA),
    LESION: tuple(LESIONS),
}
"""What the frozen segmenters find, and the values that mark it in the phantom's label maps."""


class PrevalenceDesign(Config):
    """Who is rendered for a lesion-prevalence study."""

    prevalences_percent: tuple[Percent, ...] = (0, 50, 100)
    """Shares of the target's subjects that have lesions."""
    source_percent: Percent = 50
    """The same in the source, whatever the target's. Pairs have a lesion in both scans or in neither: there it is the
    target's."""
    train: PositiveInt = 12
    """Subjects of each domain that a translator learns from, or pairs."""
    validation: PositiveInt = 2
    """Subjects of each domain that choose its epoch, or pairs."""
    test: PositiveInt = 24
    """Subjects that nothing was trained on."""
    test_percent: Percent = 75
    """Share of these that has lesions: recall is measured in them, false findings in all."""
    labelled: PositiveInt = 24
    """Subjects that the frozen segmenters learn from; no translator sees them."""
    labelled_validation: PositiveInt = 4
    """Subjects that choose the segmenters' epoch."""
    labelled_percent: Percent = 75
    """Share of these that has lesions."""
    shape_voxels: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Of the volumes; null is the phantom's own."""
    seed: NonNegativeInt = 7000

    @model_validator(mode="after")
    def _varies(self) -> Self:
        if len(set(self.prevalences_percent)) < 2 or len(set(self.prevalences_percent)) < len(self.prevalences_percent):
            raise ValueError("a slope needs at least two prevalences, each once")
        return self


@dataclass(frozen=True)
class PrevalenceCohorts:
    """The rendered subjects of a design."""

    root: Path
    design: PrevalenceDesign
    domains: tuple[str, str]

    def table(self, percent: int, *, paired: bool) -> Path:
        """The cohort CSV of a target prevalence: pairs, or one scan a subject; the test subjects have both."""
        return self.root / f"{'paired' if paired else 'unpaired'}_{percent}.csv"

    def labelled(self, domain: str) -> tuple[list[Study], list[Study]]:
        """The segmenters' subjects in one domain, to train and to choose the epoch."""
        own = [study for study in read_table(self.root / "labelled" / PAIRED).studies if study.domain == domain]
        return own[: self.design.labelled], own[self.design.labelled :]

    def tested(self, domain: str) -> list[Study]:
        """The test subjects in one domain."""
        first = self.table(self.design.prevalences_percent[0], paired=True)
        return [study for study in read_table(first).studies if study.domain == domain and study.split == "test"]


def rendered(design: PrevalenceDesign, kind: str) -> PrevalenceCohorts:
    """The subjects of a design, rendered once and kept.

    Args:
        design: Who is wanted.
        kind: The pipeline's phantom.

    Raises:
        ConfigError: A phantom without liver lesions.
    """
    if kind not in ABDOMINAL:
        raise ConfigError(
            f"the phantom '{kind}' has no liver lesions to vary; the study is for pipelines with one of "
            f"{', '.join(ABDOMINAL)}."
        )
    digest = hashlib.sha256(design.model_dump_json().encode()).hexdigest()[:12]
    root = default_folder() / "phantom" / f"{kind}-{version('medgan')}-prevalence-{digest}"
    cohorts = PrevalenceCohorts(root, design, KINDS[kind].domains)
    for name, subjects, percent, seed in _groups(design):
        if not (root / name / PAIRED).exists():
            write_phantom(
                root / name, kind=kind, subjects=subjects, seed=seed, lesions=percent / 100, shape=design.shape_voxels
            )
    for percent in design.prevalences_percent:
        for paired in (False, True):
            _write_table(cohorts.table(percent, paired=paired), _rows(cohorts, percent, paired))
    return cohorts


def _groups(design: PrevalenceDesign) -> Iterator[tuple[str, int, int, int]]:
    """Name, subjects, share with lesions and seed, which is the same for every prevalence of the target."""
    side = design.train + design.validation
    yield "source", side, design.source_percent, design.seed
    for percent in design.prevalences_percent:
        yield f"target_{percent}", side, percent, design.seed + 1
    yield "test", design.test, design.test_percent, design.seed + 2
    yield "labelled", design.labelled + design.labelled_validation, design.labelled_percent, design.seed + 3


def _rows(cohorts: PrevalenceCohorts, percent: int, paired: bool) -> Iterator[Sequence[str]]:
    source, target = cohorts.domains
    parts = ["train"] * cohorts.design.train + ["validation"] * cohorts.design.validation
    if not paired:
        yield from _of_group(cohorts.root, "source", (source,), parts)
    yield from _of_group(cohorts.root, f"target_{percent}", (source, target) if paired else (target,), parts)
    yield from _of_group(cohorts.root, "test", (source, target), ["test"] * cohorts.design.test)


def _of_group(root: Path, group: str, domains: Sequence[str], parts: Sequence[str]) -> Iterator[Sequence[str]]:
    studies = read_table(root / group / PAIRED).studies
    part = dict(zip(dict.fromkeys(study.subject for study in studies), parts, strict=True))
    for study in studies:
        if study.domain in domains:
            assert study.mask is not None, "every phantom has its labels"
            files = [path.relative_to(root).as_posix() for path in (study.image, study.mask)]
            yield [f"{group}-{study.subject}", study.domain, *files, part[study.subject]]


def _write_table(path: Path, rows: Iterator[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_text(path, text.getvalue())
