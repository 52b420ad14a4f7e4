"""The one training loop: epochs, schedule, precision, EMA, validation, state; a step is the learner's."""

import math
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Literal, Self

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.optim import Adam

from medgan import threads
from medgan.config import Config, load, read_yaml, to_yaml
from medgan.data.patches import Patches, batches
from medgan.data.preparation import Prepared
from medgan.data.streams import write_text
from medgan.errors import ConfigError, TrainingError
from medgan.networks.checkpointing import checkpoint_activations
from medgan.processes import STOPS
from medgan.training.device import Precision, choose_kernels, out_of_memory
from medgan.training.learner import Batch, HeldOut, Learner, Terms
from medgan.training.model_folder import DESCRIPTION, D, Model, Origin, read_model, write_model
from medgan.training.ranks import Ranks
from medgan.training.recorder import Recorder, Unrecorded
from medgan.training.state import EMA, Progress, State, load_checked, load_weights, save_atomic, undisturbed, weights_of

FIRST = "first"
"""The folder, in a training's, of the one whose model it needs."""
MOST_WORKERS = 8
"""Processes that read patches beside a GPU, where nobody says how many: a patch costs one of them milliseconds."""


class FitConfig(Config):
    """How long and how a learner is trained."""

    epochs: PositiveInt = 200
    iterations_per_epoch: PositiveInt = 250
    """Iterations between two validations; patches are drawn at random, so an epoch is a length of our choice."""
    batch_size: PositiveInt = 4
    accumulate: PositiveInt = 1
    """Equal parts of a batch that go through the networks one after the other, for less memory; gradients add up."""
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
    checkpointing: bool = False
    """Compute a generator's inner maps again for its gradient instead of keeping them: less memory, for 3D."""
    deterministic: bool = False
    """On a GPU, kernels that add in one order: slower, and the same weights each time where torch has such kernels."""
    channels_last: bool = True
    """Keep channels innermost in memory: faster convolutions on most devices."""
    workers: NonNegativeInt | None = None
    """Processes that read patches; 0 reads in the training process. By default none on a CPU, and beside a GPU one for
    each core but one, at most 8."""

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} does not divide batch_size={self.batch_size}")
        if self.compile and self.checkpointing:
            raise ValueError("compile=true plans by itself what is kept and what computed again; leave one of them out")
        return self


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


class _Watched(list[Prepared]):
    """Subjects that are handed out one by one; ``check`` is called before each, and may raise to end the loop.

    Where ranks share them it is called once in each round, so that none waits for another within it.
    """

    def __init__(self, subjects: Sequence[Prepared], check: Callable[[], None], world: int) -> None:
        super().__init__(subjects)
        self.check, self.world = check, world

    def __iter__(self) -> Iterator[Prepared]:
        for number, subject in enumerate(super().__iter__()):
            if number % self.world == 0:
                self.check()
            yield subject


class Fit:
    """One training of one learner; ``folder`` holds ``last.pt``, from which it goes on, and ``best.pt``."""

    def __init__(
        self,
        learner: Learner,
        dataset: Patches,
        held_out: HeldOut,
        config: FitConfig,
        *,
        fabric: Fabric,
        folder: Path,
        recorder: Recorder,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.ranks.share(config.batch_size, config.accumulate)
        self.learner, self.dataset, self.held_out, self.config = learner, dataset, held_out, config
        self.fabric, self.last, self.best, self.recorder = fabric, folder / "last.pt", folder / "best.pt", recorder
        choose_kernels(fabric.device, deterministic=config.deterministic)
        self.state = self._placed()
        self._stop_requests: list[int] = []
        self._batches: Iterator[Batch] = iter(())
        self._sums = dict[str, Tensor]()

    def run(self, *, resume: bool = False) -> Fitted:
        """Train to the last epoch, with ``resume`` from ``last.pt`` if there is one, and return the networks to keep.

        Raises:
            Interrupted: Ctrl-C, SIGTERM or SIGUSR1; the state is saved.
            TrainingError: Terms that are not numbers, or a collapse; with advice.
        """
        if self.ranks.of_first(resume and self.last.exists()):
            self.state.load(self.last)
            if self.state.saved_by != self.ranks.world:
                before, now = self.state.saved_by, self.ranks.world
                self.recorder.log.say(
                    f"devices that share a batch: {before} before, {now} from here on; patches are the same, but noise "
                    "is drawn in another order"
                )
                self.state.progress.parts = self.config.accumulate
        self.learner.iteration = self.state.progress.iteration
        self.recorder.begin(self.config.epochs, self.config.iterations_per_epoch, self.state.progress)
        with self.recorder.bar, _stop_requests() as self._stop_requests, self._loader() as self._batches:
            while self.epoch < self.config.epochs:
                self._train_epoch()
                self._finish_epoch()
        return self._result()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.state.progress.history)

    def _train_epoch(self) -> None:
        """Do the iterations that this epoch still lacks."""
        progress, config = self.state.progress, self.config
        end = (self.epoch + 1) * config.iterations_per_epoch
        for batch in islice(self._batches, end - progress.iteration):
            share = self._share()
            for group in (group for optimizer in self.state.optimizers.values() for group in optimizer.param_groups):
                group["lr"] = group["initial_lr"] * share
            terms = self._iterate(batch)
            self.state.ema.update(self.state.networks, progress.iteration)
            progress.iteration += 1
            self._add(terms)
            self.recorder.iteration(progress.iteration)
            if line := threads.heed():
                self.recorder.log.say(f"iteration {progress.iteration}: {line}")
            if self.ranks.any(bool(self._stop_requests)):
                self._read_sums()
                self._share_sums()
                self.state.save(self.last)
                raise Interrupted(f"stopped after iteration {progress.iteration}; add --resume to go on from there.")

    def _loader(self) -> "closing[Generator[Batch]]":
        """The batches of all iterations that the run still lacks, so that workers live as long as it does."""
        config, on_gpu = self.config, self.fabric.device.type == "cuda"
        workers = config.workers
        if workers is None:
            own = threads.cores() // self.ranks.place.beside
            workers = min(max(own - 1, 0), MOST_WORKERS) if on_gpu else 0
        first, last = self.state.progress.iteration, config.epochs * config.iterations_per_epoch
        share = {"rank": self.ranks.rank, "world": self.ranks.world}
        return closing(batches(self.dataset, first, last, config.batch_size, workers, pin=on_gpu, **share))

    def _iterate(self, batch: Batch) -> Terms:
        """One iteration; where memory is too small for the batch, again and from here on in more parts."""
        while True:
            before = self.state.small()
            try:
                return self.learner.iterate(self._on_device(batch), self.state.progress.parts)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self.ranks.world > 1:  # the others may wait within the iteration, which they do not try again
                    raise ConfigError(
                        f"the memory of {self.fabric.device} is too small for its share of a batch; start a new run "
                        f"with fit.accumulate={2 * self.config.accumulate} or a smaller fit.batch_size."
                    ) from None
            # Only here, without the error, is there no hold on what the iteration had computed.
            self.learner.abandon()
            self.state.restore_small(before)
            self._take_more_parts(len(next(iter(batch.values()))))

    def _take_more_parts(self, count: int) -> None:
        """Halve the parts of a batch of ``count`` patches, and say so."""
        progress, device = self.state.progress, self.fabric.device
        finer = next((parts for parts in range(2 * progress.parts, count + 1) if count % parts == 0), None)
        if not finer:
            raise TrainingError(
                f"the memory of {device} is too small for a single patch; start a new run with fit.checkpointing=true, "
                "a smaller patch.size_voxels (in 3D patch.depth_voxels), or networks of fewer channels."
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self.recorder.note(
            f"the memory of {device} is too small for {count // progress.parts} patches at iteration "
            f"{progress.iteration + 1}: from here on a batch goes through in {finer} parts of {count // finer}; set "
            f"fit.accumulate={finer} in the next run",
            {"accumulate": finer},
        )
        progress.parts = finer

    def _finish_epoch(self) -> None:
        """Means, state, validation, best model, record, state; a kill between two loses no iteration.

        A run that goes on from the first of the two states has no iteration left in its epoch, and validates it again.
        """
        self._read_sums()
        progress, number = self.state.progress, self.epoch + 1
        self._share_sums()
        means = {f"train/{name}": total / progress.counts[name] for name, total in progress.sums.items()}
        if advice := self.learner.diagnose(means):
            raise TrainingError(f"training broke down in epoch {number}: {advice}")
        row = {"epoch": float(number), **means, "train/learning_rate_share": self._share()}
        panel = None
        if self.held_out.source and (number % self.config.validate_every == 0 or number == self.config.epochs):
            self.state.save(self.last)
            watched = replace(self.held_out, source=_Watched(self.held_out.source, self._heed_stop, self.ranks.world))
            judgement = self.learner.validate(watched, self.state.ema.networks)
            metrics = self.ranks.of_first(judgement.metrics)
            row, panel, score = row | metrics, judgement.panel, metrics[self.learner.best]
            if judgement.complete and score < progress.best:
                progress.best, progress.best_epoch = score, number
                if self.ranks.first:
                    save_atomic({"averages": weights_of(self.state.ema.networks), "epoch": number}, self.best)
        progress.history.append(row)
        self._sums, progress.sums, progress.counts = {}, {}, {}
        self.recorder.epoch(progress.history, panel, progress.best_epoch)
        self.state.save(self.last)

    def _heed_stop(self) -> None:
        """Leave a validation that is under way: the state before it is saved."""
        if self.ranks.any(bool(self._stop_requests)):
            raise Interrupted(f"stopped while epoch {self.epoch + 1} was validated; add --resume to go on from there.")

    def _result(self) -> Fitted:
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
        """Add this iteration's terms to the epoch's sums, on the device: to read them there is to wait for it."""
        progress = self.state.progress
        for name, term in terms.items():
            if name not in self._sums:
                exact = torch.float32 if term.device.type == "mps" else torch.float64
                self._sums[name] = torch.full((), progress.sums.get(name, 0.0), dtype=exact, device=term.device)
            self._sums[name] += term
            progress.counts[name] = progress.counts.get(name, 0) + 1
        if self.fabric.device.type == "cpu":
            self._read_sums()

    def _read_sums(self) -> None:
        """Bring the sums up to date before they are used or saved, and stop at one that is not a number."""
        progress = self.state.progress
        for name, total in self._sums.items():
            progress.sums[name] = float(total)
            if not math.isfinite(progress.sums[name]):
                raise TrainingError(
                    f"the loss term '{name}' became {float(total)} at iteration {progress.iteration}; lower the "
                    "learning rate, set fit.precision=32, or look for voxels that are not finite with "
                    "`medgan data check`. The state before this epoch is kept."
                )

    def _share_sums(self) -> None:
        """Replace the epoch's sums so far by their means over ranks, where each has those of its share."""
        progress, world = self.state.progress, self.ranks.world
        if world > 1:
            every = self.ranks.all((progress.sums, progress.counts))
            names = dict.fromkeys(name for sums, _ in every for name in sums)
            progress.sums = {name: sum(sums.get(name, 0.0) for sums, _ in every) / world for name in names}
            progress.counts = {name: sum(counts.get(name, 0) for _, counts in every) / world for name in names}

    def _on_device(self, batch: Batch) -> Batch:
        """A loader's batch moved, and there varied."""
        moved: Batch
        if self.learner.prepares:
            moved = self.fabric.to_device(self.learner.prepare(self.dataset.augmented(batch)))
        else:
            moved = self.dataset.augmented(self.fabric.to_device(batch))
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
                if isinstance(optimizer, Adam):
                    group["fused"] = True  # one kernel for all parameters, on every device
        wrapped = {name: self._wrapped(network.train()) for name, network in networks.items()}
        ema = EMA({name: networks[name] for name in self.learner.kept}, self.config.average_decay)
        if self.config.checkpointing and not sum(checkpoint_activations(networks[name]) for name in self.learner.kept):
            raise ConfigError("fit.checkpointing=true: these networks have nothing to compute again; leave it out.")
        placed: dict[str, Any] = {name: self.fabric.setup_optimizers(each) for name, each in optimizers.items()}
        self.learner.budget = self.config.epochs * self.config.iterations_per_epoch
        self.learner.ranks = self.ranks
        self.learner.attach(self.fabric, wrapped, placed)
        progress = Progress(parts=self.config.accumulate)
        return State(self.fabric, self.learner, networks, optimizers, ema, progress, self.ranks)

    def _wrapped(self, network: nn.Module) -> nn.Module:
        if self.config.channels_last:
            for parameter in network.parameters():
                if parameter.dim() >= 4:
                    parameter.data = _channels_last(parameter.data)
        module: nn.Module = torch.compile(network) if self.config.compile else network  # type: ignore[assignment]
        return self.fabric.setup_module(module)


def _channels_last(tensor: Tensor) -> Tensor:
    # Copied, whatever it was: the layout of a single channel is both, and a convolution then takes channels-first.
    layout = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
    return torch.empty_like(tensor, memory_format=layout).copy_(tensor)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Let a signal of ``STOPS`` end the training after the iteration or validation subject; a second Ctrl-C at once."""
    requests: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if requests and number == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(number)

    before = {name: signal.signal(name, ask) for name in STOPS}
    try:
        yield requests
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@dataclass(frozen=True)
class Training(Generic[D]):
    """What is learnt from what: all of a training but where it runs and is recorded."""

    config: Config
    """The settings, which the training's folder keeps."""
    fit: FitConfig
    seed: int
    """Of weights, noise and patches; equal seeds give equal models on one device."""
    learner: Callable[[], Learner]
    """Makes the learner."""
    patches: Patches
    held_out: HeldOut
    """Validation subjects; may be empty where the last epoch is kept."""
    model: type[D]
    """What the model folder describes."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Those fields of the description that the task adds."""
    first: "Training[Any] | None" = None
    """What is trained before, once, in the folder ``first`` of this one's, since the learner needs its model."""

    def seeded(self, ranks: Ranks | None = None) -> Learner:
        """A fresh learner, whose random numbers are seeded; what cannot be built, or shared, is refused here.

        All ranks have the same weights, and each has noise of its own.

        Raises:
            ConfigError: A learner that several devices cannot share.
        """
        ranks = ranks or Ranks()
        seed_everything(self.seed, verbose=False)
        learner = self.learner()
        if ranks.world > 1 and ranks.first:
            _check_shareable(learner, self.first)
        if ranks.rank:
            seed_everything(int(np.random.SeedSequence([self.seed, ranks.rank]).generate_state(1)[0]), verbose=False)
        return learner

    def train(
        self,
        folder: Path,
        fabric: Fabric,
        *,
        origin: Origin | None = None,
        recorder: Recorder | None = None,
        resume: bool = False,
        learner: Learner | None = None,
        ranks: Ranks | None = None,
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
            ranks: Those that share the training, of which this is the first; others :meth:`assist`.

        Raises:
            ConfigError: A training that is resumed with other settings.
        """
        if resume:
            self._check_begun(folder)
        write_text(folder / "config.yaml", to_yaml(self.config))
        learner, recorder = learner or self.seeded(), recorder or Recorder(folder)
        if self.first:
            with undisturbed(fabric):
                learner.given(self.first._once(folder / FIRST, fabric, origin, recorder), folder / FIRST / "model")
        fitted = Fit(
            learner, self.patches, self.held_out, self.fit, fabric=fabric, folder=folder / "state", recorder=recorder,
            ranks=ranks,
        ).run(resume=resume)  # fmt: skip
        return write_model(
            folder / "model", fitted.networks, self.model, seed=self.seed, origin=origin or Origin(),
            metrics=fitted.metrics, epoch=fitted.epoch, **self.facts,
        )  # fmt: skip

    def _check_begun(self, folder: Path) -> None:
        settings = folder / "config.yaml"
        if settings.exists() and load(type(self.config), read_yaml(settings)) != self.config:
            raise ConfigError(f"{settings}: the training was begun with other settings; give those, or another folder.")

    def _once(self, folder: Path, fabric: Fabric, origin: Origin | None, recorder: Recorder) -> Model[D]:
        """The model that lies in a folder, or that is trained into it, from wherever that was left."""
        self._check_begun(folder)
        if (folder / "model" / DESCRIPTION).exists():
            return read_model(folder / "model", self.model)
        if not recorder.log.path:
            recorder.log.begin(folder.parent)
        iterations = self.fit.epochs * self.fit.iterations_per_epoch
        recorder.log.say(f"{folder}: what the training needs comes first, {iterations} iterations")
        own = Recorder(folder, console=recorder.console, log=recorder.log)
        return self.train(folder, fabric, origin=origin, recorder=own, resume=True)

    def assist(self, folder: Path, fabric: Fabric, ranks: Ranks, *, resume: bool) -> None:
        """Train beside the first rank, and write nothing; ``folder`` is the first rank's."""
        Fit(
            self.seeded(ranks), self.patches, self.held_out, self.fit, fabric=fabric, folder=folder / "state",
            recorder=Unrecorded(folder), ranks=ranks,
        ).run(resume=resume)  # fmt: skip


def _check_shareable(learner: Learner, first: Training[Any] | None) -> None:
    """Refuse a learner that needs a model first, or whose step depends on the batch in a way that is not shared."""
    if first:
        raise ConfigError(
            "what several devices train needs a model that one of them trains first; train on one device for a moment, "
            f"or name a finished one: the folder {FIRST}/model of another run, by pix2pix.features.model."
        )
    mixing = [
        name
        for name, network in learner.networks().items()
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    ]
    reason = learner.alone or (mixing and f"batch norm in {', '.join(mixing)} mixes the images of a batch")
    if reason:
        raise ConfigError(
            f"{type(learner).__name__} does not train on several devices: {reason}. Leave --devices out"
            + (", or set the network's norm=instance." if mixing and not learner.alone else ".")
        )
