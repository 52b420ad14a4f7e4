"""What a benefit study will do, settled before anything runs: settings, cohort, split, subsets, and who is tested."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medgan import catalog
from medgan.benefit.arms import BY_NAME, SWEPT, Arm, ArmName
from medgan.benefit.config import BenefitConfig, configured
from medgan.benefit.subjects import Subjects, check_labels, draw_subsets, study_split
from medgan.config import Settings, from_overrides, load
from medgan.data.domains import Domain, DomainPair
from medgan.data.sidecars import without_augmented
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Data, find_cohort
from medgan.errors import ConfigError, DataError
from medgan.phantom.cohort import PAIRED, UNPAIRED
from medgan.phantom.kinds import KINDS
from medgan.pipeline import PHANTOM_SEED
from medgan.segmentation.labelled import labels_of
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies.subjects import Guard, freeze_split
from medgan.training.architecture import TranslationDescription
from medgan.training.device import make_fabric
from medgan.training.model_folder import read_description
from medgan.training.run_folder import folder_named, split_of_model
from medgan.translators.pipeline import TranslationPipeline

QUICK_NOTE = "quick: fewer seeds, arms and iterations; the figures show that all of it runs and are no evidence"


@dataclass(frozen=True)
class BenefitOrder:
    """What a user asks of ``medgan benefit``."""

    pipeline: str
    name: str = "benefit"
    """Of the study's folder; the same name goes on with the study."""
    data: Data | None = None
    """A cohort with masks; None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    model: Path | None = None
    """The model folder of a finished run; None trains a translator."""
    quick: bool = False
    out: Path = Path("runs")
    tracking: str | None = None
    device: str = "auto"
    jobs: int = 1
    """Segmenters that are trained at the same time."""

    @property
    def folder(self) -> Path:
        """Where the study and all that it trains lie."""
        return folder_named(self.out / self.pipeline, self.name)

    @property
    def command(self) -> str:
        """What runs the study again; where the data lie is nobody's business but this machine's."""
        words = ["medgan", "benefit", "--pipeline", self.pipeline, "--name", self.name]
        # A number alone would be how many, so one seed is followed by a comma.
        words += ["--seeds", "".join(f"{seed}," for seed in self.seeds)]
        words += ["--data", "COHORT"] if self.data else []
        words += ["--config", self.config.name] if self.config else []
        words += ["--model", "MODEL"] if self.model else []
        words += ["--quick"] if self.quick else []
        return shlex.join([*words, *self.overrides])


@dataclass(frozen=True)
class BenefitPlan:
    """Everything that a benefit study will do."""

    order: BenefitOrder
    config: BenefitConfig
    pair: DomainPair
    segmenter: SegmenterConfig
    """Of all arms, which differ in ``augmentation`` alone."""
    subjects: Subjects
    subsets: tuple[tuple[str, ...], ...]
    """Training subjects of each subset."""
    arms: tuple[Arm, ...]
    left_out: dict[ArmName, str]
    """Arms that cannot be trained on this cohort, and why."""

    @cached_property
    def guard(self) -> Guard:
        """Keeps the test subjects out of every training."""
        return self.subjects.guard

    @property
    def phantom(self) -> bool:
        """Whether the built-in phantom stands in for data."""
        return self.order.data is None

    @property
    def split(self) -> Path:
        """Where the study's split is frozen."""
        return self.order.folder / "split.json"

    @property
    def translator(self) -> TranslationPipeline[Any]:
        """The pipeline that translates, with its settings."""
        return translator_pipeline(self.order, self.config)

    @property
    def swept(self) -> Arm | None:
        """The arm whose validation chooses the ratio of all; None where there is nothing to choose."""
        if len(self.config.ratios_percent) < 2:
            return None
        trained = [arm.name for arm in self.arms]
        extra = [arm.name for arm in self.arms if arm.extra]
        return next((BY_NAME[name] for name in (*SWEPT, *extra) if name in trained), None)

    def domain(self, name: str) -> Domain:
        """How images of a domain are seen: by the segmenter's one window where both are in HU, else each by its own."""
        if self.pair.one_unit:
            return self.segmenter.domain
        return self.pair.source if name == self.pair.source.name else self.pair.target

    def labelled_source(self, subset: int) -> int:
        """How many labelled source images the segmenters of a subset have."""
        own = set(self.subsets[subset])
        return sum(each.subject in own for each in self.subjects.with_labels("train", self.pair.source.name))


def make_plan(order: BenefitOrder) -> BenefitPlan:
    """Settle what will run, and freeze the split where that is not done yet.

    Raises:
        ConfigError: Settings that cannot be, or that the study was not begun with.
        DataError: A cohort without the labels that the study needs.
        LeakageError: A test subject that an earlier training saw.
    """
    layers: list[Path | Settings] = [*([order.config] if order.config else []), from_overrides(order.overrides)]
    config = configured(order.pipeline, *layers, on_phantom=order.data is None, quick=order.quick)
    translator = translator_pipeline(order, config)
    subjects = gather(order, config, translator)
    check_labels(subjects, translator.pair)
    subsets = draw_subsets(subjects, translator.pair, count=config.subsets, labelled=config.labelled)
    arms, left_out = _usable(config, subjects, translator.pair, subsets)
    segmenter = segmenter_config(config, translator.pair, subjects)
    plan = BenefitPlan(order, config, translator.pair, segmenter, subjects, tuple(subsets), arms, left_out)
    plan.guard.admit(subjects.learnt_from(), "the training")
    if order.model:
        if config.retrain_translator:
            raise ConfigError("retrain_translator trains a translator on each subset; leave --model out.")
        plan.guard.check_model(translator_split(order.model), order.model.parent)
    frozen = freeze_split(plan.split, subjects.split, plan.guard.tested)
    return replace(plan, subjects=replace(subjects, split=frozen))


def translator_pipeline(order: BenefitOrder, config: BenefitConfig) -> TranslationPipeline[Any]:
    """The pipeline that translates, with its settings.

    Raises:
        ConfigError: Settings that cannot be.
    """
    on_cpu = make_fabric(order.device, "32").device.type == "cpu"
    return catalog.load_translation(order.pipeline).configured(
        config.translator, on_phantom=order.data is None, on_cpu=on_cpu
    )


def segmenter_config(config: BenefitConfig, pair: DomainPair, subjects: Subjects) -> SegmenterConfig:
    """The segmenter's settings; what is not said of labels is read from the cohort.

    Raises:
        ConfigError: Settings that cannot be.
        DataError: No labels in the settings, and none that can be read from the cohort.
    """
    asked = dict(config.segmenter)
    if "labels" not in asked:
        asked["labels"] = labels_of(subjects.labelled)
    if "domain" not in asked and not pair.one_unit:
        asked["domain"] = pair.target.model_dump(mode="json")
    found = load(SegmenterConfig, asked)
    if unknown := [name for name in config.lesions if name not in found.labels]:
        raise ConfigError(f"lesions names {', '.join(unknown)}, and the labels are {', '.join(found.labels)}.")
    return found


def gather(order: BenefitOrder, config: BenefitConfig, translator: TranslationPipeline[Any]) -> Subjects:
    """The study's cohorts and their split.

    A phantom subject has both scans with labels; a translator that learns without pairs gets one scan of each.

    Raises:
        ConfigError: Data that is no table.
        DataError: A cohort that cannot be used.
    """
    table: Data = order.data or _phantom_table(config, translator)
    other = table
    if isinstance(table, Path) and order.data is None and not translator.pair.paired:
        other = table.with_name(UNPAIRED)
    labelled, translated = (find_cohort(each, translator.pair) for each in (table, other))
    _refuse_augmented(labelled, table)
    frozen = translator_split(order.model) if order.model else None
    split = study_split(labelled, translator.pair, translator.config.split, frozen)
    return Subjects(labelled, table, translated, other, split)


def _refuse_augmented(cohort: Cohort, table: Data) -> None:
    """Cases that were made of others would be real in every arm, and in the translator's training."""
    if made := without_augmented(cohort)[1]:
        raise DataError(
            f"{table}: {made} of {len(cohort.studies)} images are synthetic cases of `medgan augment`, which a benefit "
            "study would count as real; give the cohort of real cases."
        )


def translator_split(model: Path) -> Split:
    """The frozen split of a finished translator; see :func:`frozen_split`."""
    return frozen_split(model, read_description(model, TranslationDescription).origin.split_hash)


def frozen_split(model: Path, split_hash: str) -> Split:
    """The frozen split that a model was trained on; see :func:`medgan.training.run_folder.split_of_model`."""
    return split_of_model(model, split_hash, otherwise="let the study train a translator")


def _phantom_table(config: BenefitConfig, translator: TranslationPipeline[Any]) -> Path:
    shape = KINDS[translator.phantom].shape
    return translator.rendered(config.phantom_subjects, PHANTOM_SEED, shape) / PAIRED


def _usable(
    config: BenefitConfig, subjects: Subjects, pair: DomainPair, subsets: Sequence[Sequence[str]]
) -> tuple[tuple[Arm, ...], dict[ArmName, str]]:
    """The arms that this cohort has the images for, and why the others are left out."""
    target = pair.target.name
    with_target = {study.subject for study in subjects.with_labels("train", target)}
    with_source = {study.subject for study in subjects.with_labels("train", pair.source.name)}
    lacking: dict[ArmName, str] = {}
    if not subjects.with_labels("validation", target) or not all(with_target & set(subset) for subset in subsets):
        lacking["oracle"] = f"no labelled {target} image to train or validate on"
    if not all(len(with_source & set(subset)) > 1 for subset in subsets):
        lacking["real+shuffled"] = "one labelled training subject: there is no other's mask"
    arms = tuple(BY_NAME[name] for name in config.arms if name not in lacking)
    return arms, {name: reason for name, reason in lacking.items() if name in config.arms}
