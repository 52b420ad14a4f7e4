"""One segmenter of a benefit study from wherever it was left to its figures: trained, then tested, each step once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from medgan.benefit.arms import Arm
from medgan.benefit.judge import FIGURES, judge_child
from medgan.benefit.material import Material
from medgan.benefit.plan import BenefitPlan
from medgan.data.cache import Cache, default_folder
from medgan.data.streams import replacing
from medgan.data.studies import Study
from medgan.data.volumes import file_hash
from medgan.errors import ConfigError, LeakageError
from medgan.segmentation.labelled import Labelled, read_labelled
from medgan.segmentation.model import Origin
from medgan.segmentation.settings import SegmenterConfig
from medgan.segmentation.training import train_segmenter
from medgan.tracking import Tracker, code_revision
from medgan.training.device import make_fabric
from medgan.training.recorder import Recorder

IDENTITY, SCORE = "child.json", "validation.json"
"""In a child's folder: what it is, from its beginning; what validation said, when it is trained."""


@dataclass(frozen=True)
class Child:
    """One segmenter: an arm with a seed, a subset of subjects and a ratio."""

    arm: Arm
    seed: int
    subset: int
    ratio_percent: int
    """Extra images for a hundred real ones; 0 where the arm has none."""
    folder: Path

    @property
    def name(self) -> str:
        """How people and folders call it."""
        return self.folder.name

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return (self.folder / SCORE).is_file()

    @property
    def finished(self) -> bool:
        """Whether its figures are there."""
        return (self.folder / FIGURES).is_file()

    @property
    def score(self) -> float:
        """Mean Dice of the validation subjects, of a child that is trained."""
        return float(json.loads((self.folder / SCORE).read_text())["val_dice"])


def child_of(plan: BenefitPlan, arm: Arm, *, seed: int, subset: int, ratio_percent: int) -> Child:
    """The child of a plan, and its folder."""
    ratio = ratio_percent if arm.extra else 0
    parts = [arm.name, *([f"ratio={ratio}"] if ratio else []), f"seed={seed}", f"subset={subset}"]
    return Child(arm, seed, subset, ratio, plan.order.folder / ",".join(parts))


@dataclass(frozen=True)
class Task:
    """All that a process must know to bring a child to its end."""

    plan: BenefitPlan
    child: Child
    material: Material
    parent: str
    """The MLflow run of the study."""
    tracking: str
    test: bool = True
    """Whether the test subjects are segmented, too; the ratio is chosen without them."""

    @property
    def config(self) -> SegmenterConfig:
        """The segmenter's settings in this arm."""
        augmentation = "standard" if self.child.arm.standard else "none"
        return self.plan.segmenter.model_copy(update={"augmentation": augmentation})

    @property
    def studies(self) -> tuple[Study, ...]:
        """Labelled images to learn from."""
        return self.material.train[self.child.arm.images]

    @property
    def extra(self) -> tuple[Study, ...]:
        """Labelled images for the extra share of patches."""
        return self.material.train[self.child.arm.extra] if self.child.arm.extra else ()

    @property
    def validation(self) -> tuple[Study, ...]:
        """What chooses the epoch."""
        return self.material.validates(self.child.arm)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.child.finished or (self.child.trained and not self.test)


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
            origin=Origin(split_hash=plan.subjects.split.hash, phantom=plan.phantom),
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


def identity(task: Task) -> dict[str, Any]:
    """What a child's folder must have been begun with to be this child: settings, images, labels and split."""
    images = {
        kind: sorted(f"{study.subject} {file_hash(study.image)} {_mask_hash(study)}" for study in studies)
        for kind, studies in (("train", task.studies), ("extra", task.extra), ("validation", task.validation))
    }
    hashed = {kind: hashlib.sha256("\n".join(lines).encode()).hexdigest() for kind, lines in images.items()}
    return {
        "arm": task.child.arm.name,
        "seed": task.child.seed,
        "subset": task.child.subset,
        "ratio_percent": task.child.ratio_percent,
        "split_hash": task.plan.subjects.split.hash,
        "segmenter": task.config.model_dump(mode="json"),
        "images": hashed,
    }


def _mask_hash(study: Study) -> str:
    return file_hash(study.mask) if study.mask else ""


def check_identity(task: Task) -> dict[str, Any]:
    """What a child was begun with; nothing where it was not begun.

    Raises:
        LeakageError: It was begun under another split, and may have seen who is tested now.
        ConfigError: It was begun with other settings or other images.
    """
    path = task.child.folder / IDENTITY
    begun = read_json(path)
    if not begun:
        return {}
    now = identity(task)
    if begun.get("split_hash") != now["split_hash"]:
        raise LeakageError(
            f"{task.child.folder} was begun under another split of the subjects and may have seen who is tested now; "
            "put that folder away, or choose another --name."
        )
    changed = [key for key, value in json.loads(json.dumps(now)).items() if begun.get(key) != value]
    if changed:
        raise ConfigError(
            f"{task.child.folder} was begun with other {' and '.join(changed)}; choose another --name, or put that "
            "folder away."
        )
    return begun


def read_json(path: Path) -> dict[str, Any]:
    """A record that the study wrote; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{path}: is not JSON; put its folder away, and that part is done anew.") from None
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a record in one step."""
    with replacing(path) as stream:
        stream.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
