"""Segmenters that a study trains and tests, in arms, some with extra images whose ratio validation chooses."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
from pydantic import model_validator
from rich.console import RenderableType
from rich.text import Text

from medgan.config import Config, load, shipped, user_layers
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import Domain
from medgan.data.splits import Split
from medgan.data.streams import write_json
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import ConfigError
from medgan.evaluation.segmentation import METRICS, score_labels
from medgan.evaluation.statistics import t_interval
from medgan.phantom.cohort import PHANTOM_SEED
from medgan.phantom.kinds import KINDS
from medgan.pipeline import Pipeline
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import Labelled, merged, read_labelled
from medgan.segmentation.segmenter import segmenter_task
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription, SegmenterModel
from medgan.studies.base import Context, StudyKind, StudyOrder, StudySummary, Task, TaskFailure
from medgan.studies.engine import read_json
from medgan.studies.subjects import Guard, freeze_split
from medgan.studies.tables import ROWS
from medgan.training.device import Precision, make_fabric
from medgan.training.fit import Training
from medgan.training.model_folder import D, Model, Origin, read_model
from medgan.training.recorder import Recorder

COMPARISONS, CURVES = "comparisons.csv", "curves.csv"
QUICK_NOTE = "quick: fewer seeds, sizes, arms and iterations; the figures show that all of it runs and are no evidence"
SCORE, LABEL_MAPS, TRUTH = "validation.json", "test", "truth"
"""In a segmenter's folder: what validation said, when it is trained; its label maps of the test images,
and the true ones as it numbers its labels."""

Cases = Callable[[SegmenterConfig], list[Labelled]]
"""Labelled images on a segmenter's grid, read where they are needed; it pickles."""


@dataclass(frozen=True)
class CaseReader:
    """Labelled images of a cohort, each seen through its domain's window."""

    scans: tuple[Study, ...]
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """By name; of those that are missing the segmenter's own serves."""

    def __call__(self, config: SegmenterConfig) -> list[Labelled]:
        """Read them on a segmenter's grid."""
        cache = Cache(default_folder())
        cases = {
            scan: read_labelled(scan, self.domains.get(scan.domain, config.domain), config.grid, config.labels, cache)
            for scan in dict.fromkeys(self.scans)
        }
        return [cases[scan] for scan in self.scans]


@dataclass(frozen=True)
class TestImage:
    """A labelled image of a test subject."""

    scan: Study
    keys: Mapping[str, str] = field(default_factory=dict)
    """Of its rows, beside the subject: ``test_set``."""
    domain: Domain | None = None
    """By which it is seen; None is the segmenter's own."""
    file: str | None = None
    """What its label map is called; None keeps none."""

    def label_maps(self, folder: str) -> dict[str, str]:
        """Where its true and its found label map lie, below a segmenter's folder."""
        return {"truth": f"{folder}/{TRUTH}/{self.file}", "label_map": f"{folder}/{LABEL_MAPS}/{self.file}"}


@dataclass(frozen=True)
class SegmenterRun:
    """One training of a study."""

    keys: Mapping[str, str | int]
    """Of its rows, as ``arm`` and ``seed``."""
    config: SegmenterConfig
    seed: int
    train: Cases
    validation: Cases
    """What chooses its epoch, or only tells."""
    origin: Origin
    extra: Cases | None = None
    """More to learn from, such as synthetic cases."""
    extra_share: float = 0.0
    """Share of the patches that are drawn from these."""
    test: tuple[TestImage, ...] = ()
    lesions: tuple[str, ...] = ()
    """Labels whose parts are counted one by one."""


def train(context: Context, segmenter: SegmenterRun) -> None:
    """Train from the state that is there, unless that is done."""
    if (context.folder / SCORE).is_file():
        return
    config = segmenter.config
    task = segmenter_task(
        segmenter.train(config), segmenter.validation(config), config, seed=segmenter.seed,
        extra=segmenter.extra(config) if segmenter.extra else (), extra_share=segmenter.extra_share,
    )  # fmt: skip
    trained = fitted(context, task, config.fit.precision, segmenter.origin).description
    write_json(context.folder / SCORE, {"val_dice": trained.metrics.get("val/dice"), "epoch": trained.epoch})


def fitted(context: Context, task: Training[D], precision: Precision, origin: Origin) -> Model[D]:
    """Train in the task's folder, from wherever that was left."""
    fabric, recorder = make_fabric(context.device, precision), Recorder(context.folder, context.tracker)
    return task.train(context.folder, fabric, recorder=recorder, resume=context.resume, origin=origin)


def _train_and_test(context: Context, segmenter: SegmenterRun) -> pd.DataFrame:
    """Train, segment the test images and compare them with their masks; a row a subject and organ.

    A subject's images are averaged: the subject is the unit of evidence.
    """
    train(context, segmenter)
    model, fabric = read_model(context.folder / "model", SegmenterDescription), make_fabric(context.device, "32")
    images = pd.DataFrame(
        [row for image in segmenter.test for row in _figures(context, segmenter, model, image, fabric)]
    )
    names = [column for column in images.columns if column not in METRICS]
    rows = images.groupby(names, sort=False, as_index=False)[list(METRICS)].mean()
    for place, (key, value) in enumerate(segmenter.keys.items()):
        rows.insert(place, key, value)
    if context.tracker:
        means = rows.groupby([name for name in names if name != "subject"], sort=False)[list(METRICS)].mean().stack()
        figures = {f"test/{'/'.join(key[:-1])}_{key[-1]}": value for key, value in means.items()}
        context.tracker.metrics({key: value for key, value in figures.items() if not np.isnan(value)}, step=0)
    return rows


def _figures(
    context: Context, segmenter: SegmenterRun, model: SegmenterModel, image: TestImage, fabric: Any
) -> list[dict[str, Any]]:
    """The figures of one test image, organ by organ; its label map is kept where it has a name."""
    assert image.scan.mask is not None
    volume = read_volume(image.scan.image)
    truth = merged(read_volume(image.scan.mask), segmenter.config.labels)
    labels = segment_study(_seen_as(model, image.domain) if image.domain else model, volume, fabric)
    if image.file:
        write_volume(labels, volume.grid, context.folder / LABEL_MAPS / image.file, np.uint8)
        write_volume(truth, volume.grid, context.folder / TRUTH / image.file, np.uint8)
    scores = score_labels(labels, truth, model.description.names, volume.grid.spacing_mm, lesions=segmenter.lesions)
    return [{"subject": image.scan.subject, **image.keys, "organ": organ} | own for organ, own in scores.items()]


def _seen_as(model: SegmenterModel, domain: Domain) -> SegmenterModel:
    """The model looking at a scan of this domain: in a study across modalities each image has a window of its own."""
    config = model.description.config.model_copy(update={"domain": domain})
    return replace(model, description=model.description.model_copy(update={"config": config}))


def score(folder: Path) -> float | None:
    """Mean validation Dice of the segmenter in a folder; None where it is not trained."""
    value = read_json(folder / SCORE).get("val_dice")
    return None if value is None else float(value)


def outcome(folder: Path) -> str:
    """What is said of a segmenter that is done."""
    dice = score(folder)
    return "done" if dice is None else f"validation Dice {dice:.3f}"


def _read_curves(folders: Mapping[Path, Mapping[str, str | int]], keys: Sequence[str]) -> pd.DataFrame:
    """Validation Dice by epoch: ``keys``, ``epoch``, ``val_dice`` of the segmenters in folders with these keys."""
    columns, frames = [*keys, "epoch", "val_dice"], []
    for folder, own in folders.items():
        path = folder / "metrics.csv"
        if path.is_file() and "val/dice" in (metrics := pd.read_csv(path)):
            frame = metrics[["epoch", "val/dice"]].dropna().rename(columns={"val/dice": "val_dice"})
            frames.append(frame.astype({"epoch": int}).assign(**own)[columns])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def means(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Every metric over test subjects: ``keys``, ``metric, mean, lower, upper, n``.

    Trainings of one subject, by seed or subset, are no independent evidence, so they are averaged before anything is
    estimated.
    """
    estimates = []
    by_subject = rows.groupby([*keys, "subject"], sort=False)[list(METRICS)].mean()
    for key, own in by_subject.groupby(level=list(keys), sort=False):
        for metric in METRICS:
            interval = t_interval(own[metric])
            if interval.n:
                estimates.append(dict(zip(keys, key, strict=True)) | {"metric": metric} | asdict(interval))
    return pd.DataFrame(estimates, columns=[*keys, "metric", "mean", "lower", "upper", "n"])


def _best_ratio(scores: Mapping[int, float]) -> int:
    """The ratio above 0 with the highest validation Dice; of equal ones the lowest."""
    return min((ratio for ratio in scores if ratio), key=lambda ratio: (-scores[ratio], ratio))


def budget_of(config: SegmenterConfig) -> dict[str, int]:
    """How long each segmenter of a study is trained."""
    fit = config.fit
    return {"iterations": fit.epochs * fit.iterations_per_epoch, "batch_size": fit.batch_size}


def _share_of(ratio_percent: int) -> float:
    """Share of patches from extra cases with so many of them for a hundred real ones: 100 % is one half."""
    return ratio_percent / (100 + ratio_percent)


@dataclass(frozen=True)
class Arm:
    """What one segmenter is trained on; network, steps and batches are the same in all arms."""

    name: str
    extra: str | None
    """What the share of patches that the ratio gives is drawn from instead, two kinds with a + between them; None has
    one kind of images alone."""
    standard: bool
    """Whether patches are varied as segmenters usually are: affine, mirroring, gamma, contrast, noise."""
    reference: str | None
    """The arm that it is compared with; None for the first."""
    images: str = "source"
    """What the other patches are drawn from."""
    shuffled: bool = False
    """Whether extra images have the labels of other ones."""

    @property
    def kinds(self) -> set[str]:
        """Everything that it needs."""
        return {self.images, *self.extra.split("+")} if self.extra else {self.images}

    @property
    def translates(self) -> bool:
        """Whether it needs a translator."""
        return bool({"synthetic", "shuffled", "strengths"} & self.kinds)


class ArmsConfig(Config):
    """What is compared, and how the ratio of extra to real images is chosen."""

    if TYPE_CHECKING:  # each study declares them in its own order, with its own defaults
        arms: tuple[str, ...]
        ratios_percent: tuple[int, ...]
        lesions: tuple[str, ...]
        phantom_subjects: int
        segmenter: dict[str, Any]

    known: ClassVar[Mapping[str, Arm]]
    """All arms by name, in the order of every table."""
    further: ClassVar[Sequence[tuple[str, str]]]
    """Comparisons beside each arm's own."""
    shorter: ClassVar[str]
    """Settings that make the study short, to advise where no short form is shipped."""

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
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
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """Arm and reference, of those that are trained."""
        pairs = [*((name, self.known[name].reference) for name in self.arms), *self.further]
        return tuple((arm, other) for arm, other in pairs if arm in self.arms and other in self.arms)


C = TypeVar("C", bound=ArmsConfig)


def layered(schema: type[C], order: StudyOrder) -> C:
    """The settings of a study: defaults, what is shipped for its pipeline, then the user's; a later one wins.

    ``NAME_benefit.yaml`` is shipped for a pipeline ``NAME``, and ``_phantom`` and ``_quick`` go over it.

    Raises:
        ConfigError: Settings that cannot be, or a form that is asked for and not shipped: a study would be as long as
            without ``--quick``, or segment all tissues of the phantom.
    """
    on_phantom, own = order.data is None, f"{order.pipeline}_benefit"
    if order.quick and not shipped(f"{own}_quick"):
        raise ConfigError(
            f"no short form of a study of '{order.pipeline}' is shipped; leave --quick out and say what is shorter, as "
            f"{schema.shorter}."
        )
    forms = [own, *([f"{own}_phantom"] * on_phantom), *([f"{own}_quick"] * order.quick)]
    config = load(schema, *filter(None, map(shipped, forms)), *user_layers(order.config, order.overrides))
    if on_phantom and not shipped(f"{own}_phantom") and "labels" not in config.segmenter:
        raise ConfigError(
            f"no settings are shipped for a study of '{order.pipeline}' on the built-in phantom, whose every tissue "
            "has its own label; give a cohort with masks by --data, or say what is segmented, as segmenter.labels="
            "{NAME: [N]} (`medgan data phantom` lists the numbers in labels.json)."
        )
    return config


class BenefitStudy(StudyKind):
    """One segmenter an arm and training, compared on the same test subjects."""

    metrics = METRICS
    default_seeds = (0, 1, 2)
    within: ClassVar[str] = ""
    """What the names of the segmenters' folders begin with."""
    told_apart: ClassVar[tuple[str, ...]]
    """Keys of a segmenter in the table of learning curves."""
    config: ArmsConfig
    arms: Sequence[Arm]
    """Those that are trained."""
    cohort: Cohort
    guard: Guard
    split: Split
    segmenter: SegmenterConfig
    tested: dict[str, SegmenterRun]
    """By folder, those whose rows are the study's."""

    def described(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
        """The description, with what only this study has in two places."""
        return {
            **super().description,
            "quick": self.order.quick,
            **first,
            "budget": budget_of(self.segmenter),
            "split_hash": self.split.hash,
            "subjects": {part: len(getattr(self.split, part)) for part in ("train", "validation", "test")},
            **second,
            "organs": {organ: number for number, organ in enumerate(self.segmenter.labels, start=1)},
            "settings": self.config.model_dump(mode="json"),
            "segmenter": self.segmenter.model_dump(mode="json"),
        }

    def freeze(self, split: Split) -> None:
        """Go on with a split, or with that which the study was begun with, and keep who is tested out of trainings."""
        self.split = freeze_split(self.order.folder / "split.json", split, self.guard.tested)
        self.tags = {"split_hash": self.split.hash, "data_fingerprint": self.cohort.fingerprint()}

    def notes(self) -> Sequence[str]:
        """See ``StudyKind``."""
        return [*super().notes(), *([QUICK_NOTE] if self.order.quick else [])]

    def segmenter_config(self, lesions: Sequence[str], **otherwise: Any) -> SegmenterConfig:
        """The segmenter's settings, and what serves where they say nothing; ``lesions`` must be among the labels."""
        own = load(SegmenterConfig, {**otherwise, **self.config.segmenter})
        if unknown := [name for name in lesions if name not in own.labels]:
            raise ConfigError(f"lesions names {', '.join(unknown)}, and the labels are {', '.join(own.labels)}.")
        return own

    def rendered(self, pipeline: Pipeline[Any]) -> Path:
        """The folder of the study's phantom, rendered once."""
        return pipeline.rendered(self.config.phantom_subjects, PHANTOM_SEED, KINDS[pipeline.phantom].shape)

    def _test_images(self) -> Iterable[TestImage]:
        """The labelled images of the test subjects."""
        raise NotImplementedError

    def arm_task(
        self, arm: Arm, keys: Mapping[str, str | int], place: str, learnt: tuple[Cases, Cases, Cases | None],
        inputs: Mapping[str, Any], scans: Iterable[Study], *, test: bool,
    ) -> Task:  # fmt: skip
        """The training of an arm's segmenter, and its test.

        Args:
            arm: The arm.
            keys: Of its rows, ``seed`` and ``ratio_percent`` among them.
            place: What tells it from the arm's others, for its folder's name.
            learnt: What it learns from, what validates it, and the extra images.
            inputs: All that these depend on.
            scans: All that it would see.
            test: Without, it is trained to choose the ratio, and no test subject is touched.
        """
        keys = {"arm": arm.name, **keys} if arm.extra else {"arm": arm.name, **keys, "ratio_percent": 0}
        ratio, (own, validation, extra) = int(keys["ratio_percent"]), learnt
        name = self.within + ",".join([arm.name, *([f"ratio={ratio}"] if ratio else []), place])
        segmenter = SegmenterRun(
            keys, self.segmenter.model_copy(update={"augmentation": "standard" if arm.standard else "none"}),
            int(keys["seed"]), own, validation, Origin.of(self.split, phantom=self.phantom), extra, _share_of(ratio),
            tuple(self._test_images()), self.config.lesions,
        )  # fmt: skip
        settings = segmenter.config.model_dump(mode="json")
        begun = {**keys, "split_hash": self.split.hash, **inputs, "lesions": list(self.config.lesions)}
        if test:
            self.tested[name] = segmenter
        return Task(
            name, {**begun, "segmenter": settings}, _train_and_test if test else train, (segmenter,),
            ROWS if test else SCORE, {**settings, **keys}, {"arm": arm.name}, tuple(scans), outcome,
        )  # fmt: skip

    def tried(self, swept: str) -> dict[int, Arm]:
        """What is trained to choose an arm's ratio, by ratio: 0 is its reference, where that is trained."""
        arm, known = self.config.known[swept], self.config.known
        arms = dict.fromkeys(self.config.ratios, arm)
        with_none = 0 in self.config.ratios_percent and arm.reference in [own.name for own in self.arms]
        return {0: known[arm.reference]} | arms if with_none and arm.reference else arms

    def choose(
        self, tried: Mapping[str, Mapping[int, Sequence[Task]]]
    ) -> Generator[Sequence[Task], Sequence[TaskFailure], tuple[dict[str, tuple[int, dict[int, float]]], str]]:
        """Train all that is tried, by name and ratio, and take the ratio above 0 with the best mean validation Dice.

        What is tried under several names is trained once. A ratio of which a training failed is no choice.

        Returns:
            By name the ratio, and Dice by ratio, but for names of which no ratio could be trained; and why not.
        """
        once = {task.name: task for own in tried.values() for tasks in own.values() for task in tasks}
        failures = yield list(once.values())
        chosen = {}
        for name, own in tried.items():
            scores = {ratio: [score(self.order.folder / task.name) for task in tasks] for ratio, tasks in own.items()}
            means = {ratio: float(np.array(known, dtype=np.float64).mean()) for ratio, known in scores.items()}
            dice = {ratio: mean for ratio, mean in means.items() if not np.isnan(mean)}
            if any(dice):
                chosen[name] = _best_ratio(dice), dice
                listed = ", ".join(f"{ratio} % {mean:.4f}" for ratio, mean in dice.items())
                label = f"{name}: ratio" if name else "ratio:"
                self.console.out(f"{label} {chosen[name][0]} %, by validation Dice ({listed})", highlight=False)
        return chosen, "; ".join(f"{failure.child}: {failure.reason}" for failure in failures)

    def concluded(
        self, record: Mapping[str, Any], compared: pd.DataFrame, shown: Iterator[RenderableType], **more: Any
    ) -> StudySummary:
        """What follows from the rows, with what all these studies write and print beside it."""
        folders = {self.order.folder / name: segmenter.keys for name, segmenter in self.tested.items()}
        curves = _read_curves(folders, self.told_apart)
        note = [Text(QUICK_NOTE, style="yellow")] if self.order.quick else []
        # What names subjects stays on this disk.
        tables = {COMPARISONS: compared, CURVES: curves}
        return StudySummary(
            record, tables, [*shown, *note], comparisons=compared, artifacts=[CURVES, COMPARISONS], **more
        )
