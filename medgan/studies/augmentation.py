"""Few real cases, with and without synthetic ones: does synthesis help a segmenter?"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from rich.console import Console, RenderableType
from rich.text import Text

from medgan import catalog
from medgan.config import Config, Settings, load, user_layers
from medgan.data.domains import Domain, DomainPair
from medgan.data.sidecars import left_out, without_augmented
from medgan.data.splits import Part, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Data, find_cohort
from medgan.data.studies import Study as Scan
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import LEVEL, compare_arms, plain, slope
from medgan.phantom.kinds import KINDS
from medgan.pipeline import PHANTOM_SEED, Pipeline
from medgan.segmentation.labelled import Labels, labels_of, merged
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies.base import Failure, Order, Stages, Study, Summary, Task, shipped_layers
from medgan.studies.cases import Draw, Making, SyntheticCases, made, make_cases, train_on
from medgan.studies.engine import content_hash
from medgan.studies.segmenter import (
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
from medgan.studies.show import interval, p_value
from medgan.studies.show import table as shown_table
from medgan.studies.subjects import Guard, freeze_split
from medgan.synthesis.generators import SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig
from medgan.training.device import make_fabric
from medgan.training.model_folder import CARD, Origin
from medgan.training.run_folder import MAX_NAMED

Method = Literal["healthy", "elastic", "copy-paste", "carve-mix", "generator"]
"""What makes more cases of the real ones; ``healthy`` adds healthy scans as they are."""
ArmName = Literal[
    "real",
    "standard",
    "copy-paste",
    "carve-mix",
    "generator",
    "standard+healthy",
    "standard+elastic",
    "standard+copy-paste",
    "standard+carve-mix",
    "standard+generator",
    "standard+shuffled",
]


@dataclass(frozen=True)
class Arm:
    """What one segmenter is trained on; network, steps and batches are the same in all arms."""

    name: ArmName
    method: Method | None
    """Makes the cases that the ratio's share of patches is drawn from; None has real cases alone."""
    standard: bool
    """Whether patches are varied as segmenters usually are: affine, mirroring, gamma, contrast, noise."""
    reference: ArmName | None
    """The arm that it is compared with; None for the first."""
    shuffled: bool = False
    """Whether synthetic images have the labels of other synthetic cases."""


ARMS = (
    Arm("real", None, standard=False, reference=None),
    Arm("standard", None, standard=True, reference="real"),
    Arm("copy-paste", "copy-paste", standard=False, reference="real"),
    Arm("carve-mix", "carve-mix", standard=False, reference="real"),
    Arm("generator", "generator", standard=False, reference="real"),
    Arm("standard+healthy", "healthy", standard=True, reference="standard"),
    Arm("standard+elastic", "elastic", standard=True, reference="standard"),
    Arm("standard+copy-paste", "copy-paste", standard=True, reference="standard"),
    Arm("standard+carve-mix", "carve-mix", standard=True, reference="standard"),
    Arm("standard+generator", "generator", standard=True, reference="standard"),
    Arm("standard+shuffled", "generator", standard=True, reference="standard", shuffled=True),
)
"""In the order of every table."""

FURTHER: tuple[tuple[ArmName, ArmName], ...] = (
    ("generator", "copy-paste"),
    ("standard+copy-paste", "standard+healthy"),
    ("standard+generator", "standard+healthy"),
    ("standard+generator", "standard+elastic"),
    ("standard+generator", "standard+copy-paste"),
    ("standard+generator", "standard+carve-mix"),
    ("standard+generator", "generator"),
    ("standard+generator", "standard+shuffled"),
)
"""Comparisons beside each arm's own: is it the lesions or only the heads that they lie in, is it the generator or only
more variety, does it add to what is usual, and must images and labels fit."""

BY_NAME = {arm.name: arm for arm in ARMS}
COMPARISONS, CURVES = "comparisons.csv", "curves.csv"
GENERATORS, CASES, SEGMENTERS = "generators", "cases", "segmenters"
"""Folders of a study."""
TITLES = {"dice": "Dice", "lesion_f1": "Lesion-wise F1", "false_lesions": "False lesions per subject"}
"""The metrics that are printed; the files hold all."""
MEAN = "mean"
"""The mean of all organs of a subject, beside them."""
ALL = "all"
"""The seeds together."""
SEED_METRICS = ("dice", "lesion_f1", "false_lesions")
"""What is compared for each seed apart; the files would hold too much otherwise."""
QUICK_NOTE = "quick: fewer sizes, arms, seeds and steps; the figures show that all of it runs and are no evidence"


class AugmentationConfig(Config):
    """What is compared with how few cases, and how everything is trained."""

    sizes: tuple[PositiveInt, ...] = Field(default=(5, 10, 25, 50), min_length=1)
    """Training subjects; of one seed the fewer are among the more."""
    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS if arm.method != "healthy")
    """The segmenters that are trained; an arm's reference should be among them."""
    ratios_percent: tuple[NonNegativeInt, ...] = (0, 25, 50, 100, 200)
    """Synthetic cases for a hundred real ones: validation chooses one of these for each method and size. 0 is told for
    comparison and never chosen."""
    healthy: NonNegativeInt = 0
    """Subjects whose masks mark nothing, besides the few: methods add lesions to them instead of to the few, and
    ``standard+healthy`` learns from them as they are. Where lesions are rare, healthy scans seldom are."""
    cases: PositiveInt = 100
    """Synthetic cases that each method makes of each draw of subjects; the ratio says how often they are seen."""
    split: SplitConfig = SplitConfig(validation=0.2, test=0.35)
    """Who is tested and who chooses the ratio, where the cohort does not say."""
    lesions: tuple[str, ...] = ()
    """Labels whose connected parts are counted one by one: they get a lesion-wise F1."""
    phantom_subjects: PositiveInt = 120
    """How many subjects are rendered where no data is given."""
    insertion: InsertionConfig = InsertionConfig()
    """What methods put into real cases: more lesions in healthy tissue, or another shape of the recipient's organ."""
    bend: bool = False
    """Bend the cases of every method afterwards by ``insertion.shape``, as ``elastic`` bends real ones."""
    generator_insertion: dict[str, Any] = Field(default_factory=dict)
    """Where the generator's insertion differs, as ``generator_insertion.placement=whole`` for joint samples."""
    synthesis: dict[str, Any] = Field(default_factory=dict)
    """Settings of the pipeline that trains the generator, as ``synthesis.generator.kind=mask_to_lesion``."""
    segmenter: dict[str, Any] = Field(default_factory=dict)
    """Settings of the segmenter; without ``segmenter.labels`` those of the cohort."""

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if not any(self.ratios_percent):
            raise ValueError("ratios_percent needs a ratio above 0: one of them is what the arms are trained with")
        return self

    @model_validator(mode="after")
    def _can_insert(self) -> Self:
        placements = {self.insertion.placement, self.insertion_of("generator").placement}
        if self.healthy and "replace" in placements:
            raise ValueError("healthy subjects have no organ whose place another could take; set healthy=0")
        if "standard+healthy" in self.arms and not self.healthy:
            raise ValueError("standard+healthy learns from healthy subjects, too: say how many, as healthy=15")
        return self

    @model_validator(mode="after")
    def _has_what_is_shuffled(self) -> Self:
        if "standard+shuffled" in self.arms and not {"generator", "standard+generator"} & set(self.arms):
            raise ValueError("standard+shuffled takes the ratio of the generator: name standard+generator, too")
        return self

    @model_validator(mode="after")
    def _names_each_arm_once(self) -> Self:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError("arms must name at least one arm, and each once")
        return self

    @property
    def ratios(self) -> tuple[int, ...]:
        """What can be chosen, rising."""
        return tuple(sorted({ratio for ratio in self.ratios_percent if ratio}))

    @property
    def methods(self) -> tuple[Method, ...]:
        """What the arms need, in their order."""
        needed = [BY_NAME[name].method for name in self.arms]
        return tuple(dict.fromkeys(method for method in needed if method))

    def insertion_of(self, method: Method) -> InsertionConfig:
        """How a method inserts.

        Raises:
            ConfigError: ``generator_insertion`` has a setting that insertion does not.
        """
        own = self.generator_insertion if method == "generator" else {}
        return load(InsertionConfig, self.insertion.model_dump(), own)

    @property
    def comparisons(self) -> tuple[tuple[ArmName, ArmName], ...]:
        """Arm and reference, of those that are trained."""
        own = [(name, BY_NAME[name].reference) for name in self.arms]
        return tuple((arm, other) for arm, other in [*own, *FURTHER] if arm in self.arms and other in self.arms)


@dataclass(frozen=True)
class Sweep:
    """The chosen ratio of a method at a size, and what it was chosen by."""

    size: int
    method: Method
    ratio_percent: int
    arm: ArmName | None
    """The arm that was swept; None where there was nothing to choose."""
    val_dice: Mapping[int, float]
    """Mean validation Dice over seeds by ratio; 0 is the arm without anything synthetic."""


class Augmentation(Study):
    """For each size and seed of training subjects: generators, synthetic cases, ratios, and one segmenter an arm.

    Everything of a size and a seed learns from its few subjects alone. Sizes run one after the other, the smallest
    first.
    """

    heeds = ("data", "quick")
    keys = ("arm", "size", "seed", "ratio_percent", "subject", "organ")
    metrics = METRICS
    rows_file, result_file = "augmentation.csv", "augmentation.json"
    default_seeds = (0, 1, 2)

    def __init__(self, order: Order, console: Console) -> None:
        # Before its settings are read, which another task would not know, and before its phantom is rendered.
        if not issubclass(catalog.load(order.pipeline).settings, SynthesisConfig):
            raise ConfigError(f"'{order.pipeline}' trains no lesion generator; use --pipeline lesion_augmentation.")
        super().__init__(order, console)
        self.config = configured(order)
        domain = _segmenter_config(self.config, {"any": (1,)}).domain
        cohort = _labelled_cohort(order.data or self._phantom_table(), domain)
        self.cohort, self.augmented = without_augmented(cohort)
        self.segmenter = _segmenter_config(self.config, labels_of(self.cohort))
        split = split_subjects(self.cohort, _one(domain), self.config.split)
        self.draws = _draws(self.config, self.seeds, split.part(self.cohort, "train").studies, self.segmenter.labels)
        self.synthesis = self._synthesis_config()
        self.guard: Guard = Guard.of(self.cohort, subjects=split.test)
        self.split = split
        self.guard.admit([*self._part("train"), *self._part("validation")], "the training")
        self.split = freeze_split(order.folder / "split.json", split, self.guard.tested)
        self.sizes = tuple(dict.fromkeys(draw.size for draw in self.draws))
        self.arms = tuple(BY_NAME[name] for name in self.config.arms)
        self.sweeps: list[Sweep] = []
        self.tested: dict[str, Segmenter] = {}

    def _pipeline(self, settings: Settings | None = None) -> Pipeline[Any]:
        """The pipeline that trains generators, with settings laid over its own."""
        on_cpu = make_fabric(self.order.device, "32").device.type == "cpu"
        layers = [settings] if settings else []
        return catalog.load(self.order.pipeline).configured(*layers, on_phantom=self.phantom, on_cpu=on_cpu)

    def _phantom_table(self) -> Path:
        pipeline = self._pipeline()
        shape = KINDS[pipeline.phantom].shape
        return pipeline.rendered(self.config.phantom_subjects, PHANTOM_SEED, shape) / pipeline.phantom_table

    def _synthesis_config(self) -> SynthesisConfig:
        """The generators' settings: the pipeline's, for what the segmenter segments; the last epoch is kept."""
        config = self._pipeline(self.config.synthesis).config
        own = {name: getattr(config, name) for name in SynthesisConfig.model_fields}
        # Validation subjects are not among the few: they must not choose an epoch.
        own["fit"] = config.fit.model_copy(update={"keep": "last"})
        return SynthesisConfig(**own | {name: getattr(self.segmenter, name) for name in ("labels", "domain", "grid")})

    def _part(self, name: Part) -> tuple[Scan, ...]:
        """The labelled images of a part."""
        return self.split.part(self.cohort, name).studies

    def _of(self, subjects: Sequence[str]) -> tuple[Scan, ...]:
        own = {scan.subject: scan for scan in self.cohort.studies}
        return tuple(own[subject] for subject in subjects)

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``Study``."""
        return {
            "pipeline": self.order.pipeline,
            "kind": self.order.kind,
            "phantom": self.phantom,
            "quick": self.order.quick,
            "seeds": list(self.seeds),
            "sizes": list(self.sizes),
            "arms": [arm.name for arm in self.arms],
            "budget": budget_of(self.segmenter),
            "split_hash": self.split.hash,
            "subjects": {part: len(getattr(self.split, part)) for part in ("train", "validation", "test")},
            "organs": {organ: number for number, organ in enumerate(self.segmenter.labels, start=1)},
            "settings": self.config.model_dump(mode="json"),
            "segmenter": self.segmenter.model_dump(mode="json"),
        }

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See ``Study``."""
        return {"arms": [arm.name for arm in self.arms], "seeds": list(self.seeds), "sizes": list(self.sizes)}

    @property
    def tags(self) -> Mapping[str, str]:
        """See ``Study``."""
        return {"split_hash": self.split.hash, "data_fingerprint": self.cohort.fingerprint()}

    def notes(self) -> Sequence[str]:
        """See ``Study``."""
        besides = f" and {self.config.healthy} healthy ones" if self.config.healthy else ""
        passed_over, budget = left_out(self.augmented), budget_of(self.segmenter)
        return [
            *super().notes(),
            *([QUICK_NOTE] if self.order.quick else []),
            *([passed_over] if passed_over else []),
            f"{self.order.folder}: {', '.join(self.segmenter.labels)} in {self.segmenter.domain.name}; "
            f"n = {', '.join(map(str, self.sizes))}{besides} x {len(self.seeds)} seeds x {len(self.arms)} arms, "
            f"{budget['iterations']} steps of {budget['batch_size']} patches each; "
            f"{len(self.split.validation)} validation and {len(self.split.test)} test subjects",
        ]

    def stages(self) -> Stages:
        """For each size: generators, synthetic cases, the ratio of each method, and all segmenters.

        Where a draw's generator or cases fail, the arms that need them are left out for this draw alone: differences
        are taken within a draw. A method of which no ratio could be trained is left out for this size.
        """
        for size in self.sizes:
            draws = [draw for draw in self.draws if draw.size == size]
            ready: dict[Method, list[Draw]] = {}
            for method in self.config.methods:
                own = draws
                if method == "generator":
                    failed = yield [self._generator_task(draw) for draw in draws]
                    lost = {failure.child for failure in failed}
                    own = [draw for draw in draws if f"{GENERATORS}/{draw.name}" not in lost]
                failed = yield [self._cases_task(method, draw) for draw in own]
                lost = {failure.child for failure in failed}
                if own := [draw for draw in own if f"{CASES}/{method},{draw.name}" not in lost]:
                    ready[method] = own
            ratios = yield from self._choose_ratios(size, ready)
            yield [
                self._task(arm, draw, ratios[arm.method] if arm.method else 0)
                for draw in draws
                for arm in self.arms
                if arm.method is None or (arm.method in ratios and draw in ready[arm.method])
            ]

    def _generator_task(self, draw: Draw) -> Task:
        """The training of a draw's generator, on its few subjects alone.

        Validation subjects are looked at to find mode collapse; the last epoch is kept, so that they choose nothing.
        """
        scans, validation = self._of(draw.labelled), self._part("validation")
        settings = self.synthesis.model_dump(mode="json")
        inputs = {"size": draw.size, "seed": draw.seed, "split_hash": self.split.hash, "images": content_hash(scans)}
        origin = Origin.of(self.split, phantom=self.phantom)
        return Task(
            f"{GENERATORS}/{draw.name}",
            {**inputs, "generator": settings},
            train_on,
            (self.synthesis, self.segmenter, draw, scans, validation, origin),
            product=f"model/{CARD}",
            parameters={**settings, "seed": draw.seed, "size": draw.size},
            scans=(*scans, *validation),
        )

    def _cases_task(self, method: Method, draw: Draw) -> Task:
        """The making of a method's synthetic cases of a draw, of the draw's own subjects alone."""
        donors = self._of(draw.labelled)
        # Healthy subjects, where there are any, receive lesions and lend none.
        recipients = self._of(draw.healthy) if draw.healthy and method != "elastic" else donors
        generator = self.order.folder / GENERATORS / draw.name / "model" if method == "generator" else None
        insertion = self.config.insertion_of(method)
        making = Making(
            method, draw, self.segmenter, insertion, self.config.insertion.variation, self.config.bend,
            self.config.cases, recipients, donors, generator,
        )  # fmt: skip
        inputs = {
            "method": method,
            "size": draw.size,
            "seed": draw.seed,
            "split_hash": self.split.hash,
            "images": content_hash([*donors, *(recipients if draw.healthy else ())]),
            "wanted": self.config.cases,
            "insertion": insertion.model_dump(mode="json"),
            "bend": self.config.bend,
            "labels": {name: list(values) for name, values in self.segmenter.labels.items()},
            "grid": self.segmenter.grid.model_dump(mode="json"),
            "generator": making.model.description.weights_sha256 if generator else None,
        }
        name = f"{CASES}/{method},{draw.name}"
        scans = (*recipients, *donors)
        return Task(name, inputs, make_cases, (making,), product="cases.json", scans=scans, outcome=made)

    def _task(self, arm: Arm, draw: Draw, ratio: int, *, test: bool = True) -> Task:
        """The training of one segmenter, and its test."""
        ratio = ratio if arm.method else 0
        name = ",".join([arm.name, *([f"ratio={ratio}"] if ratio else []), draw.name])
        scans, validation = self._of(draw.labelled), self._part("validation")
        extra = None
        if arm.method:
            folder = self.order.folder / CASES / f"{arm.method},{draw.name}"
            extra = SyntheticCases(folder, draw, exchanged=arm.shuffled)
        augmentation = "standard" if arm.standard else "none"
        segmenter = Segmenter(
            {"arm": arm.name, "size": draw.size, "seed": draw.seed, "ratio_percent": ratio},
            self.segmenter.model_copy(update={"augmentation": augmentation}),
            draw.seed,
            Scans(scans),
            Scans(validation),
            Origin.of(self.split, phantom=self.phantom),
            extra,
            share_of(ratio) if arm.method else 0.0,
            tuple(TestImage(scan) for scan in self._part("test")),
            self.config.lesions,
        )
        inputs = {
            "split_hash": self.split.hash,
            "images": content_hash(scans),
            "synthetic": extra.sha256 if extra else None,
        }
        task = segmenter.task(f"{SEGMENTERS}/{name}", inputs, scans=(*scans, *validation), test=test)
        if test:
            self.tested[task.name] = segmenter
        return task

    def _swept(self, method: Method) -> Arm:
        """The arm whose validation chooses a method's ratio: on top of standard augmentation, if that is asked for."""
        own = [arm for arm in self.arms if arm.method == method and not arm.shuffled]
        return min(own, key=lambda arm: not arm.standard)

    def _choose_ratios(
        self, size: int, ready: Mapping[Method, Sequence[Draw]]
    ) -> Generator[Sequence[Task], Sequence[Failure], dict[Method, int]]:
        """Train each method's swept arm with every ratio and seed, and take the best mean; no test subject is touched.

        The segmenters with the chosen ratio are the study's own: they are trained once.
        """
        config = self.config
        if len(config.ratios_percent) < 2:
            self.sweeps += [Sweep(size, method, config.ratios[0], None, {}) for method in ready]
            return dict.fromkeys(ready, config.ratios[0])
        tried: dict[Method, dict[int, list[Task]]] = {}
        for method, draws in ready.items():
            arm = self._swept(method)
            arms = dict.fromkeys(config.ratios, arm)
            if 0 in config.ratios_percent and arm.reference in config.arms:
                arms = {0: BY_NAME[arm.reference]} | arms
            tried[method] = {
                ratio: [self._task(one, draw, ratio, test=False) for draw in draws] for ratio, one in arms.items()
            }
        # The arm without synthetic cases is the same for several methods, and is trained once.
        once = {task.name: task for own in tried.values() for tasks in own.values() for task in tasks}
        failures = yield list(once.values())
        ratios: dict[Method, int] = {}
        for method, own in tried.items():
            scores = {}
            for ratio, tasks in own.items():
                known = [score(self.order.folder / task.name) for task in tasks]
                if all(dice is not None for dice in known):
                    scores[ratio] = float(np.mean([dice for dice in known if dice is not None]))
            if not any(scores):
                reasons = "; ".join(f"{failure.child}: {failure.reason}" for failure in failures)
                self.failures.append(Failure(f"{method},n={size}", f"none of its ratios could be trained: {reasons}"))
                continue
            ratios[method] = best_ratio(scores)
            listed = ", ".join(f"{ratio} % {dice:.4f}" for ratio, dice in scores.items())
            self.console.out(
                f"n={size} {method}: ratio {ratios[method]} %, by validation Dice ({listed})", highlight=False
            )
            self.sweeps.append(Sweep(size, method, ratios[method], self._swept(method).name, scores))
        return ratios

    def summary(self, rows: pd.DataFrame) -> Summary:
        """See ``Study``."""
        all_organs = with_mean(rows)
        by_arm = means(all_organs, ["arm", "size", "organ"])
        compared, sloping = (
            comparisons(all_organs, self.config.comparisons),
            slopes(all_organs, self.config.comparisons),
        )
        folders = {self.order.folder / name: segmenter.keys for name, segmenter in self.tested.items()}
        record = {
            "command": self.order.command,
            "sweeps": [
                asdict(sweep) | {"val_dice": {str(ratio): dice for ratio, dice in sweep.val_dice.items()}}
                for sweep in self.sweeps
            ],
            "means": plain(by_arm),
            "comparisons": plain(compared),
            "slopes": plain(sloping),
            "learning_curves": CURVES,
        }
        shown = [] if rows.empty else list(_tables(by_arm, compared, sloping, [arm.name for arm in self.arms]))
        note = [Text(QUICK_NOTE, style="yellow")] if self.order.quick else []
        return Summary(
            record,
            {COMPARISONS: compared, CURVES: read_curves(folders, ("arm", "size", "seed", "ratio_percent"))},
            [*shown, *note],
            comparisons=compared,
            headlines=tuple(TITLES),
            metrics=_gains(compared),
            # What names subjects stays on this disk.
            artifacts=[CURVES, COMPARISONS],
        )


def configured(order: Order) -> AugmentationConfig:
    """The settings: defaults, shipped files, then the user's; a later one wins.

    Raises:
        ConfigError: Settings that cannot be, or a short form that is not shipped for this pipeline.
    """
    shorter = "sizes=[5] segmenter.fit.epochs=5 synthesis.fit.epochs=5"
    files = shipped_layers(order.pipeline, on_phantom=order.data is None, quick=order.quick, shorter=shorter)
    return load(AugmentationConfig, *files, *user_layers(order.config, order.overrides))


def _segmenter_config(config: AugmentationConfig, labels: Labels) -> SegmenterConfig:
    """The segmenter's settings; what is not said of labels is the cohort's.

    Raises:
        ConfigError: Settings that cannot be, or lesions that are no label.
    """
    settings = config.segmenter if "labels" in config.segmenter else {**config.segmenter, "labels": labels}
    own = load(SegmenterConfig, settings)
    if own.fit.keep != "last":
        raise ConfigError(
            "segmenter.fit.keep=best would let validation subjects, who are not among the few, choose each segmenter's "
            "epoch; leave it at last."
        )
    if "labels" in config.segmenter and (unknown := [name for name in config.lesions if name not in own.labels]):
        raise ConfigError(f"lesions names {', '.join(unknown)}, and the labels are {', '.join(own.labels)}.")
    return own


def _one(domain: Domain) -> DomainPair:
    """One domain in the form in which cohorts are found and divided."""
    return DomainPair(source=domain, target=domain, paired=False)


def _labelled_cohort(table: Data, domain: Domain) -> Cohort:
    """The images of a domain that have a mask, one of each subject.

    Raises:
        DataError: None, or several of one subject.
    """
    cohort = find_cohort(table, _one(domain))
    labelled = replace(cohort, studies=tuple(scan for scan in cohort.studies if scan.mask))
    if not labelled.studies:
        raise DataError(f"{table}: no {domain.name} image has a mask; name label maps in the CSV's `mask` column.")
    counts = Counter(scan.subject for scan in labelled.studies)
    if several := [subject for subject, count in counts.items() if count > 1]:
        raise DataError(
            f"{table}: {', '.join(several[:MAX_NAMED])} {'has' if len(several) == 1 else 'have'} several labelled "
            f"{domain.name} images; a study of n subjects counts one image of each: keep one."
        )
    return labelled


def _draws(config: AugmentationConfig, seeds: Sequence[int], train: Sequence[Scan], labels: Labels) -> tuple[Draw, ...]:
    """Who is learnt from, by size and seed; a size counts subjects with a labelled voxel, and ``healthy`` the others.

    A seed shuffles the training part once, and a size takes as many from its beginning: the fewer are among the more.

    Raises:
        ConfigError: More subjects than there are.
    """
    scans = sorted(train, key=lambda scan: scan.subject)
    pool = [scan.subject for scan in scans if scan.mask and merged(read_volume(scan.mask), labels).any()]
    others = [scan.subject for scan in scans if scan.subject not in pool]
    sizes = sorted(set(config.sizes))
    for asked, number, there, have in (
        (f"sizes={list(config.sizes)}", sizes[-1], pool, "a"),
        (f"healthy={config.healthy}", config.healthy, others, "no"),
    ):
        if number > len(there):
            raise ConfigError(
                f"{asked}: {len(there)} of {len({scan.subject for scan in train})} training subjects have {have} voxel "
                f"of {', '.join(labels)}; ask for fewer, or make split.test smaller."
            )
    shuffled = {seed: np.random.default_rng(seed).permutation(pool).tolist() for seed in seeds}
    healthy = {seed: np.random.default_rng(seed).permutation(others).tolist() for seed in seeds}
    return tuple(
        Draw(size, seed, tuple(shuffled[seed][:size]), tuple(healthy[seed][: config.healthy]))
        for size in sizes
        for seed in seeds
    )


def with_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and where there are several organs a row for the mean of each subject's."""
    if rows["organ"].nunique() < 2:
        return rows
    keys = [key for key in Augmentation.keys if key != "organ"]
    means = rows.groupby(keys, sort=False, as_index=False)[list(METRICS)].mean().assign(organ=MEAN)
    return pd.concat([rows, means[list(rows.columns)]], ignore_index=True)


def comparisons(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How much each arm exceeds its reference on the same test subjects, by size: all seeds together, then each.

    Args:
        rows: As ``with_mean`` gives them.
        pairs: Arm and reference.

    Returns:
        ``size, seed``, the latter ``ALL`` or, of several, one; then the columns of
        ``medgan.evaluation.statistics.compare_arms``, whose correction for many comparisons is within a size.
    """
    tables = []
    for size, own in rows.groupby("size"):
        # One test set; a seed stands for its subset of subjects, too.
        own = own.assign(subset=0, test_set="test")
        tables.append(compare_arms(own, pairs, METRICS).assign(size=size, seed=ALL))
        apart = own.groupby("seed") if own["seed"].nunique() > 1 else ()
        for seed, one in apart:
            table = compare_arms(one, pairs, SEED_METRICS)
            tables.append(table.assign(size=size, seed=str(seed)))
    if not tables:
        return pd.DataFrame(columns=["size", "seed"])
    table = pd.concat(tables, ignore_index=True).drop(columns="test_set")
    first = ["size", "seed"]
    return table[[*first, *(column for column in table.columns if column not in first)]]


def slopes(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How the gain in Dice changes each time that the number of training subjects doubles.

    Below zero it shrinks. The line goes through all sizes; intervals are over test subjects.

    Returns:
        ``arm, reference, organ, mean, lower, upper, n``; empty where there are not two sizes.
    """
    tables = []
    for organ, own in rows.groupby("organ", sort=False):
        dice = own.groupby(["arm", "subject", "size"])["dice"].mean().unstack("size")
        dice.columns = np.log2(dice.columns.astype(float))
        known = set(own["arm"])
        for arm, other in pairs:
            if {arm, other} <= known:
                gain = (dice.loc[arm] - dice.loc[other]).dropna(axis=1, how="all")
                if gain.shape[1] > 1:
                    tables.append({"arm": arm, "reference": other, "organ": organ} | asdict(slope(gain)))
    return pd.DataFrame(tables, columns=["arm", "reference", "organ", "mean", "lower", "upper", "n"])


def _gains(compared: pd.DataFrame) -> dict[str, float]:
    """What the generator adds to standard augmentation, by tracking key: ``gain/n5/mean_dice``."""
    arm = BY_NAME["standard+generator"]
    if compared.empty:
        return {}
    own = compared[(compared["arm"] == arm.name) & (compared["reference"] == arm.reference) & (compared["seed"] == ALL)]
    own = own[own["metric"].isin(SEED_METRICS)]
    keys = "gain/n" + own["size"].astype(str) + "/" + own["organ"] + "_" + own["metric"]
    return dict(zip(keys, own["mean"], strict=True))


def _tables(
    by_arm: pd.DataFrame, compared: pd.DataFrame, sloping: pd.DataFrame, arms: Sequence[ArmName]
) -> Iterator[RenderableType]:
    """For each metric the arms by size, their differences, and how Dice differences change with size."""
    organs = list(dict.fromkeys(by_arm["organ"]))
    organ = MEAN if MEAN in organs else organs[0]
    of = "" if organ == MEAN else f" of {organ}"
    for metric, title in TITLES.items():
        own, other = (table[(table["metric"] == metric) & (table["organ"] == organ)] for table in (by_arm, compared))
        if len(own):
            sizes = sorted(set(own["size"]))
            known = {(row["arm"], row["size"]): row for row in own.to_dict("records")}
            lines = [[arm, *(interval(known.get((arm, size))) for size in sizes)] for arm in arms]
            yield shown_table(f"{title}{of}", ["arm"], [f"n={size}" for size in sizes], lines, show_lines=True)
        if len(other):
            shown = sloping[sloping["organ"] == organ] if metric == "dice" else sloping.iloc[:0]
            yield _differences(f"Difference in {title}{of}", other, shown)
    note = (
        f"n: training subjects. Seeds are averaged within each test subject, then {LEVEL:.0%} intervals over test "
        "subjects; differences are paired by subject, with the mean of each seed behind them; p of Wilcoxon's test, "
        "corrected over the lines of a size (Holm). The slope is what a difference changes as n doubles."
    )
    if "false_lesions" in set(by_arm["metric"]):
        note += " False lesions touch no true one, in healthy subjects, too; fewer are better."
    yield Text(note)


def _differences(title: str, compared: pd.DataFrame, sloping: pd.DataFrame) -> RenderableType:
    sizes = sorted(set(compared["size"]))
    known = {(row["arm"], row["reference"], row["size"], row["seed"]): row for row in compared.to_dict("records")}
    slope_of = {(row["arm"], row["reference"]): row for row in sloping.to_dict("records")}
    seeds = sorted(set(compared["seed"]) - {ALL}, key=int)
    lines = []
    for arm, other in dict.fromkeys(zip(compared["arm"], compared["reference"], strict=True)):
        cells = []
        for size in sizes:
            row = known.get((arm, other, size, ALL))
            apart = [known[key]["mean"] for seed in seeds if (key := (arm, other, size, seed)) in known]
            p = p_value(row["p_holm"]) if row else ""
            listed = "seeds " + " ".join(f"{mean:+.3f}" for mean in apart) if apart else ""
            cells.append("\n".join(filter(None, [interval(row, sign="+"), p and f"p {p}", listed])))
        last = [interval(slope_of.get((arm, other)), sign="+")] if len(sloping) else []
        lines.append([arm, other, *cells, *last])
    heads = [*(f"n={size}" for size in sizes), *(["slope"] if len(sloping) else [])]
    return shown_table(title, ["arm", "less"], heads, lines, show_lines=True)
