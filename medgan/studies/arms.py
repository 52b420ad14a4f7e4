"""Segmenters trained with and without translated images, arm by arm: does translation help?"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from rich.console import Console, RenderableType
from rich.text import Text

from medgan import catalog
from medgan.config import Config, flattened, load, shipped, user_layers
from medgan.data.domains import DomainPair
from medgan.data.sidecars import without_augmented
from medgan.data.splits import Split
from medgan.data.studies import Data, find_cohort
from medgan.data.studies import Study as Scan
from medgan.errors import ConfigError, DataError, TrainingError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import LEVEL, compare_arms, plain
from medgan.phantom.cohort import PAIRED, UNPAIRED
from medgan.phantom.kinds import KINDS
from medgan.pipeline import PHANTOM_SEED
from medgan.report.benefit import Findings, write_report
from medgan.segmentation.labelled import labels_of
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.studies.base import Failure, Order, Stages, Study, Summary, Task, shipped_layers
from medgan.studies.engine import content_hash
from medgan.studies.images import Keeping, Making, make_images, scan_of
from medgan.studies.segmenter import (
    LABEL_MAPS,
    TRUTH,
    Scans,
    Segmenter,
    TestImage,
    best_ratio,
    budget_of,
    means,
    read_curves,
    score,
    share_of,
)
from medgan.studies.show import interval
from medgan.studies.show import table as shown_table
from medgan.studies.subjects import Guard, Subjects, check_labels, draw_subsets, freeze_split, study_split
from medgan.studies.translator import Cell, Translator, train_translator
from medgan.training.architecture import TranslationDescription
from medgan.training.device import make_fabric
from medgan.training.model_folder import CARD, Origin, read_description
from medgan.training.run_folder import split_of_model
from medgan.translators.pipeline import TranslationPipeline

ArmName = Literal[
    "real",
    "real+standard",
    "real+matched",
    "real+synthetic",
    "real+standard+synthetic",
    "synthetic-only",
    "oracle",
    "real+shuffled",
]
Kind = Literal["source", "target", "synthetic", "matched", "shuffled", "validation", "target_validation"]
"""Labelled images: real ones of either domain, translated ones, ones with the target's histogram, and translated ones
with the masks of other subjects; and what chooses the epoch."""
Images = Mapping[Kind, tuple[Scan, ...]]


@dataclass(frozen=True)
class Arm:
    """What one segmenter is trained on; everything else is the same in all arms."""

    name: ArmName
    images: Kind
    """What patches are drawn from."""
    extra: Kind | None
    """What the share of patches that the ratio gives is drawn from instead."""
    standard: bool
    """Whether patches are varied as segmenters usually are: affine, gamma, contrast, noise."""
    reference: ArmName | None
    """The arm that it is compared with; None for the first."""

    @property
    def kinds(self) -> set[Kind]:
        """Everything that it needs."""
        return {self.images, self.extra} if self.extra else {self.images}

    @property
    def translates(self) -> bool:
        """Whether it needs a translator."""
        return bool({"synthetic", "shuffled"} & self.kinds)


ARMS = (
    Arm("real", "source", None, standard=False, reference=None),
    Arm("real+standard", "source", None, standard=True, reference="real"),
    Arm("real+matched", "source", "matched", standard=False, reference="real"),
    Arm("real+synthetic", "source", "synthetic", standard=False, reference="real"),
    Arm("real+standard+synthetic", "source", "synthetic", standard=True, reference="real+standard"),
    Arm("synthetic-only", "synthetic", None, standard=False, reference="real"),
    Arm("oracle", "target", None, standard=True, reference="real+standard"),
    Arm("real+shuffled", "source", "shuffled", standard=False, reference="real"),
)
"""In the order of every table. A ceiling has all that a segmenter of the target could have, so the oracle is varied."""
BY_NAME = {arm.name: arm for arm in ARMS}
SWEPT: tuple[ArmName, ...] = ("real+standard+synthetic", "real+synthetic")
"""The arm whose validation chooses the ratio of all: the first of these that is asked for."""
FURTHER: tuple[tuple[ArmName, ArmName], ...] = (
    ("real+standard+synthetic", "real+matched"),
    ("real+standard+synthetic", "oracle"),
    ("real+synthetic", "real+shuffled"),
)
"""Comparisons beside each arm's own: does translation beat a histogram, what is missing to the ceiling, and is it the
images or only more of them."""
COMPARISONS, CURVES, IMAGES = "comparisons.csv", "curves.csv", "images.csv"
SETS = {"in": "in distribution", "out": "out of distribution"}
"""Test images of the domain whose labels were learnt from, and of the other."""
WORST = 6
"""Cases that are shown."""
QUICK_NOTE = "quick: fewer seeds, arms and iterations; the figures show that all of it runs and are no evidence"


class BenefitConfig(Config):
    """What is compared, and how long everything is trained."""

    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS)
    """The segmenters that are trained; an arm's reference should be among them."""
    subsets: PositiveInt = 1
    """Draws of training subjects, each trained with every seed."""
    labelled: PositiveInt | None = None
    """Training subjects in each subset; null is all of them."""
    retrain_translator: bool = False
    """Train a translator on each subset, and not one on all training subjects."""
    ratios_percent: tuple[NonNegativeInt, ...] = (0, 25, 50, 100, 200)
    """Extra images for a hundred real ones: validation chooses one of these for all arms. 0 is trained for comparison
    and never chosen."""
    keep_labels_above: float | None = Field(default=None, ge=0, le=1)
    """Translations whose label-keeping (the lowest Dice of an organ) is lower are not trained on, and counted;
    null keeps all."""
    source_segmenter: Path | None = None
    """Model folder of the frozen segmenter that finds the labels in source images, for ``keep_labels_above``."""
    target_segmenter: Path | None = None
    """That of one which finds them in translations; null takes the source's, which should have learnt on varied
    intensities."""
    lesions: tuple[str, ...] = ()
    """Labels whose connected parts are counted one by one: they get a lesion-wise F1."""
    phantom_subjects: PositiveInt = 60
    """How many subjects are rendered where no data is given; a sixth of them are tested."""
    translator: dict[str, Any] = Field(default_factory=dict)
    """Settings of the pipeline's translator, as ``translator.fit.epochs=12``."""
    segmenter: dict[str, Any] = Field(default_factory=dict)
    """Settings of the segmenter, as ``segmenter.labels={kidney: [7, 8]}``; without labels those of the cohort."""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if not any(self.ratios_percent):
            raise ValueError("ratios_percent needs a ratio above 0: one of them is what the arms are trained with")
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError("arms must name at least one arm, and each once")
        return self

    @property
    def ratios(self) -> tuple[int, ...]:
        """What can be chosen, rising."""
        return tuple(sorted({ratio for ratio in self.ratios_percent if ratio}))

    @property
    def comparisons(self) -> tuple[tuple[ArmName, ArmName], ...]:
        """Arm and reference, of those that are trained."""
        own = [(name, BY_NAME[name].reference) for name in self.arms]
        return tuple((arm, other) for arm, other in [*own, *FURTHER] if arm in self.arms and other in self.arms)


class Arms(Study):
    """One segmenter an arm, seed and subset of training subjects, tested on images of both domains."""

    heeds = ("data", "model", "quick")
    keys = ("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ")
    metrics = METRICS
    rows_file, result_file = "benefit.csv", "benefit.json"
    default_seeds = (0, 1, 2)

    def __init__(self, order: Order, console: Console) -> None:
        super().__init__(order, console)
        self.config = configured(order)
        self.model = order.models[0] if order.models else None
        on_cpu = make_fabric(order.device, "32").device.type == "cpu"
        self.translator: TranslationPipeline[Any] = catalog.load_translation(order.pipeline).configured(
            self.config.translator, on_phantom=self.phantom, on_cpu=on_cpu
        )
        self.pair: DomainPair = self.translator.pair
        self.subjects = self._subjects()
        check_labels(self.subjects, self.pair)
        self.subsets = draw_subsets(self.subjects, self.pair, count=self.config.subsets, labelled=self.config.labelled)
        self.left_out = self._lacking()
        self.arms = tuple(BY_NAME[name] for name in self.config.arms if name not in self.left_out)
        self.segmenter = self._segmenter_config()
        self.guard: Guard = self.subjects.guard
        self.guard.admit(self.subjects.learnt_from(), "the training")
        if self.model:
            if self.config.retrain_translator:
                raise ConfigError("retrain_translator trains a translator on each subset; leave --model out.")
            self.guard.check_model(_split_of_translator(self.model), self.model.parent)
        self._check_keepers()
        frozen = freeze_split(order.folder / "split.json", self.subjects.split, self.guard.tested)
        self.subjects = replace(self.subjects, split=frozen)
        self.ratio_percent = self.config.ratios[0]
        self.swept: ArmName | None = None
        self.val_dice: dict[int, float] = {}
        self.rejected: tuple[int, int] = (0, 0)
        self.tested: dict[str, Segmenter] = {}

    @classmethod
    def default_name(cls, order: Order) -> str:
        """As the command's short name."""
        return "benefit-quick" if order.quick else "benefit"

    def _subjects(self) -> Subjects:
        """The study's cohorts and their split.

        A phantom subject has both scans with labels; a translator that learns without pairs gets one scan of each.
        """
        if self.order.data is None:
            shape = KINDS[self.translator.phantom].shape
            folder = self.translator.rendered(self.config.phantom_subjects, PHANTOM_SEED, shape)
            table: Data = folder / PAIRED
            other: Data = table if self.pair.paired else folder / UNPAIRED
        else:
            table = other = self.order.data
        labelled, translated = (find_cohort(each, self.pair) for each in (table, other))
        if augmented := without_augmented(labelled)[1]:
            raise DataError(
                f"{table}: {augmented} of {len(labelled.studies)} images are synthetic cases of `medgan augment`, "
                "which a benefit study would count as real; give the cohort of real cases."
            )
        frozen = _split_of_translator(self.model) if self.model else None
        split = study_split(labelled, self.pair, self.translator.config.split, frozen)
        return Subjects(labelled, table, translated, other, split)

    def _lacking(self) -> dict[ArmName, str]:
        """Arms that this cohort has no images for, and why."""
        source, target = self.pair.names
        with_target, with_source = (
            {scan.subject for scan in self.subjects.with_labels("train", name)} for name in (target, source)
        )
        lacking: dict[ArmName, str] = {}
        if not self.subjects.with_labels("validation", target) or not all(
            with_target & set(own) for own in self.subsets
        ):
            lacking["oracle"] = f"no labelled {target} image to train or validate on"
        if not all(len(with_source & set(own)) > 1 for own in self.subsets):
            lacking["real+shuffled"] = "one labelled training subject: there is no other's mask"
        return {name: reason for name, reason in lacking.items() if name in self.config.arms}

    def _segmenter_config(self) -> SegmenterConfig:
        """The segmenter's settings; what is not said of labels is read from the cohort."""
        settings = dict(self.config.segmenter)
        if "labels" not in settings:
            settings["labels"] = labels_of(self.subjects.labelled)
        if "domain" not in settings and not self.pair.one_unit:
            settings["domain"] = self.pair.target.model_dump(mode="json")
        config = load(SegmenterConfig, settings)
        if unknown := [name for name in self.config.lesions if name not in config.labels]:
            raise ConfigError(f"lesions names {', '.join(unknown)}, and the labels are {', '.join(config.labels)}.")
        return config

    def _check_keepers(self) -> None:
        """Refuse segmenters that cannot say whether translations keep their labels.

        Raises:
            ConfigError: A threshold without a segmenter, or a segmenter without a threshold.
            LeakageError: A segmenter that has seen a test subject.
            ModelError: A folder that holds no segmenter, or two that find different labels.
        """
        config = self.config
        if (config.keep_labels_above is None) != (config.source_segmenter is None):
            raise ConfigError(
                "keep_labels_above and source_segmenter go together: the threshold, and the model folder of a "
                "segmenter (`medgan segment-train`) that finds the labels in images and in their translations."
            )
        for folder in filter(None, (config.source_segmenter, config.target_segmenter)):
            split = _frozen_split(folder, read_description(folder, SegmenterDescription).origin.split_hash)
            self.guard.check_model(split, folder.parent, "segmenter")
        self.keeping.keeper(self.order.device)

    @property
    def keeping(self) -> Keeping:
        """By what translations are judged."""
        own = self.config
        return Keeping(own.keep_labels_above, own.source_segmenter, own.target_segmenter, own.lesions)

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``Study``."""
        split = self.subjects.split
        return {
            "pipeline": self.order.pipeline,
            "kind": self.order.kind,
            "phantom": self.phantom,
            "quick": self.order.quick,
            "command": self.order.command,
            "seeds": list(self.seeds),
            "subsets": len(self.subsets),
            "budget": budget_of(self.segmenter),
            "split_hash": split.hash,
            "subjects": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
            "labelled": [len(self._labelled(subset, self.pair.source.name)) for subset in range(len(self.subsets))],
            "arms": [arm.name for arm in self.arms],
            "left_out": self.left_out,
            "organs": {organ: number for number, organ in enumerate(self.segmenter.labels, start=1)},
            "settings": self.config.model_dump(mode="json"),
            "segmenter": self.segmenter.model_dump(mode="json"),
        }

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See ``Study``."""
        arms = [arm.name for arm in self.arms]
        return {"arms": arms, "seeds": list(self.seeds), "subsets": len(self.subsets)}

    @property
    def tags(self) -> Mapping[str, str]:
        """See ``Study``."""
        fingerprint = self.subjects.labelled.fingerprint()
        return {"split_hash": self.subjects.split.hash, "data_fingerprint": fingerprint}

    def notes(self) -> Sequence[str]:
        """See ``Study``."""
        budget = budget_of(self.segmenter)
        return [
            *super().notes(),
            *([QUICK_NOTE] if self.order.quick else []),
            *(f"left out: {arm}: {reason}" for arm, reason in self.left_out.items()),
            f"{self.order.folder}: {len(self.arms)} arms x {len(self.seeds)} seeds x {len(self.subsets)} subsets, "
            f"{budget['iterations']} iterations of {budget['batch_size']} patches each; "
            f"{len(self._labelled(0, self.pair.source.name))} labelled {self.pair.source.name} images, "
            f"{len(self.subjects.split.test)} test subjects",
        ]

    def stages(self) -> Stages:
        """Translators, the images that arms learn from, the ratio that validation chooses, and all segmenters."""
        subsets = range(len(self.subsets))
        groups = [(subset,) for subset in subsets] if self.config.retrain_translator else [tuple(subsets)]
        models: list[Path | None] = [self.model] * len(groups)
        if any(arm.translates for arm in self.arms) and not self.model:
            tasks = [self._translator_task(group) for group in groups]
            _refuse_failed((yield tasks))
            folders = [self.order.folder / task.name for task in tasks]
            for folder in folders:
                self.guard.check_model(Split.load(folder / "split.json"), folder)
            models = [folder / "model" for folder in folders]
        tasks = [self._images_task(group, model) for group, model in zip(groups, models, strict=True)]
        _refuse_failed((yield tasks))
        paths = [self.order.folder / task.name / IMAGES for task in tasks]
        table = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths])
        synthetic = table[table["kind"] == "synthetic"]
        self.rejected = int((synthetic["rejected"] != "").sum()), len(synthetic)
        for name, reason in dict(zip(synthetic["image"], synthetic["rejected"], strict=True)).items():
            if reason:
                self.console.out(f"left out: the translation of {Path(name).name}: {reason}", highlight=False)
        images = [self._images(subset, table[table["subset"] == str(subset)]) for subset in subsets]
        if tried := self._tried(images[0]):
            failures = yield [task for _, task in sorted(tried.items())]
            self._choose({ratio: score(self.order.folder / task.name) for ratio, task in tried.items()}, failures)
        # Seed by seed, so that a study that is stopped early has compared all arms.
        yield [
            self._task(arm, seed, subset, self.ratio_percent, own)
            for seed in self.seeds
            for subset, own in enumerate(images)
            for arm in self.arms
        ]

    def _labelled(self, subset: int, domain: str) -> tuple[Scan, ...]:
        """The labelled training images of a subset in one domain."""
        own = set(self.subsets[subset])
        return tuple(scan for scan in self.subjects.with_labels("train", domain) if scan.subject in own)

    def _translator_task(self, subsets: Sequence[int]) -> Task:
        """The training of a translator, on a subset of the training subjects or on all of them."""
        retrain = self.config.retrain_translator
        name = f"translator,subset={subsets[0]}" if retrain else "translator"
        split = self.subjects.translator_split(self.subsets[subsets[0]] if retrain else self.subjects.split.train)
        path = self.order.folder / f"{name}.split.json"
        split.save(path)
        settings = tuple(f"{key}={json.dumps(value)}" for key, value in flattened(self.config.translator).items())
        translator = Translator(
            Cell(name), None, replace(self.order, config=None), settings, self.subjects.translator_table, path,
            split.hash, self.phantom, self.pair,
        )  # fmt: skip
        inputs = {**self.translator.config.model_dump(mode="json"), "split_hash": split.hash}
        return Task(name, inputs, train_translator, (translator,), product=f"model/{CARD}")

    def _images_task(self, subsets: Sequence[int], model: Path | None) -> Task:
        """Everything that has to be made for the arms of some subsets."""
        source, target = self.pair.names
        labelled = {subset: self._labelled(subset, source) for subset in subsets}
        validation = self.subjects.with_labels("validation", source)
        targets = self.subjects.translated.of_domain(target)
        seen = {
            subset: set(self.subsets[subset] if self.config.retrain_translator else self.subjects.split.train)
            for subset in subsets
        }
        references = {
            subset: tuple(scan for scan in targets.studies if scan.subject in seen[subset]) for subset in subsets
        }
        kinds = {kind for arm in self.arms for kind in arm.kinds}
        name = f"images,subset={subsets[0]}" if self.config.retrain_translator else "images"
        scans = (*validation, *(scan for own in (*labelled.values(), *references.values()) for scan in own))
        making = Making(self.subjects.table, self.pair, self.keeping, kinds, model, labelled, validation, references)
        inputs = {
            "split_hash": self.subjects.split.hash,
            "images": content_hash(dict.fromkeys(scans)),
            "kinds": sorted(kinds),
            "translator": read_description(model, TranslationDescription).weights_sha256 if model else None,
            "keep_labels_above": self.config.keep_labels_above,
        }
        return Task(name, inputs, make_images, (making,), product=IMAGES, scans=tuple(dict.fromkeys(scans)))

    def _images(self, subset: int, table: pd.DataFrame) -> Images:
        """All labelled images of a subset, by kind; ``validation`` ones choose the epoch, of the oracle the target's.

        Raises:
            DataError: No translation keeps its labels.
        """
        source, target = self.pair.names
        images: dict[Kind, tuple[Scan, ...]] = {
            "source": self._labelled(subset, source),
            "target": self._labelled(subset, target),
            "target_validation": self.subjects.with_labels("validation", target),
        }
        rows = table[table["rejected"] == ""].to_dict("records")
        for kind in ("synthetic", "shuffled", "matched"):
            images[kind] = tuple(scan_of(row) for row in rows if row["kind"] == kind)
        # No target label chooses anything.
        translations = tuple(scan_of(row) for row in rows if row["kind"] == "validation")
        images["validation"] = (*self.subjects.with_labels("validation", source), *translations)
        if (table["kind"] == "synthetic").any() and not images["synthetic"]:
            reasons = "; ".join(table.loc[table["kind"] == "synthetic", "rejected"])
            raise DataError(
                f"no translation keeps its labels, so there is nothing to train on ({reasons}). Train a better "
                "translator, or ask for less."
            )
        return images

    def _task(self, arm: Arm, seed: int, subset: int, ratio: int, images: Images, *, test: bool = True) -> Task:
        """The training of one segmenter, and its test."""
        ratio = ratio if arm.extra else 0
        name = ",".join([arm.name, *([f"ratio={ratio}"] if ratio else []), f"seed={seed}", f"subset={subset}"])
        augmentation = "standard" if arm.standard else "none"
        validation = images["target_validation" if arm.images == "target" else "validation"]
        extra = images[arm.extra] if arm.extra else ()
        domains = {} if self.pair.one_unit else {domain.name: domain for domain in (self.pair.source, self.pair.target)}
        segmenter = Segmenter(
            {"arm": arm.name, "seed": seed, "subset": subset, "ratio_percent": ratio},
            self.segmenter.model_copy(update={"augmentation": augmentation}),
            seed,
            Scans(images[arm.images], domains),
            Scans(validation, domains),
            Origin.of(self.subjects.split, phantom=self.phantom),
            Scans(extra, domains) if extra else None,
            share_of(ratio) if arm.extra else 0.0,
            tuple(self._test_images()),
            self.config.lesions,
        )
        parts = {"train": images[arm.images], "extra": extra, "validation": validation}
        hashes = {part: content_hash(scans) for part, scans in parts.items()}
        inputs = {"split_hash": self.subjects.split.hash, "images": hashes}
        task = segmenter.task(name, inputs, scans=[scan for part in parts.values() for scan in part], test=test)
        if test:
            self.tested[name] = segmenter
        return task

    def _test_images(self) -> Iterator[TestImage]:
        """The labelled images of the test subjects, each in its test set."""
        for test_set, domain in zip(SETS, (self.pair.source, self.pair.target), strict=True):
            for number, scan in enumerate(self.subjects.with_labels("test", domain.name)):
                own = None if self.pair.one_unit else domain
                yield TestImage(scan, {"test_set": test_set}, own, f"{domain.name}_{number:04d}.nii.gz")

    def _tried(self, images: Images) -> dict[int, Task]:
        """The trainings of one seed by ratio, to choose from; nothing where there is nothing to choose."""
        trained = {arm.name for arm in self.arms}
        extra = [arm.name for arm in self.arms if arm.extra]
        swept = next((BY_NAME[name] for name in (*SWEPT, *extra) if name in trained), None)
        if len(self.config.ratios_percent) < 2 or swept is None:
            return {}
        arms = dict.fromkeys(self.config.ratios, swept)
        if 0 in self.config.ratios_percent and swept.reference in trained:
            arms[0] = BY_NAME[swept.reference]
        self.swept = swept.name
        listed = ", ".join(f"{ratio} %" for ratio in sorted(arms))
        self.console.out(f"ratio of extra to real images: trying {listed} with {swept.name}", highlight=False)
        return {ratio: self._task(arm, self.seeds[0], 0, ratio, images, test=False) for ratio, arm in arms.items()}

    def _choose(self, scores: Mapping[int, float | None], failures: Sequence[Failure]) -> None:
        """Take the ratio above 0 with the best validation Dice; no test subject is touched."""
        self.val_dice = {ratio: dice for ratio, dice in sorted(scores.items()) if dice is not None}
        if not any(self.val_dice):
            reasons = "; ".join(f"{failure.child}: {failure.reason}" for failure in failures)
            raise TrainingError(f"no ratio could be trained: {reasons}")
        self.ratio_percent = best_ratio(self.val_dice)
        listed = ", ".join(f"{ratio} % {dice:.4f}" for ratio, dice in self.val_dice.items())
        self.console.out(f"ratio: {self.ratio_percent} %, by validation Dice ({listed})", highlight=False)

    def summary(self, rows: pd.DataFrame) -> Summary:
        """See ``Study``."""
        by_arm = means(rows, ["arm", "test_set", "organ"])
        comparisons = compare_arms(rows, self.config.comparisons, METRICS)
        curves = read_curves(
            {self.order.folder / name: segmenter.keys for name, segmenter in self.tested.items()},
            ("arm", "seed", "subset"),
        )
        record = {
            "ratio_percent": self.ratio_percent,
            "sweep": {"arm": self.swept, "val_dice": {str(ratio): dice for ratio, dice in self.val_dice.items()}},
            "means": plain(by_arm),
            "comparisons": plain(comparisons),
            "rejected": {arm.name: list(self.rejected) for arm in self.arms if arm.translates},
            "learning_curves": CURVES,
            "worst": list(self._worst(rows)),
        }
        shown = (
            [] if rows.empty else list(_tables(by_arm, comparisons, [arm.name for arm in self.arms], self.pair.names))
        )
        note = [Text(QUICK_NOTE, style="yellow")] if self.order.quick else []
        return Summary(
            record,
            {COMPARISONS: comparisons, CURVES: curves},
            [*shown, *note],
            comparisons=comparisons,
            metrics=_gains(comparisons),
            # What names subjects stays on this disk.
            artifacts=[CURVES, COMPARISONS],
            tags={"ratio_percent": str(self.ratio_percent)},
        )

    def write_page(self, rows: pd.DataFrame, summary: Summary, failures: Sequence[Failure]) -> Path:
        """The answer with its controls, forests by organ, curves and worst cases: ``benefit.html``."""
        record = {**self.description, **summary.record, "failures": [asdict(failure) for failure in failures]}
        return write_report(Findings(self.order.folder, record, rows, summary.comparisons, summary.tables[CURVES]))

    def _worst(self, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """The lowest Dice of the arm that has all of translation, with the files to look at, relative to the study."""
        if rows.empty:
            return
        known = list(dict.fromkeys(rows["arm"]))
        arm = next((name for name in SWEPT if name in known), known[-1])
        first = rows[rows["arm"] == arm].iloc[0]
        own = rows[(rows["arm"] == arm) & (rows["seed"] == first["seed"]) & (rows["subset"] == first["subset"])]
        name = next(
            name
            for name, segmenter in self.tested.items()
            if all(first[key] == value for key, value in segmenter.keys.items())
        )
        numbers = {organ: number for number, organ in enumerate(self.segmenter.labels, start=1)}
        for row in own.sort_values("dice", kind="stable").head(WORST).to_dict("records"):
            for image in self._test_images():
                if (image.scan.subject, image.keys["test_set"]) == (row["subject"], row["test_set"]):
                    yield {
                        **{key: row[key] for key in ("arm", "seed", "subject", "test_set", "organ")},
                        "value": numbers[row["organ"]],
                        "dice": row["dice"],
                        "image": _relative(image.scan.image, self.order.folder),
                        "truth": f"{name}/{TRUTH}/{image.file}",
                        "label_map": f"{name}/{LABEL_MAPS}/{image.file}",
                    }


def configured(order: Order) -> BenefitConfig:
    """The settings: defaults, shipped files, then the user's; a later one wins.

    Raises:
        ConfigError: Settings that cannot be, or that are asked for and not shipped for this pipeline.
    """
    on_phantom = order.data is None
    shorter = "ratios_percent=[100] translator.fit.epochs=5 segmenter.fit.epochs=5"
    files = shipped_layers(order.pipeline, on_phantom=on_phantom, quick=order.quick, shorter=shorter)
    config = load(BenefitConfig, *files, *user_layers(order.config, order.overrides))
    if on_phantom and not shipped(f"{order.pipeline}_benefit_phantom") and "labels" not in config.segmenter:
        raise ConfigError(
            f"no settings are shipped for a study of '{order.pipeline}' on the built-in phantom, whose every tissue "
            "has its own label; give a cohort with masks by --data, or say what is segmented, as segmenter.labels="
            "{NAME: [N]} (`medgan data phantom` lists the numbers in labels.json)."
        )
    return config


def _refuse_failed(failures: Sequence[Failure]) -> None:
    """End a study of which what all arms need could not be made.

    Raises:
        TrainingError: Says why.
    """
    if failures:
        raise TrainingError("; ".join(f"{failure.child}: {failure.reason}" for failure in failures))


def _split_of_translator(model: Path) -> Split:
    return _frozen_split(model, read_description(model, TranslationDescription).origin.split_hash)


def _frozen_split(model: Path, split_hash: str) -> Split:
    """The frozen split that a model was trained on; see :func:`medgan.training.run_folder.split_of_model`."""
    return split_of_model(model, split_hash, otherwise="let the study train a translator")


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _gains(comparisons: pd.DataFrame) -> dict[str, float]:
    """What translation adds to Dice, by tracking key: ``gain/out/kidney_dice``, of the arm that has all of it."""
    arm = BY_NAME[SWEPT[0]]
    own = comparisons[(comparisons["arm"] == arm.name) & (comparisons["reference"] == arm.reference)]
    own = own[own["metric"] == "dice"]
    keys = "gain/" + own["test_set"] + "/" + own["organ"] + "_dice"
    return dict(zip(keys, own["mean"], strict=True))


def _tables(
    by_arm: pd.DataFrame, comparisons: pd.DataFrame, arms: Sequence[ArmName], pair: tuple[str, str]
) -> Iterator[RenderableType]:
    """For each organ the arms, and then their differences, both test sets apart; the files hold all metrics."""
    for organ in dict.fromkeys(by_arm["organ"]):
        own, differences = (
            table[(table["metric"] == "dice") & (table["organ"] == organ)] for table in (by_arm, comparisons)
        )
        known = {(row["arm"], row["test_set"]): row for row in own.to_dict("records")}
        lines = [[arm, *(interval(known.get((arm, where))) for where in SETS)] for arm in arms]
        yield shown_table(f"Dice of {organ}", ["arm"], [*SETS.values()], lines)
        rows = {(row["arm"], row["reference"], row["test_set"]): row for row in differences.to_dict("records")}
        lines = []
        for arm, other in dict.fromkeys(zip(differences["arm"], differences["reference"], strict=True)):
            values = [interval(rows.get((arm, other, where)), sign="+") for where in SETS]
            out = rows.get((arm, other, "out"))
            lines.append([arm, other, *values, f"{out['p_holm']:.2g}" if out else ""])
        yield shown_table(f"Difference in Dice of {organ}", ["arm", "less"], [*SETS.values(), "p (Holm)"], lines)
    yield Text(
        f"Test subjects: {pair[0]} in distribution, {pair[1]} out of it. Seeds and subsets are averaged within each "
        f"subject, then {LEVEL:.0%} intervals over subjects; differences are paired by subject; p of Wilcoxon's test "
        "out of distribution, corrected over the lines (Holm)."
    )
