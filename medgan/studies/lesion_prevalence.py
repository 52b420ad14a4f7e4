"""Do translators invent or erase lesions of which their targets had more or fewer than their sources?

Cohen et al. 2018 (arXiv:1805.08841) warn that matching distributions does so. Here translators learn from targets of
which none, half or all subjects have lesions, all else being equal, and a frozen detector that was trained on real
target images looks for lesions in the translations of subjects that nobody was trained on. How its recall and its false
findings rise with the prevalence is a slope with an interval; a faithful translator has none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from rich.console import Console, RenderableType
from rich.text import Text

from medgan import catalog
from medgan.config import Config, load
from medgan.data.cache import default_folder
from medgan.data.domains import Window
from medgan.data.layouts import Study, stem
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.data.streams import write_text
from medgan.data.tables import read_table
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.segmentation import SMALLEST_MM3, label_agreement, lesion_counts
from medgan.evaluation.statistics import LEVEL, interval_text, paired_difference, plain, slope, verdict
from medgan.phantom.cohort import COLUMNS, PAIRED, write_phantom
from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import LESIONS, Tissue
from medgan.segmentation.apply import segment_study
from medgan.segmentation.segmenter import segmenter_task
from medgan.segmentation.settings import STANDARD, SegmenterConfig, SegmenterDescription, SegmenterModel
from medgan.studies.base import Context, Stages, StudyKind, StudyOrder, StudySummary, Task
from medgan.studies.engine import RECORD, read_json
from medgan.studies.segmenter import CaseReader, fitted
from medgan.studies.tables import Row, in_order
from medgan.studies.tables import table as shown_table
from medgan.studies.translator import (
    CONVERTED,
    Cell,
    TranslatorRun,
    Translators,
    adversarial_game,
    check_translators,
    configured,
    train_and_judge,
)
from medgan.training.device import make_fabric
from medgan.training.fit import FitConfig
from medgan.training.model_folder import CARD, Origin, read_model

Percent = Annotated[int, Field(ge=0, le=100)]
PairSide = Literal["source", "target"]
SIDES: tuple[PairSide, PairSide] = ("source", "target")

ABDOMINAL = ("abdomen_ct", "abdomen_mr_ct")
"""Phantoms whose subjects have lesions in the liver."""
LESION = "lesion"
LABELS: dict[str, tuple[int, ...]] = {
    "liver": (Tissue.LIVER,),
    "kidney": (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA),
    LESION: tuple(LESIONS),
}
"""What the frozen segmenters find, and the values that mark it in the phantom's label maps."""
NUMBERS = {name: number for number, name in enumerate(LABELS, start=1)}
"""The segmenters' values."""
PLAIN, WATCHED = "cyclegan", "cyclegan_semantic"
"""The translators that differ in semantic consistency alone."""
REAL = "real"
"""Instead of a translator: the detector on the test subjects' own target images."""
HEADLINES = ("recall", "false")
CHANGED = (*HEADLINES, "lesion_erased", "lesion_invented")
"""What semantic consistency is there for."""
SHORTER = ("fit.epochs=8", "fit.validate_every=4")
"""Beneath the user's own settings: nine trainings in the time of three."""
WINDOWS_HU = {"source": Window(lower=-60.0, upper=240.0), "target": Window(lower=-20.0, upper=120.0)}
"""What the segmenters see of a CT: soft tissue with contrast medium, and the narrower range without, in which lesions
show."""
OF_TRANSLATIONS = IntensityConfig(gamma=0.3, contrast=0.3, brightness=0.1)
"""How the source's patches are varied: its segmenter must look at translations, which are no longer of its domain. The
detector sees the target as it is, whose lesions differ from the liver by less than such variations would add."""
FROZEN = FitConfig(epochs=24, iterations_per_epoch=50, batch_size=8, average_decay=0.99, validate_every=6)
TABLE, BEFORE = "slopes.csv", "labels"


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


class PrevalenceConfig(Config):
    """Settings of a lesion-prevalence study, beside the translators' own."""

    design: PrevalenceDesign = PrevalenceDesign()
    semantic: PositiveFloat = 10.0
    """Weight of semantic consistency in the arm that has it."""
    segmenter_fit: FitConfig = FROZEN
    """How long both frozen segmenters learn."""


class LesionPrevalence(StudyKind):
    """Translators at each prevalence, unpaired ones with and without semantic consistency and a paired one.

    ``KEY=VALUE`` are the translators' settings; ``--config`` has the study's own, a ``PrevalenceConfig``.
    """

    heeds = ()
    keys = ("translator", "prevalence_percent", "seed", "subject")
    rows_file = "detections.csv"

    def __init__(self, order: StudyOrder, console: Console) -> None:
        check_translators(order.pipeline, ["cyclegan", "pix2pix"])
        super().__init__(replace(order, config=None), console)
        self.config = load(PrevalenceConfig, *([order.config] if order.config else []))
        self._refuse_other_subjects()
        self.cohorts = _PrevalenceCohorts(self.config.design, catalog.load(order.pipeline).phantom)
        self.shared = (*SHORTER, *order.overrides)
        self.parts = {
            (percent, paired): self._part(percent, paired=paired)
            for percent, paired in product(self.config.design.prevalences_percent, (False, True))
        }

    def _refuse_other_subjects(self) -> None:
        """Keep segmenters that were trained on some subjects from judging others, among whom may be the same.

        Prevalences may be added: who is tested, and who the segmenters learn from, does not depend on them.
        """
        earlier = read_json(self.order.folder / RECORD).get("settings", {}).get("design", {})
        now = self.config.design.model_dump(mode="json")
        changed = [key for key in earlier if key != "prevalences_percent" and earlier[key] != now.get(key)]
        if changed:
            raise LeakageError(
                f"{self.order.folder} was begun with other subjects (design.{', design.'.join(changed)}), and its "
                "segmenters may have learnt from who is tested now; choose another --name, or put that folder away."
            )

    def _part(self, percent: int, *, paired: bool) -> Translators:
        """The translators that learn from one table."""
        own = f"translator={'pix2pix' if paired else 'cyclegan'}"
        pipeline = configured(self.order, [*self.shared, own])
        settings: dict[str, tuple[str, ...]] = {PLAIN: ()}
        if paired:
            game = adversarial_game(pipeline.config.model_dump(mode="json"))
            settings = {"pix2pix": (f"pix2pix.adversarial={game}",)}
        elif pipeline.pair.source.unit == pipeline.pair.target.unit:  # one segmenter can look at both domains
            model = json.dumps(self._segmenter("source").as_posix())
            settings[WATCHED] = f"cyclegan.semantic={self.config.semantic:g}", f"cyclegan.semantic_model={model}"
        cells = [Cell(f"{name},prevalence={percent}", (own, *more)) for name, more in settings.items()]
        folder = self.order.folder / f"{'paired' if paired else 'unpaired'},prevalence={percent}"
        return Translators(self.order, cells, self.shared, folder, self.cohorts.table(percent, paired=paired))

    def _segmenter(self, side: PairSide) -> Path:
        """The model folder of a side's segmenter."""
        return self.order.folder / "segmenters" / side / "model"

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        cells = {name: list(cell.settings) for part in self.parts.values() for name, cell in part.cells.items()}
        return {
            **super().description,
            "seeds": list(self.seeds),
            "settings": self.config.model_dump(mode="json"),
            "shared": list(self.order.overrides),
            "cells": cells,
            "splits": {part.split.parent.name: part.split_hash for part in self.parts.values()},
        }

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        return self.config.model_dump(mode="json") | {"seeds": list(self.seeds)}

    def notes(self) -> Sequence[str]:
        """None: that it is of phantoms is what the study is."""
        return []

    def stages(self) -> Stages:
        """The segmenters, what the source's finds in the test subjects, and then all translators."""
        yield [self._segmenter_task(side) for side in SIDES]
        weights = {
            side: read_model(self._segmenter(side), SegmenterDescription).description.weights_sha256 for side in SIDES
        }
        inputs = {scan.subject: scan for scan in self.cohorts.tested(self.cohorts.domains[0])}
        detector = _Detector(self._segmenter("target"), self.order.folder / BEFORE, inputs)
        known = {"segmenters": weights}
        yield [Task(BEFORE, known, _label_inputs, (self._segmenter("source"), inputs), product="subjects.csv")]
        target = {scan.subject: scan.image for scan in self.cohorts.tested(self.cohorts.domains[1])}
        tasks = [Task(REAL, known, _detect, (detector, target, {"translator": REAL}))]
        for (percent, _), part in self.parts.items():
            for task in part.tasks(self.seeds):
                args = (*task.args, detector, percent, self.cohorts.root)
                tasks.append(replace(task, inputs={**task.inputs, **known}, run=_train_and_detect, args=args))
        yield tasks

    def _segmenter_task(self, side: PairSide) -> Task:
        """The training of a side's frozen segmenter, on the translator's grid.

        That of the source looks in slices or in blocks as the translator does, which can then be held to it. The
        detector sees neighbouring slices, too: in a single one the noise of a CT looks like a faint lesion.
        """
        pipeline = next(iter(next(iter(self.parts.values())).pipelines.values()))
        domain = pipeline.pair.source if side == "source" else pipeline.pair.target
        patch = pipeline.config.patch
        look = STANDARD.model_dump() | {"intensity": OF_TRANSLATIONS if side == "source" else IntensityConfig()}
        if patch.spatial == 3:
            look |= {"dimensions": "3", "size_voxels": patch.size_voxels, "depth_voxels": patch.depth_voxels}
        elif side == "target":
            look |= {"dimensions": "2.5"}
        config = SegmenterConfig(
            labels=LABELS,
            domain=domain.model_copy(update={"window": WINDOWS_HU[side]}) if domain.unit == "HU" else domain,
            grid=pipeline.config.grid,
            patch=PatchConfig.model_validate(look),
            fit=self.config.segmenter_fit,
        )
        scans = self.cohorts.labelled(domain.name)
        seed = self.config.design.seed
        return Task(
            f"segmenters/{side}",
            {"seed": seed, "segmenter": config.model_dump(mode="json")},
            _train_frozen,
            (config, scans, seed),
            product=f"model/{CARD}",
        )

    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """See ``StudyKind``."""
        table, differences = _slopes(rows), _semantic_differences(rows)
        findings = dict(_findings(table, differences))
        record = {"table": plain(table), "semantic_differences": plain(differences), "findings": findings}
        compared = differences.assign(arm=WATCHED, reference=PLAIN) if len(differences) else differences
        shown = [*_tables(table), *(Text(f"{name}: {finding}") for name, finding in findings.items())]
        return StudySummary(record, {TABLE: table}, shown, findings, compared, artifacts=[TABLE], tags=findings)


def _train_frozen(
    context: Context, config: SegmenterConfig, scans: tuple[Sequence[Study], Sequence[Study]], seed: int
) -> None:
    """Train a segmenter on real images of its domain, from wherever that was left."""
    train, validation = (CaseReader(tuple(part))(config) for part in scans)
    fitted(context, segmenter_task(train, validation, config, seed=seed), "32", Origin(phantom=True))


def _label_inputs(context: Context, segmenter: Path, inputs: Mapping[str, Study]) -> pd.DataFrame:
    """Keep what the source's segmenter finds in every input."""
    model, fabric = read_model(segmenter, SegmenterDescription), make_fabric(context.device, "32")
    for subject, scan in inputs.items():
        volume = read_volume(scan.image)
        labels, grid = segment_study(model, volume, fabric), volume.grid
        write_volume(labels, grid, context.folder / f"{subject}.nii.gz", np.uint8)
    return pd.DataFrame({"subject": list(inputs)})


@dataclass(frozen=True)
class _Detector:
    """The target's frozen segmenter, and whom it looks at."""

    model: Path
    """Its model folder."""
    before: Path
    """What the source's segmenter found in each input: ``<subject>.nii.gz``."""
    inputs: Mapping[str, Study]
    """The test subjects' source images with their true labels, by subject."""

    def row(self, subject: str, image: Path, model: SegmenterModel, fabric: Fabric) -> dict[str, str | float]:
        """What is found in an image of a test subject in the target domain, real or translated."""
        scan, volume = self.inputs[subject], read_volume(image)
        assert scan.mask is not None, "every phantom has its labels"
        spacing = volume.grid.spacing_mm
        labels = segment_study(model, volume, fabric)
        truth = np.isin(read_volume(scan.mask).voxels, LABELS[LESION])
        counts = lesion_counts(labels == NUMBERS[LESION], truth, smallest_voxels=SMALLEST_MM3 / float(np.prod(spacing)))
        lesions = counts.found + counts.missed
        before = read_volume(self.before / f"{subject}.nii.gz").voxels.astype(np.uint8)
        agreement = label_agreement(before, labels, NUMBERS, spacing_mm=spacing, lesions=[LESION])
        return {
            "subject": subject,
            "lesions": lesions,
            "found": counts.found,
            "missed": counts.missed,
            "false": counts.false,
            "recall": counts.found / lesions if lesions else float("nan"),
            **agreement.figures(),
        }


def _detect(context: Context, detector: _Detector, images: Mapping[str, Path], keys: Mapping[str, Any]) -> pd.DataFrame:
    """What the detector finds in images of the test subjects, by subject; a row each."""
    model, fabric = read_model(detector.model, SegmenterDescription), make_fabric(context.device, "32")
    rows = pd.DataFrame([detector.row(subject, image, model, fabric) for subject, image in images.items()])
    rows = rows.assign(**{key: keys.get(key) for key in LesionPrevalence.keys if key != "subject"})
    return in_order(rows, LesionPrevalence.keys)


def _train_and_detect(
    context: Context, translator: TranslatorRun, detector: _Detector, percent: int, root: Path
) -> pd.DataFrame:
    """Train a translator, judge it, and look for lesions in its translations of the test subjects.

    Translations are named as their inputs lie below the cohort's folder, ``root``.
    """
    train_and_judge(context, translator)
    inputs = {subject: scan.image.relative_to(root) for subject, scan in detector.inputs.items()}
    images = {
        subject: context.folder / CONVERTED / image.with_name(f"{stem(image)}.nii.gz")
        for subject, image in inputs.items()
    }
    keys = {"translator": translator.name.rpartition(",")[0], "prevalence_percent": percent, "seed": translator.seed}
    return _detect(context, detector, images, keys)


def _measures(rows: pd.DataFrame) -> list[str]:
    """The columns whose slope says something: recall, false findings, and the labels that are kept or not."""
    dice = [str(column) for column in rows.columns if str(column).startswith("dice_")]
    return ["recall", "false", *dice, f"{LESION}_erased", f"{LESION}_invented"]


def _slopes(rows: pd.DataFrame) -> pd.DataFrame:
    """How each translator's figures change with the target's prevalence; seeds are averaged within a subject.

    Args:
        rows: The keys and the figures; those of real images have no prevalence.

    Returns:
        ``translator, measure``, for each prevalence the mean as ``at_<percent>``, and ``slope, lower, upper, n``: the
        change from no subject with lesions to all, over subjects that have the figure at each prevalence. Real images
        have one mean, as ``real``.
    """
    slopes = []
    real = rows[rows["translator"] == REAL].mean(numeric_only=True)
    own = rows[rows["translator"] != REAL]
    for translator in own["translator"].unique():
        of_translator = own[own["translator"] == translator]
        for measure in _measures(rows):
            values = of_translator.groupby(["subject", "prevalence_percent"])[measure].mean().unstack()
            line = slope(values.rename(columns=lambda percent: percent / 100))
            means = {f"at_{percent:g}": mean for percent, mean in values.dropna().mean().items()}
            known = {"slope": line.mean, "lower": line.lower, "upper": line.upper, "n": line.n}
            slopes.append({"translator": translator, "measure": measure, **means, REAL: real.get(measure), **known})
    return pd.DataFrame(slopes)


def _semantic_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """What semantic consistency changes at each prevalence, in the same subjects.

    Returns:
        ``prevalence_percent, measure, mean, lower, upper, n, p_value`` of the translator with it minus the one without;
        empty where one of them has no figures.
    """
    differences = []
    sides = [rows[rows["translator"] == translator] for translator in (WATCHED, PLAIN)]
    for percent in sides[0]["prevalence_percent"].dropna().unique():
        at = [side[side["prevalence_percent"] == percent].groupby("subject") for side in sides]
        for measure in _measures(rows):
            difference = paired_difference(*(subjects[measure].mean() for subjects in at))
            differences.append({"prevalence_percent": percent, "measure": measure} | difference)
    return pd.DataFrame(differences)


def _findings(table: pd.DataFrame, differences: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """In words, by name: whether headlines follow the prevalence, and what semantic consistency changes."""
    follows = {
        "unknown": "too few subjects to say",
        "not shown": "is not shown to follow the target's prevalence",
        "higher": "follows the target's prevalence",
        "lower": "follows the target's prevalence",
    }
    for row in table[table["measure"].isin(HEADLINES)].to_dict("records") if len(table) else ():
        yield f"{row['translator']} {row['measure']}", f"slope {_change(row, 'slope')}: {follows[verdict(row)]}"
    changed = differences[differences["measure"].isin(CHANGED)] if len(differences) else differences
    for row in changed.to_dict("records"):
        name = f"semantic consistency at {row['prevalence_percent']:g} percent {row['measure']}"
        yield name, f"{_change(row, 'mean')} with it"


def _change(row: Row, of: str) -> str:
    return interval_text(row[of], row["lower"], row["upper"], "+.2f", missing="+nan")


def _tables(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The table for people: every figure, whether it rises or not."""
    places = [column for column in table.columns if column.startswith("at_")]
    heads = [f"{place.removeprefix('at_')} %" for place in places]
    for measure in table["measure"].unique() if len(table) else ():
        lines = [
            (str(row["translator"]), *(f"{row[place]:.2f}" for place in (*places, REAL)), _change(row, "slope"))
            for row in table[table["measure"] == measure].to_dict("records")
        ]
        yield shown_table(str(measure), ["translator"], [*heads, REAL, "slope"], lines)
    yield Text(
        "slope: change from a target without lesions to one in which every subject has some, with Student's "
        f"{LEVEL:.0%} interval over subjects; real: the detector on their real target images."
    )


class _PrevalenceCohorts:
    """The subjects of a design on a pipeline's phantom, rendered once and kept below ``root``."""

    def __init__(self, design: PrevalenceDesign, kind: str) -> None:
        if kind not in ABDOMINAL:
            raise ConfigError(
                f"the phantom '{kind}' has no liver lesions to vary; the study is for pipelines with one of "
                f"{', '.join(ABDOMINAL)}."
            )
        digest = hashlib.sha256(design.model_dump_json().encode()).hexdigest()[:12]
        self.root = default_folder() / "phantom" / f"{kind}-{version('medgan')}-prevalence-{digest}"
        self.design, self.domains = design, KINDS[kind].domains
        # Name, subjects, share with lesions and seed, which is the same for every prevalence of the target.
        side = design.train + design.validation
        groups = [
            ("source", side, design.source_percent, design.seed),
            *((f"target_{percent}", side, percent, design.seed + 1) for percent in design.prevalences_percent),
            ("test", design.test, design.test_percent, design.seed + 2),
            ("labelled", design.labelled + design.labelled_validation, design.labelled_percent, design.seed + 3),
        ]
        for name, subjects, percent, seed in groups:
            folder, lesions = self.root / name, percent / 100
            if not (folder / PAIRED).exists():
                write_phantom(
                    folder, kind=kind, subjects=subjects, seed=seed, lesions=lesions, shape=design.shape_voxels
                )
        for percent, paired in product(design.prevalences_percent, (False, True)):
            table = pd.DataFrame(self._rows(percent, paired), columns=[*COLUMNS])
            write_text(self.table(percent, paired=paired), table.to_csv(index=False, lineterminator="\n"))

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

    def _rows(self, percent: int, paired: bool) -> Iterator[Sequence[str]]:
        """Of a cohort's table: who learns, from one scan each or from both, and who is tested."""
        design, both = self.design, self.domains
        learning = ["train"] * design.train + ["validation"] * design.validation
        groups = [
            *([] if paired else [("source", both[:1], learning)]),
            (f"target_{percent}", both if paired else both[1:], learning),
            ("test", both, ["test"] * design.test),
        ]
        for group, domains, parts in groups:
            studies = read_table(self.root / group / PAIRED).studies
            part = dict(zip(dict.fromkeys(study.subject for study in studies), parts, strict=True))
            for study in studies:
                if study.domain in domains:
                    files = [path.relative_to(self.root).as_posix() for path in (study.image, study.mask) if path]
                    yield [f"{group}-{study.subject}", study.domain, *files, part[study.subject]]
