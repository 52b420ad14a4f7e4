"""One training of any learner: what is learnt from what, and the model folder that comes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from lightning_fabric import Fabric, seed_everything
from rich.console import Console
from torch.utils.data import Dataset

from medgan.config import Config
from medgan.training.fit import Fit, FitConfig
from medgan.training.learner import Batch, HeldOut, Learner
from medgan.training.model_folder import D, Model, Origin, write_model
from medgan.training.recorder import Recorder
from medgan.training.run_folder import note_settings


@dataclass(frozen=True)
class Task(Generic[D]):
    """What is learnt from what: all of a training but where it runs and is recorded."""

    config: Config
    """The settings, which the training's folder keeps."""
    fit: FitConfig
    learner: Callable[[], Learner]
    """Makes the learner."""
    patches: Dataset[Batch]
    held_out: HeldOut
    """Validation subjects; may be empty where the last epoch is kept."""
    model: type[D]
    """What the model folder describes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Those fields of the description that the task adds."""

    def seeded(self, seed: int) -> Learner:
        """A fresh learner, whose random numbers are seeded; what cannot be built is refused here."""
        seed_everything(seed, verbose=False)
        return self.learner()


def train_task(
    task: Task[D],
    *,
    seed: int,
    folder: Path,
    fabric: Fabric,
    origin: Origin | None = None,
    recorder: Recorder | None = None,
    resume: bool = False,
    learner: Learner | None = None,
) -> Model[D]:
    """Train a learner and write its model folder.

    However much there is to learn from, the networks take ``fit.epochs`` x ``fit.iterations_per_epoch`` steps.

    Args:
        task: What is learnt.
        seed: Of weights, noise and patches; equal seeds give equal models on one device.
        folder: Holds ``config.yaml``, ``model/``, the state to resume from and what the recorder writes.
        fabric: Device and precision, launched.
        origin: Where the subjects come from.
        recorder: Where metrics and panels go; by default to ``folder`` alone.
        resume: Go on from the state in ``folder``, where there is one.
        learner: The task's, if it was seeded before.
    """
    note_settings(folder, task.config, resume)
    loop = Fit(
        learner or task.seeded(seed), task.patches, task.held_out, task.fit, fabric=fabric, folder=folder / "state",
        recorder=recorder or Recorder(folder, None, Console(quiet=True)),
    )  # fmt: skip
    fitted = loop.run(resume=resume)
    return write_model(
        folder / "model", fitted.networks, task.model, seed=seed, origin=origin or Origin(), metrics=fitted.metrics,
        epoch=fitted.epoch, **task.facts,
    )  # fmt: skip
