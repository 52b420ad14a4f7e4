"""A segmenter that a study trains and tests: what it learns from, the training, the figures of its test images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medgan.data.cache import Cache, default_folder
from medgan.data.domains import Domain
from medgan.data.streams import write_json
from medgan.data.studies import Study as Scan
from medgan.data.volumes import read_volume, write_volume
from medgan.evaluation.segmentation import METRICS, score_labels
from medgan.evaluation.statistics import t_interval
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import Labelled, merged, read_labelled
from medgan.segmentation.segmenter import segmenter_task
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription, SegmenterModel
from medgan.studies.base import Context, Task
from medgan.studies.engine import read_json
from medgan.studies.rows import ROWS
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model
from medgan.training.recorder import Recorder

SCORE, LABEL_MAPS, TRUTH = "validation.json", "test", "truth"
"""In a segmenter's folder: what validation said, when it is trained; its label maps of the test images,
and the true ones as it numbers its labels."""

Cases = Callable[[SegmenterConfig], list[Labelled]]
"""Labelled images on a segmenter's grid, read where they are needed; it pickles."""


@dataclass(frozen=True)
class Scans:
    """Labelled images of a cohort, each seen through its domain's window."""

    scans: tuple[Scan, ...]
    domains: Mapping[str, Domain] = field(default_factory=dict)
    """By name; of those that are missing the segmenter's own serves."""

    def __call__(self, config: SegmenterConfig) -> list[Labelled]:
        """Read them on a segmenter's grid."""
        cache = Cache(default_folder())
        return [
            read_labelled(scan, self.domains.get(scan.domain, config.domain), config.grid, config.labels, cache)
            for scan in self.scans
        ]


@dataclass(frozen=True)
class TestImage:
    """A labelled image of a test subject."""

    scan: Scan
    keys: Mapping[str, str] = field(default_factory=dict)
    """Of its rows, beside the subject: ``test_set``."""
    domain: Domain | None = None
    """By which it is seen; None is the segmenter's own."""
    file: str | None = None
    """What its label map is called; None keeps none."""


@dataclass(frozen=True)
class Segmenter:
    """One training of a study.

    Args:
        keys: Of its rows, as ``arm`` and ``seed``.
        config: Its settings.
        seed: Of weights and patches.
        train: What it learns from.
        validation: What chooses its epoch, or only tells.
        origin: Where the subjects come from.
        extra: More to learn from, such as synthetic cases.
        extra_share: Share of the patches that are drawn from ``extra``.
        test: The test images.
        lesions: Labels whose parts are counted one by one.
    """

    keys: Mapping[str, str | int]
    config: SegmenterConfig
    seed: int
    train: Cases
    validation: Cases
    origin: Origin
    extra: Cases | None = None
    extra_share: float = 0.0
    test: tuple[TestImage, ...] = ()
    lesions: tuple[str, ...] = ()

    def task(self, name: str, inputs: Mapping[str, Any], *, scans: Iterable[Scan] = (), test: bool = True) -> Task:
        """The task that trains it and, with ``test``, tests it; without, what chooses between settings stops there.

        Args:
            name: Its folder.
            inputs: All that the training depends on, beside the keys and settings.
            scans: What it would see.
            test: Whether the test images are segmented.
        """
        settings = self.config.model_dump(mode="json")
        return Task(
            name,
            {**self.keys, **inputs, "lesions": list(self.lesions), "segmenter": settings},
            train_and_test if test else train,
            (self,),
            product=ROWS if test else SCORE,
            parameters={**settings, **self.keys},
            tags={"arm": str(self.keys["arm"])} if "arm" in self.keys else {},
            scans=tuple(scans),
            outcome=outcome,
        )


def train(context: Context, segmenter: Segmenter) -> None:
    """Train from the state that is there, unless that is done."""
    if (context.folder / SCORE).is_file():
        return
    config = segmenter.config
    extra = segmenter.extra(config) if segmenter.extra else ()
    task = segmenter_task(
        segmenter.train(config), segmenter.validation(config), config, seed=segmenter.seed, extra=extra,
        extra_share=segmenter.extra_share,
    )  # fmt: skip
    model = task.train(
        context.folder,
        make_fabric(context.device, config.fit.precision),
        recorder=Recorder(context.folder, context.tracker),
        resume=context.resume,
        origin=segmenter.origin,
    )
    trained = model.description
    write_json(context.folder / SCORE, {"val_dice": trained.metrics.get("val/dice"), "epoch": trained.epoch})


def train_and_test(context: Context, segmenter: Segmenter) -> pd.DataFrame:
    """Train, segment the test images and compare them with their masks; a row a subject and organ.

    A subject's images are averaged: the subject is the unit of evidence.

    Raises:
        DataError: A test image or mask that cannot be read.
        ModelError: A model that is incomplete or altered.
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
    context: Context, segmenter: Segmenter, model: SegmenterModel, image: TestImage, fabric: Any
) -> list[dict[str, Any]]:
    """The figures of one test image, organ by organ; its label map is kept where it has a name."""
    assert image.scan.mask is not None
    volume = read_volume(image.scan.image)
    truth = merged(read_volume(image.scan.mask), segmenter.config.labels)
    labels = segment_study(seen_as(model, image.domain) if image.domain else model, volume, fabric)
    if image.file:
        write_volume(labels, volume.grid, context.folder / LABEL_MAPS / image.file, np.uint8)
        write_volume(truth, volume.grid, context.folder / TRUTH / image.file, np.uint8)
    scores = score_labels(labels, truth, model.description.names, volume.grid.spacing_mm, lesions=segmenter.lesions)
    return [{"subject": image.scan.subject, **image.keys, "organ": organ} | own for organ, own in scores.items()]


def seen_as(model: SegmenterModel, domain: Domain) -> SegmenterModel:
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


def read_curves(folders: Mapping[Path, Mapping[str, str | int]], keys: Sequence[str]) -> pd.DataFrame:
    """Validation Dice by epoch: ``keys``, ``epoch``, ``val_dice``.

    Args:
        folders: Of segmenters, each with the keys of its rows.
        keys: Those that are kept.
    """
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


def best_ratio(scores: Mapping[int, float]) -> int:
    """The ratio above 0 with the highest validation Dice; of equal ones the lowest."""
    return min((ratio for ratio in scores if ratio), key=lambda ratio: (-scores[ratio], ratio))


def budget_of(config: SegmenterConfig) -> dict[str, int]:
    """How long each segmenter of a study is trained."""
    fit = config.fit
    return {"iterations": fit.epochs * fit.iterations_per_epoch, "batch_size": fit.batch_size}


def share_of(ratio_percent: int) -> float:
    """Share of patches from extra cases with so many of them for a hundred real ones: 100 % is one half."""
    return ratio_percent / (100 + ratio_percent)
