"""What the training loop asks of a learner: a translator, a lesion generator or a segmenter."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import torch
from lightning_fabric import Fabric, is_wrapped
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan.data.preparation import Prepared

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
Networks = Mapping[str, nn.Module]
T = TypeVar("T")


class Watched(Sequence[T]):
    """Subjects that are handed out one by one, each after a look at whether to go on.

    Args:
        subjects: What is handed out.
        heed: Called before each; what it raises leaves whoever goes through them.
    """

    def __init__(self, subjects: Sequence[T], heed: Callable[[], None]) -> None:
        self.subjects, self.heed = subjects, heed

    def __len__(self) -> int:
        return len(self.subjects)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        self.heed()
        return self.subjects[index]


@dataclass(frozen=True)
class HeldOut:
    """Subjects kept apart for validation, prepared; in paired data the two lists run together."""

    source: Sequence[Prepared]
    target: Sequence[Prepared]
    regions: Sequence[Prepared] = ()
    """In paired data, where each pair may be compared: inside both bodies, away from the rim."""


@dataclass(frozen=True)
class Judgement:
    """What validation found."""

    metrics: dict[str, float]
    """By tracking key, ``val/<metric>_<unit>``."""
    panel: NDArray[np.uint8]
    """The fixed cases at a fixed window, (height, width)."""
    complete: bool = True
    """Whether these networks may become the best model: those that still grow may not, however well they do."""


class Learner(ABC):
    """Networks, their optimisers, and one step of their algorithm.

    The loop calls :meth:`attach` once; from then on :meth:`networks` are the wrapped ones. What a learner keeps beside
    weights (a replay pool) it hands out in :meth:`memory`.
    """

    kept: tuple[str, ...]
    """The networks that are averaged over training, judged and shipped."""
    best: str
    """The validation metric whose lowest value marks the best model."""

    def __init__(self) -> None:
        self.fabric: Fabric | None = None
        self.budget = 1
        """Iterations of the whole run, which the loop sets before :meth:`attach`."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """All networks by name."""

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """All optimisers by name."""

    @abstractmethod
    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Take over the networks and optimisers that ``fabric`` has placed and wrapped."""

    @abstractmethod
    def training_step(self, batch: Batch) -> Terms:
        """One iteration, weights updated; the terms of its losses, detached."""

    @abstractmethod
    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Judge the averaged networks on subjects that were not trained on."""

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """Advice where an epoch's mean terms show that training has broken down; None where they do not."""
        del means
        return None

    def memory(self) -> dict[str, Any]:
        """What must be restored for an exact resume, beside weights and optimisers; tensors, numbers and lists."""
        return {}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Restore what :meth:`memory` gave."""
        del memory

    def descend(self, optimizer: Optimizer, terms: Terms) -> None:
        """One step of ``optimizer`` down the sum of ``terms``."""
        assert self.fabric is not None, "attach comes first"
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        optimizer.step()


def bare(network: nn.Module) -> nn.Module:
    """A network without Fabric's wrapper, for a gradient of its input: in 32 bits, and outside Fabric's backward."""
    module: nn.Module = network.module if is_wrapped(network) else network  # type: ignore[assignment]
    return module
