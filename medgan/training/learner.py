"""What the training loop asks of a learner: a translator, a lesion generator, a segmenter or a classifier."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric, is_wrapped
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan.data.preparation import Prepared
from medgan.pictures.panels import Panel

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
Networks = Mapping[str, nn.Module]


@dataclass(frozen=True)
class HeldOut:
    """Prepared validation subjects; in paired data the two lists run together."""

    source: Sequence[Prepared]
    target: Sequence[Prepared]
    regions: Sequence[Prepared] = ()
    """In paired data, where each pair may be compared: inside both bodies, away from the rim."""


@dataclass(frozen=True)
class Judgement:
    """The result of a validation."""

    metrics: dict[str, float]
    """By tracking key, ``val/<metric>_<unit>``."""
    panel: Panel
    """The same cases at the same windows every time."""
    complete: bool = True
    """Whether these networks may become the best model: those that still grow may not, however well they do."""


class Learner(ABC):
    """Networks, their optimisers, and one step of their algorithm.

    The loop calls :meth:`attach` once; from then on the networks are the wrapped ones.
    """

    trained: tuple[str, ...]
    """All networks; each is an attribute of this name."""
    optimized: tuple[str, ...] = ("generator", "discriminator")
    """All optimisers; each is an attribute of this name with ``_optimizer`` at its end."""
    kept: tuple[str, ...]
    """The networks that are averaged over training, judged and shipped."""
    best: str
    """The validation metric whose lowest value marks the best model."""
    saved: tuple[str, ...] = ()
    """Attributes, each a number, that :meth:`state_dict` holds."""

    def __init__(self) -> None:
        self.fabric: Fabric | None = None
        self.budget = 1
        """Iterations of the whole run, which the loop sets before :meth:`attach`."""

    def networks(self) -> dict[str, nn.Module]:
        """All networks by name."""
        return {name: getattr(self, name) for name in self.trained}

    def optimizers(self) -> dict[str, Optimizer]:
        """All optimisers by name."""
        return {name: getattr(self, f"{name}_optimizer") for name in self.optimized}

    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Take over the networks and optimisers that ``fabric`` has placed and wrapped."""
        self.fabric = fabric
        for name, network in networks.items():
            setattr(self, name, network)
        for name, optimizer in optimizers.items():
            setattr(self, f"{name}_optimizer", optimizer)

    @property
    def attached(self) -> Fabric:
        """Its device and precision."""
        assert self.fabric is not None, "attach comes first"
        return self.fabric

    @abstractmethod
    def training_step(self, batch: Batch) -> Terms:
        """One iteration, weights updated; the terms of its losses, detached."""

    @abstractmethod
    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Judge the averaged networks on subjects that were not trained on."""

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """Advice where an epoch's mean terms show that training has broken down; None where they do not."""
        del means
        return None

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs beside weights and optimisers, such as a replay pool; tensors, numbers, lists."""
        return {name: getattr(self, name) for name in self.saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        for name in self.saved:
            setattr(self, name, state[name])

    def descend(self, optimizer: Optimizer, terms: Terms) -> None:
        """One step of ``optimizer`` down the sum of ``terms``."""
        optimizer.zero_grad(set_to_none=True)
        self.attached.backward(torch.stack(list(terms.values())).sum())
        optimizer.step()


def bare(network: nn.Module) -> nn.Module:
    """A network without Fabric's wrapper, for a gradient of its input: in 32 bits, and outside Fabric's backward."""
    module: nn.Module = network.module if is_wrapped(network) else network  # type: ignore[assignment]
    return module
