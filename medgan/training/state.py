"""All that decides what comes next in a run: from it, a resumed run equals an uninterrupted one."""

import copy
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from medgan.data.streams import replacing
from medgan.errors import DataError, TrainingError
from medgan.training.learner import Learner, Networks
from medgan.training.ranks import Ranks

Weights = dict[str, dict[str, torch.Tensor]]


class EMA:
    """Exponential moving averages of networks: steadier than any single iteration of an adversarial game.

    An iteration keeps the share ``decay`` of the average. The share rises as (1 + n) / (10 + n) towards ``decay``, so
    that the first iterations do not hold the average back.
    """

    def __init__(self, networks: Networks, decay: float) -> None:
        copies = {name: copy.deepcopy(network) for name, network in networks.items()}
        self.networks = {name: network.eval().requires_grad_(False) for name, network in copies.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, networks: Networks, iteration: int) -> None:
        """Move every average towards its network; ``iteration`` counts from 0. Buffers are copied."""
        share = 1 - min(self.decay, (1 + iteration) / (10 + iteration))
        for name, average in self.networks.items():
            torch._foreach_lerp_(list(average.parameters()), list(networks[name].parameters()), share)
            if buffers := list(average.buffers()):
                torch._foreach_copy_(buffers, list(networks[name].buffers()))


def weights_of(networks: Networks) -> Weights:
    """Every network's weights, for :func:`load_weights`."""
    return {name: network.state_dict() for name, network in networks.items()}


def load_weights(networks: Networks, weights: Weights) -> None:
    """Load every network's weights; names and shapes must agree."""
    for name, network in networks.items():
        network.load_state_dict(weights[name])


@dataclass
class Progress:
    """How far a run has come."""

    iteration: int = 0
    """Iterations done."""
    parts: int = 1
    """In how many parts a batch goes through: as many as the settings say, or more where memory was too small."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each loss term over the epoch's iterations so far."""
    counts: dict[str, float] = field(default_factory=dict)
    """In how many of them the term occurred: some set in later."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Every finished epoch's metrics, with its number under ``epoch``."""
    best: float = float("inf")
    """Lowest value of the learner's best-model metric."""
    best_epoch: int = 0


@dataclass
class State:
    """Everything of a run that changes: progress, weights, optimisers, averages, loss scale, random states."""

    fabric: Fabric
    learner: Learner
    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    ema: EMA
    progress: Progress
    ranks: Ranks = field(default_factory=Ranks)
    saved_by: int = 0
    """How many ranks saved the state that was loaded."""

    def small(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What an iteration changes before its first step: the learner's own state, and random states."""
        return self.learner.state_dict(), _random_states()

    def restore_small(self, before: tuple[dict[str, Any], dict[str, Any]]) -> None:
        """Take back what :meth:`small` gave."""
        self.learner.load_state_dict(before[0])
        _restore_random(before[1])

    def save(self, path: Path) -> None:
        """Write the state whole or not at all: a kill at any moment leaves the state before.

        All ranks take part, and the first one writes: of the others only the random states differ.
        """
        random_states = self.ranks.all(_random_states())
        if not self.ranks.first:
            return
        save_atomic(
            {
                "progress": asdict(self.progress),
                "networks": weights_of(self.networks),
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "averages": weights_of(self.ema.networks),
                "memory": self.learner.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "random": random_states[0],
                "random_of_others": random_states[1:],
            },
            path,
        )

    def load(self, path: Path) -> None:
        """Take the state in ``path``, which the first rank reads.

        Where there were fewer ranks before, those that are new keep the random state that they have.

        Raises:
            TrainingError: The file is damaged, or of another run's networks.
        """
        content = self.ranks.of_first(load_checked(path) if self.ranks.first else {})
        try:
            load_weights(self.networks, content["networks"])
            load_weights(self.ema.networks, content["averages"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(content["optimizers"][name])
            self.learner.load_state_dict(content["memory"])
            self.fabric.strategy.precision.load_state_dict(content["precision"])
            self.progress = Progress(**content["progress"])
            random_states = [content["random"], *content.get("random_of_others", ())]
            self.saved_by = len(random_states)
            if self.ranks.rank < self.saved_by:
                _restore_random(random_states[self.ranks.rank])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise TrainingError(
                f"{path}: holds a state of other networks ({reason}); resume with its own settings and medgan."
            ) from None


@contextmanager
def undisturbed(fabric: Fabric) -> Iterator[None]:
    """What is computed within leaves random states and the loss scale as they were before it."""
    precision = fabric.strategy.precision
    before, scale = _random_states(), precision.state_dict()
    try:
        yield
    finally:
        _restore_random(before)
        precision.load_state_dict(scale)


def save_atomic(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` to a file beside ``path``, flushed to the disk, then renamed over it.

    Raises:
        TrainingError: The disk is full or the folder cannot be written; ``path`` still holds what it held.
    """
    try:
        with replacing(path) as stream:
            torch.save(dict(content), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (DataError, RuntimeError) as error:  # both hide the disk's own error
        raise TrainingError(
            f"{path}: the state cannot be written ({error.__context__ or error}); make room, then go on by --resume. "
            "The state before is kept."
        ) from None


def load_checked(path: Path) -> dict[str, Any]:
    """The content that :func:`save_atomic` wrote; no code of the file is run.

    ``torch.load`` does not look at the checksums of the zip file that ``torch.save`` writes: a changed weight would be
    trained on unnoticed.

    Raises:
        TrainingError: The file is missing, cut or changed.
    """
    try:
        with ZipFile(path) as parts:
            if damaged := parts.testzip():
                raise BadZipFile(f"{damaged} does not have its checksum, so a byte was changed")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise TrainingError(f"{path}: the state cannot be read ({reason}); start the run anew.") from None
    return content


def _random_states() -> dict[str, Any]:
    """Every generator's state as tensors, numbers and lists."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        # Of its own device alone: asked for, each of the others would hold memory for a process that does not use it.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def _restore_random(states: Mapping[str, Any]) -> None:
    """Set every generator to what :func:`_random_states` gave."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():  # before 0.3 there was one of each device
        torch.cuda.set_rng_state(states["cuda"][min(torch.cuda.current_device(), len(states["cuda"]) - 1)])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
