"""The one training loop: epochs, schedule, precision, EMA, validation, state; a step is the learner's."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.data import Dataset

from medgan.config import Config
from medgan.data.patches import batches
from medgan.errors import TrainingError
from medgan.training.device import Precision
from medgan.training.learner import Batch, HeldOut, Learner, Terms, Watched
from medgan.training.recorder import Recorder
from medgan.training.state import EMA, Progress, State, load_checked, load_weights, save_atomic

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, what ends a process, and what SLURM is told to send before a job's time is over; Windows has no SIGUSR1."""


class FitConfig(Config):
    """How long and how a learner is trained."""

    epochs: PositiveInt = 200
    iterations_per_epoch: PositiveInt = 250
    """Iterations between two validations; patches are drawn at random, so an epoch is a length of our choice."""
    batch_size: PositiveInt = 4
    constant_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the run at the full learning rate; it then falls to zero along a line."""
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    """Share of the moving average that an iteration keeps."""
    keep: Literal["best", "last"] = "best"
    """Which averaged networks become the model: those of the best validation, or the last ones."""
    validate_every: PositiveInt = 1
    """Epochs from one validation to the next; the last epoch is always judged."""
    precision: Precision = "auto"
    """auto: bf16-mixed where the device computes it well, 16-mixed on older GPUs, else 32."""
    compile: bool = False
    """torch.compile the networks."""
    channels_last: bool = True
    """Keep channels innermost in memory: faster convolutions on most devices."""
    workers: NonNegativeInt = 0
    """Processes that read patches; 0 reads in the training process."""


@dataclass(frozen=True)
class Fitted:
    """A finished training."""

    networks: dict[str, nn.Module]
    """The averaged networks that were kept, on the CPU."""
    epoch: int
    """After how many epochs they were as they are."""
    metrics: dict[str, float]
    """Their validation metrics."""


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop; its state is on disk."""


class Fit:
    """One training of one learner; ``folder`` holds ``last.pt``, from which it goes on, and ``best.pt``."""

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset[Batch],
        held_out: HeldOut,
        config: FitConfig,
        *,
        fabric: Fabric,
        folder: Path,
        recorder: Recorder,
    ) -> None:
        self.learner, self.dataset, self.held_out, self.config = learner, dataset, held_out, config
        self.fabric, self.last, self.best, self.recorder = fabric, folder / "last.pt", folder / "best.pt", recorder
        self.state = self._placed()
        self._stop: dict[str, bool] = {"requested": False}

    def run(self, *, resume: bool = False) -> Fitted:
        """Train to the last epoch, with ``resume`` from ``last.pt`` if there is one, and return the networks to keep.

        Raises:
            Interrupted: Ctrl-C, SIGTERM or SIGUSR1; the state is saved.
            TrainingError: Terms that are not numbers, or a collapse; with advice.
        """
        for part in self.last.parent.glob("*.pt.part"):  # of a state that a kill kept from being written
            part.unlink(missing_ok=True)
        if resume and self.last.exists():
            self.state.load(self.last)
        self.recorder.begin(self.config.epochs, self.config.iterations_per_epoch, self.state.progress)
        with self.recorder, _stop_requests() as self._stop:
            while self.epoch < self.config.epochs:
                self._train_epoch()
                self._finish_epoch()
        return self._kept()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.state.progress.history)

    def _train_epoch(self) -> None:
        """Do the iterations that this epoch still lacks."""
        progress, config = self.state.progress, self.config
        end = (self.epoch + 1) * config.iterations_per_epoch
        for batch in batches(self.dataset, progress.iteration, end, config.batch_size, config.workers):
            share = self._share()
            for group in (group for optimizer in self.state.optimizers.values() for group in optimizer.param_groups):
                group["lr"] = group["initial_lr"] * share
            terms = self.learner.training_step(self._on_device(batch))
            self.state.ema.update(self.state.networks, progress.iteration)
            progress.iteration += 1
            self._add(terms)
            self.recorder.iteration(progress.iteration)
            if self._stop["requested"]:
                self.state.save(self.last)
                raise Interrupted(f"stopped after iteration {progress.iteration}; add --resume to go on from there.")

    def _finish_epoch(self) -> None:
        """Means, state, validation, best model, record, state; a kill between two loses no iteration.

        A run that goes on from the first of the two states has no iteration left in its epoch, and validates it again.
        """
        progress, config = self.state.progress, self.config
        means = {f"train/{name}": total / progress.counts[name] for name, total in progress.sums.items()}
        if advice := self.learner.diagnose(means):
            raise TrainingError(f"training broke down in epoch {self.epoch + 1}: {advice}")
        row = {"epoch": float(self.epoch + 1), **means, "train/learning_rate_share": self._share()}
        panel = None
        due = (self.epoch + 1) % config.validate_every == 0 or self.epoch + 1 == config.epochs
        if due and self.held_out.source:
            self.state.save(self.last)
            watched = replace(self.held_out, source=Watched(self.held_out.source, self._heed_stop))
            judgement = self.learner.validate(watched, self.state.ema.networks)
            row |= judgement.metrics
            panel = judgement.panel
            if judgement.complete and judgement.metrics[self.learner.best] < progress.best:
                progress.best, progress.best_epoch = judgement.metrics[self.learner.best], self.epoch + 1
                save_atomic({"averages": self.state.ema.state_dict(), "epoch": self.epoch + 1}, self.best)
        progress.history.append(row)
        progress.sums, progress.counts = {}, {}
        self.recorder.epoch(progress.history, panel)
        self.state.save(self.last)

    def _heed_stop(self) -> None:
        """Leave a validation that is under way: the state before it is saved."""
        if self._stop["requested"]:
            raise Interrupted(f"stopped while epoch {self.epoch + 1} was validated; add --resume to go on from there.")

    def _kept(self) -> Fitted:
        """The averaged networks of the best or of the last epoch."""
        progress, networks = self.state.progress, self.state.ema.networks
        epoch = self.epoch
        if self.config.keep == "best" and self.best.exists():
            content = load_checked(self.best)
            load_weights(networks, content["averages"])
            epoch = int(content["epoch"])
        metrics = {key: value for key, value in progress.history[epoch - 1].items() if key.startswith("val/")}
        return Fitted({name: network.cpu() for name, network in networks.items()}, epoch, metrics)

    def _share(self) -> float:
        """Share of the learning rate: constant, then linear to zero (Zhu et al. 2017, appendix 7.1), by iteration."""
        done = self.state.progress.iteration / (self.config.epochs * self.config.iterations_per_epoch)
        return min(1.0, (1 - done) / max(1 - self.config.constant_share, 1e-9))

    def _add(self, terms: Terms) -> None:
        """Add this iteration's terms to the epoch's sums, and stop at the first that is not a number."""
        progress = self.state.progress
        for name, term in terms.items():
            value = float(term)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss term '{name}' became {value} at iteration {progress.iteration}; lower the "
                    "learning rate, set fit.precision=32, or look for voxels that are not finite with "
                    "`medgan data check`. The state before this epoch is kept."
                )
            progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.counts[name] = progress.counts.get(name, 0) + 1

    def _on_device(self, batch: Batch) -> Batch:
        moved: Batch = self.fabric.to_device(batch)
        if not self.config.channels_last:
            return moved
        # A condition (B, D) is no image.
        return {key: _channels_last(each) if each.dim() >= 4 else each for key, each in moved.items()}

    def _placed(self) -> State:
        """Networks on the device and wrapped for precision; the state refers to the bare ones."""
        networks, optimizers = self.learner.networks(), self.learner.optimizers()
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        wrapped = {name: self._wrapped(network.train()) for name, network in networks.items()}
        ema = EMA({name: networks[name] for name in self.learner.kept}, self.config.average_decay)
        placed: dict[str, Any] = {name: self.fabric.setup_optimizers(each) for name, each in optimizers.items()}
        self.learner.budget = self.config.epochs * self.config.iterations_per_epoch
        self.learner.attach(self.fabric, wrapped, placed)
        return State(self.fabric, self.learner, networks, optimizers, ema, Progress())

    def _wrapped(self, network: nn.Module) -> nn.Module:
        if self.config.channels_last:
            for parameter in network.parameters():
                if parameter.dim() >= 4:
                    parameter.data = _channels_last(parameter.data)
        module: nn.Module = torch.compile(network) if self.config.compile else network  # type: ignore[assignment]
        return self.fabric.setup_module(module)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)


@contextmanager
def _stop_requests() -> Iterator[dict[str, bool]]:
    """Let a signal of ``STOPS`` end the training after the iteration or validation subject; a second Ctrl-C at once."""
    stop = {"requested": False}

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if stop["requested"] and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop["requested"] = True

    before = {name: signal.signal(name, ask) for name in STOPS}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
