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
    seed: int
    """Of weights, noise and patches; equal seeds give equal models on one device."""
    learner: Callable[[], Learner]
    """Makes the learner."""
    patches: Dataset[Batch]
    held_out: HeldOut
    """Validation subjects; may be empty where the last epoch is kept."""
    model: type[D]
    """What the model folder describes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Those fields of the description that the task adds."""

    def seeded(self) -> Learner:
        """A fresh learner, whose random numbers are seeded; what cannot be built is refused here."""
        seed_everything(self.seed, verbose=False)
        return self.learner()

    def train(
        self,
        folder: Path,
        fabric: Fabric,
        *,
        origin: Origin | None = None,
        recorder: Recorder | None = None,
        resume: bool = False,
        learner: Learner | None = None,
    ) -> Model[D]:
        """Train the learner and write its model folder.

        However much there is to learn from, the networks take ``fit.epochs`` x ``fit.iterations_per_epoch`` steps.

        Args:
            folder: Holds ``config.yaml``, ``model/``, the state to resume from and what the recorder writes.
            fabric: Device and precision, launched.
            origin: Where the subjects come from.
            recorder: Where metrics and panels go; by default to ``folder`` alone.
            resume: Go on from the state in ``folder``, where there is one.
            learner: One that is :meth:`seeded` already.
        """
        note_settings(folder, self.config, resume)
        loop = Fit(
            learner or self.seeded(), self.patches, self.held_out, self.fit, fabric=fabric, folder=folder / "state",
            recorder=recorder or Recorder(folder, None, Console(quiet=True)),
        )  # fmt: skip
        fitted = loop.run(resume=resume)
        return write_model(
            folder / "model", fitted.networks, self.model, seed=self.seed, origin=origin or Origin(),
            metrics=fitted.metrics, epoch=fitted.epoch, **self.facts,
        )  # fmt: skip
