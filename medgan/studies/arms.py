"""Segmenters trained with and without translated images, arm by arm: does translation help?"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator
from rich.console import Console, RenderableType
from rich.text import Text

from medgan import catalog
from medgan.config import flattened
from medgan.data.splits import Split
from medgan.data.studies import Data, Study, find_cohort, without_augmented
from medgan.errors import ConfigError, DataError, TrainingError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import LEVEL, compare_arms, plain
from medgan.inference.translate import STRONGEST
from medgan.phantom.cohort import PAIRED, UNPAIRED
from medgan.report.benefit import Findings, write_report
from medgan.segmentation.labelled import labels_of
from medgan.segmentation.settings import SegmenterDescription
from medgan.studies.base import Stages, StudyOrder, StudySummary, Task, TaskFailure
from medgan.studies.engine import content_hash
from medgan.studies.images import ImageRecipe, LabelRule, make_images, together
from medgan.studies.segmenter import CURVES, Arm, ArmsConfig, BenefitStudy, CaseReader, TestImage, layered, means
from medgan.studies.subjects import Subjects, check_labels, draw_subsets, study_split
from medgan.studies.tables import crossed, interval
from medgan.studies.tables import table as shown_table
from medgan.studies.translator import TranslatorRun, train_translator
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import CARD, read_description
from medgan.training.run_folder import split_of_model
from medgan.translators.pipeline import TranslationPipeline

ArmName = Literal[
    "real", "real+standard", "real+matched", "real+synthetic", "real+standard+synthetic", "real+standard+strengths",
    "real+matched+synthetic", "synthetic-only", "oracle", "real+shuffled",
]  # fmt: skip
ON_REQUEST = "real+standard+strengths", "real+matched+synthetic"
"""Arms that are only trained where settings name them."""
Images = Mapping[str, tuple[Study, ...]]
"""Labelled images by kind: ``source`` and ``target`` are real, ``synthetic`` translated, ``strengths`` translated in
part, ``matched`` have the target's histogram, ``matched+synthetic`` are both, ``shuffled`` are translated with the
masks of other subjects; ``validation`` and ``target_validation`` choose the epoch."""

ARMS = (
    Arm("real", None, standard=False, reference=None),
    Arm("real+standard", None, standard=True, reference="real"),
    Arm("real+matched", "matched", standard=False, reference="real"),
    Arm("real+synthetic", "synthetic", standard=False, reference="real"),
    Arm("real+standard+synthetic", "synthetic", standard=True, reference="real+standard"),
    Arm("real+standard+strengths", "strengths", standard=True, reference="real+standard"),
    Arm("real+matched+synthetic", "matched+synthetic", standard=False, reference="real+matched"),
    Arm("synthetic-only", None, standard=False, reference="real", images="synthetic"),
    Arm("oracle", None, standard=True, reference="real+standard", images="target"),
    Arm("real+shuffled", "shuffled", standard=False, reference="real"),
)
"""In the order of every table. A ceiling has all that a segmenter of the target could have, so the oracle is varied."""
BY_NAME = {arm.name: arm for arm in ARMS}
SWEPT = ("real+standard+synthetic", "real+synthetic")
"""The arm whose validation chooses the ratio of all: the first of these that is asked for."""
FURTHER = (
    ("real+standard+synthetic", "real+matched"),
    ("real+standard+synthetic", "oracle"),
    ("real+synthetic", "real+shuffled"),
    ("real+standard+strengths", "real+standard+synthetic"),
    ("real+standard+strengths", "real+matched"),
    ("real+matched+synthetic", "real+standard+synthetic"),
)
"""Does translation beat a histogram, what is missing to the ceiling, is it the images or only more of them, do all
strengths help more than one, and do a histogram and translation add up."""
IMAGES = "images.csv"
SETS = {"in": "in distribution", "out": "out of distribution"}
"""Test images of the domain whose labels were learnt from, and of the other."""
WORST = 6
"""Cases that are shown."""


class BenefitConfig(ArmsConfig):
    """What is compared, and how long everything is trained."""

    known, further = BY_NAME, FURTHER
    shorter = "ratios_percent=[100] translator.fit.epochs=5 segmenter.fit.epochs=5"
    arms: tuple[ArmName, ...] = tuple(name for name in get_args(ArmName) if name not in ON_REQUEST)
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
    strengths: tuple[float, float] = (0.0, STRONGEST)
    """Of ``real+standard+strengths``: between which the strength of each translated copy is drawn."""
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

    @field_validator("strengths")
    @classmethod
    def _rising(cls, strengths: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= strengths[0] <= strengths[1] <= STRONGEST:
            raise ValueError(f"give two of 0 to {STRONGEST:g}, the lower first")
        return strengths


class Arms(BenefitStudy):
    """One segmenter an arm, seed and subset of training subjects, tested on images of both domains."""

    heeds = ("data", "model", "quick")
    keys = ("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ")
    rows_file, result_file = "benefit.csv", "benefit.json"
    recorded, told_apart = ("arms", "seeds", "subsets"), ("arm", "seed", "subset")
    config: BenefitConfig
    arms: tuple[Arm, ...]

    def __init__(self, order: StudyOrder, console: Console) -> None:
        super().__init__(order, console)
        self.config = layered(BenefitConfig, order)
        self.model = order.models[0] if order.models else None
        self.translator: TranslationPipeline[Any] = catalog.load_translation(order.pipeline).configured(
            self.config.translator, on_phantom=self.phantom, on_cpu=order.on_cpu
        )
        self.pair = self.translator.pair
        self.subjects = self._subjects()
        check_labels(self.subjects, self.pair)
        self.cohort, split = self.subjects.labelled, self.subjects.split
        self.subsets = draw_subsets(self.subjects, self.pair, count=self.config.subsets, labelled=self.config.labelled)
        self.left_out = self._lacking()
        self.arms = tuple(BY_NAME[name] for name in self.config.arms if name not in self.left_out)
        otherwise: dict[str, Any] = {}
        if "labels" not in self.config.segmenter:
            otherwise["labels"] = labels_of(self.cohort)
        if not self.pair.one_unit:
            otherwise["domain"] = self.pair.target.model_dump(mode="json")
        self.segmenter = self.segmenter_config(self.config.lesions, **otherwise)
        self.guard = self.subjects.guard
        self.guard.admit(self.subjects.learnt_from(), "the training")
        if self.model:
            if self.config.retrain_translator:
                raise ConfigError("retrain_translator trains a translator on each subset; leave --model out.")
            self.guard.check_model(_split_of(self.model, TranslationDescription), self.model.parent)
        self._check_keepers()
        self._check_strengths()
        self.freeze(split)
        self.subjects = replace(self.subjects, split=self.split)
        self.ratio_percent = self.config.ratios[0]
        self.swept: str | None = None
        self.val_dice: dict[int, float] = {}
        self.rejected: tuple[int, int] = (0, 0)
        self.tested = {}

    @classmethod
    def default_name(cls, order: StudyOrder) -> str:
        """As the command's short name."""
        return "benefit-quick" if order.quick else "benefit"

    def _subjects(self) -> Subjects:
        """The study's cohorts and their split.

        A phantom subject has both scans with labels; a translator that learns without pairs gets one scan of each.
        """
        if self.order.data is None:
            folder = self.rendered(self.translator)
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
        frozen = _split_of(self.model, TranslationDescription) if self.model else None
        split = study_split(labelled, self.pair, self.translator.config.split, frozen)
        return Subjects(labelled, table, translated, other, split)

    def _lacking(self) -> dict[str, str]:
        """Arms that this cohort has no images for, and why."""
        lacking, (source, target) = {}, self.pair.names
        of_source, of_target = (
            [{scan.subject for scan in self._labelled(subset, name)} for subset in range(len(self.subsets))]
            for name in (source, target)
        )
        if not self.subjects.with_labels("validation", target) or not all(of_target):
            lacking["oracle"] = f"no labelled {target} image to train or validate on"
        if any(len(subjects) < 2 for subjects in of_source):
            lacking["real+shuffled"] = "one labelled training subject: there is no other's mask"
        return {name: reason for name, reason in lacking.items() if name in self.config.arms}

    def _check_keepers(self) -> None:
        """Refuse segmenters that cannot say whether translations keep their labels, or have seen a test subject."""
        config = self.config
        if (config.keep_labels_above is None) != (config.source_segmenter is None):
            raise ConfigError(
                "keep_labels_above and source_segmenter go together: the threshold, and the model folder of a "
                "segmenter (`medgan segment-train`) that finds the labels in images and in their translations."
            )
        for folder in filter(None, (config.source_segmenter, config.target_segmenter)):
            self.guard.check_model(_split_of(folder, SegmenterDescription), folder.parent, "segmenter")
        self.label_rule.keeper(self.order.device)

    def _check_strengths(self) -> None:
        """Refuse an arm of strengths where the translator predicts no amount."""
        if not any("strengths" in arm.kinds for arm in self.arms):
            return
        known = read_description(self.model, TranslationDescription) if self.model else self.translator.config
        if known.generator.change != "one-sided":
            raise ConfigError(
                "real+standard+strengths takes shares of a one-sided change, and the translator's generator.change is "
                f"{known.generator.change}; leave the arm out, or set translator.generator.change=one-sided."
            )

    @property
    def label_rule(self) -> LabelRule:
        """By what translations are judged."""
        own = self.config
        return LabelRule(own.keep_labels_above, own.source_segmenter, own.target_segmenter, own.lesions)

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        labelled = [len(self._labelled(subset, self.pair.source.name)) for subset in range(len(self.subsets))]
        return self.described(
            {"command": self.order.command, "seeds": list(self.seeds), "subsets": len(self.subsets)},
            {"labelled": labelled, "arms": [arm.name for arm in self.arms], "left_out": self.left_out},
        )

    def notes(self) -> Sequence[str]:
        """See ``StudyKind``."""
        budget, source = self.description["budget"], self.pair.source.name
        return [
            *super().notes(),
            *(f"left out: {arm}: {reason}" for arm, reason in self.left_out.items()),
            f"{self.order.folder}: {len(self.arms)} arms x {len(self.seeds)} seeds x {len(self.subsets)} subsets, "
            f"{budget['iterations']} iterations of {budget['batch_size']} patches each; "
            f"{len(self._labelled(0, source))} labelled {source} images, {len(self.split.test)} test subjects",
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
        rejected = synthetic[synthetic["rejected"] != ""]
        self.rejected = len(rejected), len(synthetic)
        for name, reason in dict(zip(rejected["image"], rejected["rejected"], strict=True)).items():
            self.console.out(f"left out: the translation of {Path(name).name}: {reason}", highlight=False)
        images = [self._images(subset, table[table["subset"] == str(subset)]) for subset in subsets]
        yield from self._choose_ratio(images[0])
        # Seed by seed, so that a study that is stopped early has compared all arms.
        yield [
            self._task(arm, seed, subset, self.ratio_percent, own)
            for seed in self.seeds
            for subset, own in enumerate(images)
            for arm in self.arms
        ]

    def _labelled(self, subset: int, domain: str) -> tuple[Study, ...]:
        """The labelled training images of a subset in one domain."""
        own = set(self.subsets[subset])
        return tuple(scan for scan in self.subjects.with_labels("train", domain) if scan.subject in own)

    def _translator_task(self, subsets: Sequence[int]) -> Task:
        """The training of a translator, on a subset of the training subjects or on all of them."""
        name, subjects = self._scope("translator", subsets[0])
        split = self.subjects.translator_split(subjects)
        path = self.order.folder / f"{name}.split.json"
        split.save(path)
        settings = tuple(f"{key}={json.dumps(value)}" for key, value in flattened(self.config.translator).items())
        order, table = replace(self.order, config=None), self.subjects.translator_table
        translator = TranslatorRun(name, settings, None, order, table, path, split.hash, self.pair)
        inputs = {**self.translator.config.model_dump(mode="json"), "split_hash": split.hash}
        return Task(name, inputs, train_translator, (translator,), product=f"model/{CARD}")

    def _scope(self, name: str, subset: int) -> tuple[str, Sequence[str]]:
        """The name of a task for a subset, or for all of them, and the training subjects that its translator sees."""
        if self.config.retrain_translator:
            return f"{name},subset={subset}", self.subsets[subset]
        return name, self.subjects.split.train

    def _images_task(self, subsets: Sequence[int], model: Path | None) -> Task:
        """Everything that has to be made for the arms of some subsets."""
        source, target = self.pair.names
        labelled = {subset: self._labelled(subset, source) for subset in subsets}
        validation = self.subjects.with_labels("validation", source)
        references = {
            subset: self.subjects.translated.of_domain(target).of_subjects(self._scope("", subset)[1]).studies
            for subset in subsets
        }
        kinds = {kind for arm in self.arms for kind in arm.kinds}
        scans = dict.fromkeys(
            [*validation, *(scan for own in (*labelled.values(), *references.values()) for scan in own)]
        )
        recipe = ImageRecipe(
            self.subjects.table, self.pair, self.label_rule, kinds, self.config.strengths, model, labelled, validation,
            references,
        )  # fmt: skip
        inputs = {
            "split_hash": self.subjects.split.hash,
            "images": content_hash(scans),
            "kinds": sorted(kinds),
            "translator": read_description(model, TranslationDescription).weights_sha256 if model else None,
            "keep_labels_above": self.config.keep_labels_above,
        } | ({"strengths": list(self.config.strengths)} if "strengths" in kinds else {})
        name, _ = self._scope("images", subsets[0])
        return Task(name, inputs, make_images, (recipe,), product=IMAGES, scans=tuple(scans))

    def _images(self, subset: int, table: pd.DataFrame) -> Images:
        """All labelled images of a subset by kind; ``validation`` ones choose the epoch, of the oracle the target's."""
        source, target = self.pair.names
        usable = table[table["rejected"] == ""]
        images = {
            kind: tuple(
                Study(row["subject"], row["domain"], Path(row["image"]), Path(row["mask"]))
                for row in usable[usable["kind"] == kind].to_dict("records")
            )
            for kind in ("synthetic", "strengths", "shuffled", "matched", "validation")
        }
        if (table["kind"] == "synthetic").any() and not images["synthetic"]:
            reasons = "; ".join(table.loc[table["kind"] == "synthetic", "rejected"])
            raise DataError(
                f"no translation keeps its labels, so there is nothing to train on ({reasons}). Train a better "
                "translator, or ask for less."
            )
        return {
            **images,
            "matched+synthetic": together(images["matched"], images["synthetic"]),
            "source": self._labelled(subset, source),
            "target": self._labelled(subset, target),
            # No target label chooses anything.
            "validation": (*self.subjects.with_labels("validation", source), *images["validation"]),
            "target_validation": self.subjects.with_labels("validation", target),
        }

    def _task(self, arm: Arm, seed: int, subset: int, ratio: int, images: Images, *, test: bool = True) -> Task:
        """The training of one segmenter, and its test."""
        parts = {
            "train": images[arm.images],
            "extra": images[arm.extra] if arm.extra else (),
            "validation": images["target_validation" if arm.images == "target" else "validation"],
        }
        domains = {} if self.pair.one_unit else {domain.name: domain for domain in (self.pair.source, self.pair.target)}
        read = {part: CaseReader(scans, domains) for part, scans in parts.items()}
        return self.arm_task(
            arm,
            {"seed": seed, "subset": subset, "ratio_percent": ratio},
            f"seed={seed},subset={subset}",
            (read["train"], read["validation"], read["extra"] if parts["extra"] else None),
            {"images": {part: content_hash(scans) for part, scans in parts.items()}},
            [scan for part in parts.values() for scan in part],
            test=test,
        )

    def _test_images(self) -> Iterator[TestImage]:
        """The labelled images of the test subjects, each in its test set."""
        for test_set, domain in zip(SETS, (self.pair.source, self.pair.target), strict=True):
            for number, scan in enumerate(self.subjects.with_labels("test", domain.name)):
                own = None if self.pair.one_unit else domain
                yield TestImage(scan, {"test_set": test_set}, own, f"{domain.name}_{number:04d}.nii.gz")

    def _choose_ratio(self, images: Images) -> Stages:
        """Train one seed with each ratio, where there is something to choose, and take the best on validation."""
        trained = [arm.name for arm in self.arms]
        extra = [arm.name for arm in self.arms if arm.extra]
        swept = next((name for name in (*SWEPT, *extra) if name in trained), None)
        if len(self.config.ratios_percent) < 2 or swept is None:
            return
        self.swept, arms = swept, self.tried(swept)
        listed = ", ".join(f"{ratio} %" for ratio in arms)
        self.console.out(f"ratio of extra to real images: trying {listed} with {swept}", highlight=False)
        tried = {ratio: [self._task(arm, self.seeds[0], 0, ratio, images, test=False)] for ratio, arm in arms.items()}
        chosen, reasons = yield from self.choose({"": tried})
        if not chosen:
            raise TrainingError(f"no ratio could be trained: {reasons}")
        self.ratio_percent, self.val_dice = chosen[""]

    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """See ``StudyKind``."""
        by_arm = means(rows, ["arm", "test_set", "organ"])
        comparisons = compare_arms(rows, self.config.comparisons, METRICS)
        record = {
            "ratio_percent": self.ratio_percent,
            "sweep": {"arm": self.swept, "val_dice": {str(ratio): dice for ratio, dice in self.val_dice.items()}},
            "means": plain(by_arm),
            "comparisons": plain(comparisons),
            "rejected": {arm.name: list(self.rejected) for arm in self.arms if arm.translates},
            "learning_curves": CURVES,
            "worst": [] if rows.empty else list(self._worst(rows)),
        }
        shown = iter(()) if rows.empty else self._tables(by_arm, comparisons)
        tags = {"ratio_percent": str(self.ratio_percent)}
        return self.concluded(record, comparisons, shown, metrics=_gains(comparisons), tags=tags)

    def write_page(self, rows: pd.DataFrame, summary: StudySummary, failures: Sequence[TaskFailure]) -> Path:
        """The answer with its controls, forests by organ, curves and worst cases: ``benefit.html``."""
        record = {**self.description, **summary.record, "failures": [asdict(failure) for failure in failures]}
        return write_report(Findings(self.order.folder, record, rows, summary.comparisons, summary.tables[CURVES]))

    def _worst(self, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """The lowest Dice of the arm that has all of translation, with the files to look at, relative to the study."""
        known = list(dict.fromkeys(rows["arm"]))
        arm = next((name for name in SWEPT if name in known), known[-1])
        first = rows[rows["arm"] == arm].iloc[0]
        own = rows[(rows["arm"] == arm) & (rows["seed"] == first["seed"]) & (rows["subset"] == first["subset"])]
        name = next(
            name
            for name, segmenter in self.tested.items()
            if all(first[key] == value for key, value in segmenter.keys.items())
        )
        for row in own.sort_values("dice", kind="stable").head(WORST).to_dict("records"):
            for image in self._test_images():
                if (image.scan.subject, image.keys["test_set"]) == (row["subject"], row["test_set"]):
                    path = os.path.relpath(image.scan.image.resolve(), self.order.folder.resolve())
                    yield {
                        **{key: row[key] for key in ("arm", "seed", "subject", "test_set", "organ")},
                        "value": list(self.segmenter.labels).index(row["organ"]) + 1,
                        "dice": row["dice"],
                        "image": Path(path).as_posix(),
                        **image.label_maps(name),
                    }

    def _tables(self, by_arm: pd.DataFrame, comparisons: pd.DataFrame) -> Iterator[RenderableType]:
        """For each organ the arms, and then their differences, both test sets apart; the files hold all metrics."""
        heads = [*SETS.values()]
        for organ in dict.fromkeys(by_arm["organ"]):
            own, other = (
                table[(table["metric"] == "dice") & (table["organ"] == organ)] for table in (by_arm, comparisons)
            )
            lines = crossed(own, [(arm.name,) for arm in self.arms], ["arm"], "test_set", [*SETS], interval)
            yield shown_table(f"Dice of {organ}", ["arm"], heads, lines)
            pairs = list(dict.fromkeys(zip(other["arm"], other["reference"], strict=True)))
            lines = crossed(other, pairs, ["arm", "reference"], "test_set", [*SETS], partial(interval, sign="+"))
            p = crossed(other, pairs, ["arm", "reference"], "test_set", ["out"], lambda row: f"{row['p_holm']:.2g}")
            lines = [[*line, p_of[-1]] for line, p_of in zip(lines, p, strict=True)]
            yield shown_table(f"Difference in Dice of {organ}", ["arm", "less"], [*heads, "p (Holm)"], lines)
        source, target = self.pair.names
        yield Text(
            f"Test subjects: {source} in distribution, {target} out of it. Seeds and subsets are averaged within each "
            f"subject, then {LEVEL:.0%} intervals over subjects; differences are paired by subject; p of Wilcoxon's "
            "test out of distribution, corrected over the lines (Holm)."
        )


def _refuse_failed(failures: Sequence[TaskFailure]) -> None:
    """End a study of which what all arms need could not be made."""
    if failures:
        raise TrainingError("; ".join(f"{failure.child}: {failure.reason}" for failure in failures))


def _split_of(model: Path, description: type[TranslationDescription | SegmenterDescription]) -> Split:
    """The frozen split that a model was trained on; see :func:`medgan.training.run_folder.split_of_model`."""
    split_hash = read_description(model, description).origin.split_hash
    return split_of_model(model, split_hash, otherwise="let the study train a translator")


def _gains(comparisons: pd.DataFrame) -> dict[str, float]:
    """What translation adds to Dice, by tracking key: ``gain/out/kidney_dice``, of the arm that has all of it."""
    arm = BY_NAME[SWEPT[0]]
    own = comparisons[(comparisons["arm"] == arm.name) & (comparisons["reference"] == arm.reference)]
    own = own[own["metric"] == "dice"]
    keys = "gain/" + own["test_set"] + "/" + own["organ"] + "_dice"
    return dict(zip(keys, own["mean"], strict=True))
