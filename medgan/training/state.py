"""All that decides what comes next in a run: from it, a resumed run equals an uninterrupted one."""

import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from medgan.errors import TrainingError
from medgan.training.averages import Averages, load_all
from medgan.training.learner import Learner


@dataclass
class Progress:
    """How far a run has come."""

    iteration: int = 0
    """Iterations done."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each loss term over the epoch's iterations so far."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Every finished epoch's metrics, with its number under ``epoch``."""
    best: float = float("inf")
    """Lowest value of the learner's best-model metric."""
    best_epoch: int = 0


@dataclass
class State:
    """Everything of a run that changes: progress, weights, optimisers, averages, memory, random states."""

    learner: Learner
    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    averages: Averages
    progress: Progress

    def save(self, path: Path) -> None:
        """Write the state whole or not at all: a kill at any moment leaves the state before."""
        save_atomic(
            {
                "progress": asdict(self.progress),
                "networks": {name: network.state_dict() for name, network in self.networks.items()},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "averages": self.averages.state_dict(),
                "memory": self.learner.memory(),
                "random": random_states(),
            },
            path,
        )

    def load(self, path: Path) -> None:
        """Take the state in ``path``.

        Raises:
            TrainingError: The file is damaged, or of another run's networks.
        """
        content = load_checked(path)
        try:
            load_all(self.networks, content["networks"])
            self.averages.load_state_dict(content["averages"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(content["optimizers"][name])
            self.learner.remember(content["memory"])
            self.progress = Progress(**content["progress"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(
                f"{path}: holds a state of other networks ({reason}); resume with its own configuration."
            ) from None
        restore_random(content["random"])


def save_atomic(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` to a temporary file beside ``path``, flushed to the disk, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            torch.save(dict(content), part)
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            Path(part.name).unlink()
            raise
    Path(part.name).replace(path)


def load_checked(path: Path) -> dict[str, Any]:
    """The content that :func:`save_atomic` wrote; no code of the file is run."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no state to resume; start the run without --resume.") from None
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{path}: the state cannot be read ({reason}); start the run anew.") from None
    return content


def random_states() -> dict[str, Any]:
    """Every generator's state as tensors, numbers and lists."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def restore_random(states: Mapping[str, Any]) -> None:
    """Set every generator to what :func:`random_states` gave."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
