"""What a study of augmentation will do, settled before anything runs: settings, cohort, split, and who is drawn."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medgan import catalog
from medgan.benefit.augmentation.arms import BY_NAME, Arm, Method
from medgan.benefit.augmentation.config import AugmentationConfig, configured
from medgan.config import Settings, from_overrides, load
from medgan.data.domains import Domain, DomainPair
from medgan.data.sidecars import without_augmented
from medgan.data.splits import Part, Split, split_subjects
from medgan.data.studies import Cohort, Data, Study, find_cohort
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.phantom.kinds import KINDS
from medgan.pipeline import PHANTOM_SEED, Pipeline
from medgan.segmentation.labelled import Labels, labels_of, merged
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies.subjects import Guard, freeze_split
from medgan.synthesis.generators import SynthesisConfig
from medgan.training.device import make_fabric
from medgan.training.run_folder import MAX_NAMED, folder_named

QUICK_NOTE = "quick: fewer sizes, arms, seeds and steps; the figures show that all of it runs and are no evidence"


@dataclass(frozen=True)
class AugmentationOrder:
    """What a user asks of ``medgan benefit --study augmentation``."""

    pipeline: str
    name: str = "augmentation"
    """Of the study's folder; the same name goes on with the study."""
    data: Data | None = None
    """A cohort with masks; None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws its own subjects and trains with its own weights."""
    quick: bool = False
    out: Path = Path("runs")
    tracking: str | None = None
    device: str = "auto"
    jobs: int = 1
    """Networks that are trained at the same time."""

    @property
    def folder(self) -> Path:
        """Where the study and all that it trains lie."""
        return folder_named(self.out / self.pipeline, self.name)

    @property
    def command(self) -> str:
        """What runs the study again; where the data lie is nobody's business but this machine's."""
        words = ["medgan", "benefit", "--study", "augmentation", "--pipeline", self.pipeline, "--name", self.name]
        # A number alone would be how many, so one seed is followed by a comma.
        words += ["--seeds", "".join(f"{seed}," for seed in self.seeds)]
        words += ["--data", "COHORT"] if self.data else []
        words += ["--config", self.config.name] if self.config else []
        words += ["--quick"] if self.quick else []
        return shlex.join([*words, *self.overrides])


@dataclass(frozen=True)
class Draw:
    """The few subjects that everything of a size and a seed learns from: segmenters, generators, donors."""

    size: int
    seed: int
    labelled: tuple[str, ...]
    """Those with a labelled voxel, in the order in which they were drawn."""
    healthy: tuple[str, ...] = ()
    """Those besides whose masks mark nothing: they receive lesions and lend none."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """All of them."""
        return self.labelled + self.healthy

    @property
    def name(self) -> str:
        """How folders call it."""
        return f"n={self.size},seed={self.seed}"


@dataclass(frozen=True)
class AugmentationPlan:
    """Everything that a study of augmentation will do."""

    order: AugmentationOrder
    config: AugmentationConfig
    segmenter: SegmenterConfig
    """Of all arms, which differ in ``augmentation`` alone."""
    synthesis: SynthesisConfig
    """Of the generators: labels, domain and grid are the segmenter's."""
    cohort: Cohort
    """The labelled images."""
    split: Split
    draws: tuple[Draw, ...]
    """By size, then by seed."""
    left_out: int = 0
    """Labelled images that an earlier augmentation made: nothing of the study counts them as real."""

    @cached_property
    def guard(self) -> Guard:
        """Keeps the test subjects out of every training."""
        return Guard.of(self.cohort, subjects=self.split.test)

    @property
    def phantom(self) -> bool:
        """Whether the built-in phantom stands in for data."""
        return self.order.data is None

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is trained on each draw."""
        return tuple(BY_NAME[name] for name in self.config.arms)

    @property
    def split_path(self) -> Path:
        """Where the study's split is frozen."""
        return self.order.folder / "split.json"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Training subjects, rising."""
        return tuple(dict.fromkeys(draw.size for draw in self.draws))

    def of_size(self, size: int) -> tuple[Draw, ...]:
        """The draws of one size, by seed."""
        return tuple(draw for draw in self.draws if draw.size == size)

    def studies(self, draw: Draw) -> tuple[Study, ...]:
        """The images with a labelled voxel of a draw, in its order: what is learnt from."""
        return self._of(draw.labelled)

    def recipients(self, draw: Draw, method: Method) -> tuple[Study, ...]:
        """Those that a method changes: the healthy ones, where there are any."""
        return self._of(draw.healthy if draw.healthy and method != "elastic" else draw.labelled)

    def _of(self, subjects: tuple[str, ...]) -> tuple[Study, ...]:
        own = {study.subject: study for study in self.cohort.studies}
        return tuple(own[subject] for subject in subjects)

    def part(self, name: Part) -> tuple[Study, ...]:
        """The labelled images of a part."""
        return self.split.part(self.cohort, name).studies


def make_plan(order: AugmentationOrder) -> AugmentationPlan:
    """Settle what will run, and freeze the split where that is not done yet.

    Raises:
        ConfigError: A pipeline that trains no lesion generator, settings that cannot be, more subjects asked for than
            there are, or another split than before.
        DataError: A cohort without labels to learn from or to test on.
        LeakageError: A test subject that would be, or was, learnt from.
    """
    _check_pipeline(order)
    layers: list[Path | Settings] = [*([order.config] if order.config else []), from_overrides(order.overrides)]
    config = configured(order.pipeline, *layers, on_phantom=order.data is None, quick=order.quick)
    domain = segmenter_config(config, {"any": (1,)}).domain
    table = order.data or _phantom_table(order, config)
    cohort, made_before = without_augmented(labelled_cohort(table, domain))
    segmenter = segmenter_config(config, labels_of(cohort))
    split = split_subjects(cohort, in_one(domain), config.split)
    drawn = tuple(draws(order, config, cohort, split, segmenter.labels))
    synthesis = synthesis_config(order, config, segmenter)
    plan = AugmentationPlan(order, config, segmenter, synthesis, cohort, split, drawn, made_before)
    plan.guard.admit([*plan.part("train"), *plan.part("validation")], "the training")
    return replace(plan, split=freeze_split(plan.split_path, plan.split, plan.guard.tested))


def segmenter_config(config: AugmentationConfig, labels: Labels) -> SegmenterConfig:
    """The segmenter's settings; what is not said of labels is the cohort's.

    Raises:
        ConfigError: Settings that cannot be, or lesions that are no label.
    """
    asked = config.segmenter if "labels" in config.segmenter else {**config.segmenter, "labels": labels}
    found = load(SegmenterConfig, asked)
    if found.fit.keep != "last":
        raise ConfigError(
            "segmenter.fit.keep=best would let validation subjects, who are not among the few, choose each segmenter's "
            "epoch; leave it at last."
        )
    if "labels" in config.segmenter and (unknown := [name for name in config.lesions if name not in found.labels]):
        raise ConfigError(f"lesions names {', '.join(unknown)}, and the labels are {', '.join(found.labels)}.")
    return found


def synthesis_config(
    order: AugmentationOrder, config: AugmentationConfig, segmenter: SegmenterConfig
) -> SynthesisConfig:
    """The generators' settings: the pipeline's, for what the segmenter segments; the last epoch is kept.

    Raises:
        ConfigError: Settings that cannot be.
    """
    found = pipeline_of(order, config.synthesis).config
    own = {name: getattr(found, name) for name in SynthesisConfig.model_fields}
    # Validation subjects are not among the few: they must not choose an epoch.
    own["fit"] = found.fit.model_copy(update={"keep": "last"})
    return SynthesisConfig(**own | {name: getattr(segmenter, name) for name in ("labels", "domain", "grid")})


def _check_pipeline(order: AugmentationOrder) -> None:
    """Before its settings are read, which another task would not know, and before its phantom is rendered."""
    if not issubclass(catalog.load(order.pipeline).settings, SynthesisConfig):
        raise ConfigError(f"'{order.pipeline}' trains no lesion generator; use --pipeline lesion_augmentation.")


def in_one(domain: Domain) -> DomainPair:
    """One domain in the form in which cohorts are found and divided."""
    return DomainPair(source=domain, target=domain, paired=False)


def labelled_cohort(table: Data, domain: Domain) -> Cohort:
    """The images of a domain that have a mask, one of each subject.

    Raises:
        DataError: None, or several of one subject.
    """
    cohort = find_cohort(table, in_one(domain))
    labelled = replace(cohort, studies=tuple(study for study in cohort.studies if study.mask))
    if not labelled.studies:
        raise DataError(f"{table}: no {domain.name} image has a mask; name label maps in the CSV's `mask` column.")
    counts = Counter(study.subject for study in labelled.studies)
    if several := [subject for subject, count in counts.items() if count > 1]:
        raise DataError(
            f"{table}: {', '.join(several[:MAX_NAMED])} {'has' if len(several) == 1 else 'have'} several labelled "
            f"{domain.name} images; a study of n subjects counts one image of each: keep one."
        )
    return labelled


def draws(
    order: AugmentationOrder, config: AugmentationConfig, cohort: Cohort, split: Split, labels: Labels
) -> list[Draw]:
    """Who is learnt from, by size and seed; a size counts subjects with a labelled voxel, and ``healthy`` the others.

    A seed shuffles the training part once, and a size takes as many from its beginning: the fewer are among the more.

    Raises:
        ConfigError: More subjects than there are.
    """
    studies = sorted(split.part(cohort, "train").studies, key=lambda study: study.subject)
    pool = [study.subject for study in studies if study.mask and merged(read_volume(study.mask), labels).any()]
    others = [study.subject for study in studies if study.subject not in pool]
    sizes = sorted(set(config.sizes))
    for asked, number, there, have in (
        (f"sizes={list(config.sizes)}", sizes[-1], pool, "a"),
        (f"healthy={config.healthy}", config.healthy, others, "no"),
    ):
        if number > len(there):
            raise ConfigError(
                f"{asked}: {len(there)} of {len(split.train)} training subjects have {have} voxel of "
                f"{', '.join(labels)}; ask for fewer, or make split.test smaller."
            )
    shuffled = {seed: np.random.default_rng(seed).permutation(pool).tolist() for seed in order.seeds}
    healthy = {seed: np.random.default_rng(seed).permutation(others).tolist() for seed in order.seeds}
    return [
        Draw(size, seed, tuple(shuffled[seed][:size]), tuple(healthy[seed][: config.healthy]))
        for size in sizes
        for seed in order.seeds
    ]


def pipeline_of(order: AugmentationOrder, *layers: Settings) -> Pipeline[Any]:
    """The pipeline that trains generators, with settings laid over its own.

    Raises:
        ConfigError: Settings that cannot be.
    """
    on_cpu = make_fabric(order.device, "32").device.type == "cpu"
    return catalog.load(order.pipeline).configured(*layers, on_phantom=order.data is None, on_cpu=on_cpu)


def _phantom_table(order: AugmentationOrder, config: AugmentationConfig) -> Path:
    pipeline = pipeline_of(order)
    shape = KINDS[pipeline.phantom].shape
    return pipeline.rendered(config.phantom_subjects, PHANTOM_SEED, shape) / pipeline.phantom_table
