"""The generator of a draw: trained on its few subjects alone, once, and resumable."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.benefit.augmentation.tasks import generator_folder
from medgan.benefit.identity import check_begun, content_hash
from medgan.benefit.records import read_json, write_json
from medgan.benefit.segmenters import IDENTITY
from medgan.data.cache import Cache, default_folder
from medgan.data.studies import Study
from medgan.errors import LeakageError
from medgan.segmentation.labelled import Labelled, read_labelled
from medgan.synthesis.training import GeneratorDescription, GeneratorModel, train_generator
from medgan.tracking import Tracker, code_revision
from medgan.training.device import make_fabric
from medgan.training.model_folder import CARD, Origin, read_model
from medgan.training.recorder import Recorder


@dataclass(frozen=True)
class GeneratorChild:
    """The generator of one draw."""

    draw: Draw
    folder: Path

    @property
    def name(self) -> str:
        """How people call it."""
        return f"generator,{self.draw.name}"

    @property
    def model(self) -> Path:
        """Its model folder, when it is trained."""
        return self.folder / "model"

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return (self.model / CARD).is_file()

    @property
    def outcome(self) -> str:
        """What is said of it when it has ended."""
        metrics = read_model(self.model, GeneratorDescription).description.metrics
        return ", ".join(f"{key} {value:.4g}" for key, value in sorted(metrics.items())) or "trained"


@dataclass(frozen=True)
class GeneratorTask:
    """All that a process must know to train a generator."""

    plan: AugmentationPlan
    child: GeneratorChild
    parent: str
    """The MLflow run of the study."""
    tracking: str

    @property
    def studies(self) -> tuple[Study, ...]:
        """Labelled images to learn from."""
        return self.plan.studies(self.child.draw)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.child.trained


def generator_task(plan: AugmentationPlan, draw: Draw, parent: str, tracking: str) -> GeneratorTask:
    """The task of a draw's generator."""
    return GeneratorTask(plan, GeneratorChild(draw, generator_folder(plan, draw)), parent, tracking)


def identity(plan: AugmentationPlan, draw: Draw) -> dict[str, Any]:
    """What a generator's folder must have been begun with to be this draw's."""
    return {
        "size": draw.size,
        "seed": draw.seed,
        "split_hash": plan.split.hash,
        "images": content_hash(plan.studies(draw)),
        "generator": plan.synthesis.model_dump(mode="json"),
    }


def run_generator(task: GeneratorTask) -> None:
    """Train a generator from the state that is there, as a child of the study's MLflow run.

    Validation subjects are looked at to find mode collapse; the last epoch is kept, so that they choose nothing.

    Raises:
        LeakageError: It would see a test subject, or has seen one under the split that it was begun with.
        MedganError: Whatever keeps the training from its end.
        KeyboardInterrupt: Asked to stop.
    """
    plan, child, config = task.plan, task.child, task.plan.synthesis
    plan.guard.admit([*task.studies, *plan.part("validation")], f"the training of {child.name}")
    begun = check_begun(child.folder, read_json(child.folder / IDENTITY), identity(plan, child.draw))
    if child.trained:
        return
    train, validation = (real_cases(plan, studies) for studies in (task.studies, plan.part("validation")))
    with _tracker(task, begun) as tracker:
        write_json(child.folder / IDENTITY, identity(plan, child.draw) | {"mlflow_run_id": tracker.id})
        train_generator(
            train,
            validation,
            config,
            seed=child.draw.seed,
            folder=child.folder,
            fabric=make_fabric(plan.order.device, config.fit.precision),
            recorder=Recorder(child.folder, tracker, Console(quiet=True)),
            resume=bool(begun),
            origin=Origin.of(plan.split, phantom=plan.phantom),
        )


def real_cases(plan: AugmentationPlan, studies: tuple[Study, ...]) -> list[Labelled]:
    """Labelled images on the networks' grid, in their order."""
    cache, config = Cache(default_folder()), plan.segmenter
    return [read_labelled(study, config.domain, config.grid, config.labels, cache) for study in studies]


def trained_generator(plan: AugmentationPlan, draw: Draw) -> GeneratorModel:
    """The generator of a draw, which has seen its subjects and nobody else.

    Raises:
        LeakageError: It has seen others, whose lesions would reach those who shall not have them.
        ConfigError: It was trained with other settings.
        ModelError: It is incomplete or altered.
    """
    folder = generator_folder(plan, draw)
    check_begun(folder, read_json(folder / IDENTITY), identity(plan, draw))
    model = read_model(folder / "model", GeneratorDescription)
    if others := sorted(set(model.description.subjects) - set(draw.subjects)):
        raise LeakageError(
            f"{folder} has learnt from {', '.join(others)}, who are not among the {draw.size} subjects of {draw.name}; "
            "put that folder away."
        )
    return model


def _tracker(task: GeneratorTask, begun: dict[str, Any]) -> Tracker:
    plan, draw = task.plan, task.child.draw
    return Tracker.start(
        task.tracking,
        experiment=plan.order.pipeline,
        run_name=task.child.name,
        parameters=plan.synthesis.model_dump(mode="json") | {"seed": draw.seed, "size": draw.size},
        tags={
            "pipeline": plan.order.pipeline,
            "study": "augmentation",
            "split_hash": plan.split.hash,
            "git_revision": code_revision(),
        },
        run_id=begun.get("mlflow_run_id"),
        parent=task.parent,
    )
