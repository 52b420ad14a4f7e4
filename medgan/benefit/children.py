"""One segmenter of a benefit study from wherever it was left to its figures: trained, then tested, each step once."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from medgan.benefit.identity import check_identity, identity
from medgan.benefit.judge import judge_child
from medgan.benefit.records import read_json, write_json
from medgan.benefit.segmenters import IDENTITY, SCORE
from medgan.benefit.tasks import Task
from medgan.data.cache import Cache, default_folder
from medgan.data.studies import Study
from medgan.segmentation.labelled import Labelled, read_labelled
from medgan.segmentation.training import train_segmenter
from medgan.tracking import Tracker, code_revision
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin
from medgan.training.recorder import Recorder


def run_child(task: Task) -> None:
    """Train a segmenter, unless that is done, and test it, if that is asked for.

    Raises:
        LeakageError: It would see a test subject, or has seen one under the split that it was begun with.
        MedganError: Whatever keeps it from its figures.
        KeyboardInterrupt: Asked to stop.
    """
    child, plan = task.child, task.plan
    plan.guard.admit([*task.studies, *task.extra, *task.validation], f"the training of {child.name}")
    begun = check_identity(task)
    if not child.trained:
        train_child(task, begun)
    if task.test and not child.finished:
        judge_child(plan, child, task.tracking, read_json(child.folder / IDENTITY)["mlflow_run_id"])


def train_child(task: Task, begun: dict[str, Any]) -> None:
    """Train from the state that is there, as a child of the study's MLflow run."""
    plan, child, config = task.plan, task.child, task.config
    cache = Cache(default_folder())
    train, extra, validation = (_read(task, each, cache) for each in (task.studies, task.extra, task.validation))
    with _tracker(task, begun) as tracker:
        write_json(child.folder / IDENTITY, identity(task) | {"mlflow_run_id": tracker.id})
        model = train_segmenter(
            train,
            validation,
            config,
            seed=child.seed,
            folder=child.folder,
            fabric=make_fabric(plan.order.device, config.fit.precision),
            recorder=Recorder(child.folder, tracker, Console(quiet=True)),
            resume=bool(begun),
            extra=extra,
            extra_share=child.arm.share(child.ratio_percent),
            origin=Origin.of(plan.subjects.split, phantom=plan.phantom),
        )
    found = model.description
    write_json(child.folder / SCORE, {"val_dice": found.metrics["val/dice"], "epoch": found.epoch})


def _read(task: Task, studies: Sequence[Study], cache: Cache) -> list[Labelled]:
    config = task.plan.segmenter
    return [
        read_labelled(study, task.plan.domain(study.domain), config.grid, config.labels, cache) for study in studies
    ]


def _tracker(task: Task, begun: dict[str, Any]) -> Tracker:
    child, plan = task.child, task.plan
    return Tracker.start(
        task.tracking,
        experiment=plan.order.pipeline,
        run_name=child.name,
        parameters=task.config.model_dump(mode="json") | {"seed": child.seed, "ratio_percent": child.ratio_percent},
        tags={
            "pipeline": plan.order.pipeline,
            "study": "benefit",
            "arm": child.arm.name,
            "subset": str(child.subset),
            "split_hash": plan.subjects.split.hash,
            "git_revision": code_revision(),
        },
        run_id=begun.get("mlflow_run_id"),
        parent=task.parent,
    )
