"""One segmenter from wherever it was left to its figures: trained, then tested, each step once."""

from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medgan.benefit.augmentation.cases import read_record
from medgan.benefit.augmentation.generators import real_cases
from medgan.benefit.augmentation.material import synthetic_cases
from medgan.benefit.augmentation.tasks import Task
from medgan.benefit.identity import check_begun, content_hash
from medgan.benefit.records import read_json, write_json
from medgan.benefit.segmenters import FIGURES, IDENTITY, SCORE
from medgan.data.streams import write_csv
from medgan.data.volumes import read_volume
from medgan.evaluation.segmentation import METRICS, score_labels
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import Labelled, merged
from medgan.segmentation.settings import SegmenterDescription
from medgan.segmentation.training import train_segmenter
from medgan.tracking import Tracker, add_metrics, code_revision
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model
from medgan.training.recorder import Recorder

KEYS = ("arm", "size", "seed", "ratio_percent", "subject", "organ")


def run_child(task: Task) -> None:
    """Train a segmenter, unless that is done, and test it, if that is asked for.

    Raises:
        LeakageError: It would see a test subject, or has seen one under the split that it was begun with.
        MedganError: Whatever keeps it from its figures.
        KeyboardInterrupt: Asked to stop.
    """
    child, plan = task.child, task.plan
    plan.guard.admit([*task.studies, *plan.part("validation")], f"the training of {child.name}")
    begun = check_identity(task)
    if not child.trained:
        train_child(task, begun)
    if task.test and not child.finished:
        judge_child(task)


def check_identity(task: Task) -> dict[str, Any]:
    """What a child was begun with; see :func:`medgan.benefit.identity.check_begun`."""
    return check_begun(task.child.folder, read_json(task.child.folder / IDENTITY), identity(task))


def identity(task: Task) -> dict[str, Any]:
    """What a child's folder must have been begun with to be this child: settings, images, synthetic cases and split."""
    plan, child = task.plan, task.child
    return child.facts | {
        "split_hash": plan.split.hash,
        "lesions": list(plan.config.lesions),
        "segmenter": task.config.model_dump(mode="json"),
        "images": content_hash(task.studies),
        "synthetic": read_record(task.extra).get("sha256") if task.extra else None,
    }


def train_child(task: Task, begun: dict[str, Any]) -> None:
    """Train from the state that is there, as a child of the study's MLflow run."""
    plan, child, config = task.plan, task.child, task.config
    with _tracker(task, begun) as tracker:
        write_json(child.folder / IDENTITY, identity(task) | {"mlflow_run_id": tracker.id})
        model = train_segmenter(
            real_cases(plan, task.studies),
            real_cases(plan, plan.part("validation")),
            config,
            seed=child.draw.seed,
            folder=child.folder,
            fabric=make_fabric(plan.order.device, config.fit.precision),
            recorder=Recorder(child.folder, tracker, Console(quiet=True)),
            resume=bool(begun),
            extra=extra_cases(task),
            extra_share=child.arm.share(child.ratio_percent),
            origin=Origin.of(plan.split, phantom=plan.phantom),
        )
    found = model.description
    write_json(child.folder / SCORE, {"val_dice": found.metrics["val/dice"], "epoch": found.epoch})


def extra_cases(task: Task) -> list[Labelled]:
    """The synthetic cases of an arm that has any."""
    arm = task.child.arm
    if arm.method is None:
        return []
    return synthetic_cases(task.plan, arm.method, task.child.draw, exchanged=arm.shuffled)


def judge_child(task: Task) -> None:
    """Segment the test subjects, compare with their masks, and write the figures last.

    Raises:
        DataError: A test image or mask that cannot be read.
        ModelError: A model that is incomplete or altered.
    """
    plan, child = task.plan, task.child
    model = read_model(child.folder / "model", SegmenterDescription)
    fabric = make_fabric(plan.order.device, "32")
    rows = []
    for study in plan.part("test"):
        assert study.mask is not None
        volume = read_volume(study.image)
        truth = merged(read_volume(study.mask), plan.segmenter.labels)
        found = segment_study(model, volume, fabric)
        names, spacing = model.description.names, volume.grid.spacing_mm
        scores = score_labels(found, truth, names, spacing, lesions=plan.config.lesions)
        rows += [child.facts | {"subject": study.subject, "organ": organ} | own for organ, own in scores.items()]
    table = pd.DataFrame(rows)
    means = table.groupby("organ")[list(METRICS)].mean().stack()
    run_id = read_json(child.folder / IDENTITY)["mlflow_run_id"]
    add_metrics(
        task.tracking, run_id, {f"test/{organ}_{metric}": v for (organ, metric), v in means.items() if not np.isnan(v)}
    )
    write_csv(child.folder / FIGURES, table)


def _tracker(task: Task, begun: dict[str, Any]) -> Tracker:
    child, plan = task.child, task.plan
    return Tracker.start(
        task.tracking,
        experiment=plan.order.pipeline,
        run_name=child.name,
        parameters=task.config.model_dump(mode="json") | child.facts,
        tags={
            "pipeline": plan.order.pipeline,
            "study": "augmentation",
            "arm": child.arm.name,
            "split_hash": plan.split.hash,
            "git_revision": code_revision(),
        },
        run_id=begun.get("mlflow_run_id"),
        parent=task.parent,
    )
