"""What the training loop asks of a learner: a translator, a lesion generator, a segmenter or a classifier."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric, is_wrapped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from medgan.data.preparation import Prepared
from medgan.errors import ConfigError
from medgan.pictures.panels import Panel
from medgan.training.model_folder import Model
from medgan.training.ranks import Ranks

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
    alone: str = ""
    """Why several devices cannot share its batches; empty where they can."""
    saved: tuple[str, ...] = ()
    """Attributes, each a number, that :meth:`state_dict` holds."""
    prepares: bool = False
    """Whether :meth:`prepare` adds something."""

    def __init__(self) -> None:
        self.fabric: Fabric | None = None
        self.ranks = Ranks()
        """The processes that share the training; the loop sets them before :meth:`attach`."""
        self.budget = 1
        """Iterations of the whole run, which the loop sets before :meth:`attach`."""
        self.iteration = 0
        """Iterations done."""
        # Of the running iteration: its part, how often optimisers were due, which stepped, which before it failed.
        self._part, self._parts = 1, 1
        self._waiting, self._stepped, self._done = dict[Optimizer, int](), list[Optimizer](), list[Optimizer]()

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

    def given(self, model: Model[Any], folder: Path) -> None:
        """Take the model of the training that comes :attr:`~medgan.training.fit.Training.first`, from its folder."""
        raise NotImplementedError(f"{type(self).__name__} needs no other model")

    def prepare(self, batch: Batch) -> Batch:
        """A batch with what only a CPU works out of its patches, before they go to the device: none waits for it."""
        return batch

    @abstractmethod
    def training_step(self, batch: Batch) -> Terms:
        """The algorithm's step on a batch, or on a part of one; the terms of its losses, detached."""

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

    def iterate(self, batch: Batch, parts: int = 1) -> Terms:
        """One iteration, weights updated; the terms of its losses, means over the equal ``parts`` of the batch.

        With several parts gradients are means over them, and all optimisers step at the end: networks that play against
        each other meet as they were before the iteration. What is measured over a batch is measured over a part.
        """
        self._parts, terms = parts, Terms()
        for self._part, part in enumerate(zip(*(value.chunk(parts) for value in batch.values()), strict=True), start=1):
            for name, term in self.training_step(dict(zip(batch, part, strict=True))).items():
                terms[name] = terms[name] + term / parts if name in terms else term / parts
        self._step_waiting()
        self._stepped, self._done = [], []
        self.iteration += 1
        return terms

    def abandon(self) -> None:
        """Forget what an iteration that failed has left, gradients and frozen networks, so that it can be tried again.

        What has stepped by then is done, and does not step again.
        """
        self._done, self._stepped, self._waiting = [*self._done, *self._stepped], [], {}
        for optimizer in self.optimizers().values():
            optimizer.zero_grad(set_to_none=True)
        for network in self.networks().values():
            network.requires_grad_(True)

    def descend(self, optimizer: Optimizer, terms: Terms) -> None:
        """One step of ``optimizer`` down the sum of ``terms``: at once, or with the last of a batch's parts.

        Raises:
            ConfigError: It steps more than once in an iteration, and batches come in parts.
        """
        fabric = self.attached
        if optimizer in self._done:
            return
        if optimizer not in self._waiting:
            optimizer.zero_grad(set_to_none=True)
        self._waiting[optimizer] = self._waiting.get(optimizer, 0) + 1
        if self._waiting[optimizer] > self._part:
            name = type(self).__name__
            raise ConfigError(f"{name} steps twice in an iteration, so that no batch has parts: set fit.accumulate=1.")
        # Of its own parameters alone: over several parts, what others are left with would add up.
        own = [each for group in optimizer.param_groups for each in group["params"] if each.requires_grad]
        fabric.backward(torch.stack(list(terms.values())).sum() / self._parts, inputs=own)
        if self._parts == 1:
            self._step_waiting()

    def _step_waiting(self) -> None:
        """Step the optimisers whose gradients are whole."""
        scaler = getattr(self.attached.strategy.precision, "scaler", None)
        for optimizer in self._waiting:
            self.ranks.average(optimizer)
            for each in (each for group in optimizer.param_groups for each in group["params"]):
                # Adam's one kernel walks through both as they lie in memory.
                if each.grad is not None and each.grad.stride() != each.stride():
                    each.grad = torch.empty_like(each).copy_(each.grad)
            if scaler:  # by the scale of their losses, which Fabric's own step may change before the next one's
                scaler.step(getattr(optimizer, "optimizer", optimizer))
            else:
                optimizer.step()
            self._stepped.append(optimizer)
        if scaler and self._waiting:
            scaler.update()
        self._waiting = {}


def joined(network: nn.Module, batches: Sequence[Tensor], *others: Tensor) -> list[Tensor]:
    """What ``network`` makes of each of several batches (B, ...), with the same ``others`` beside each.

    They go through it together, which is faster; one after the other where a batch norm would mix them.
    """
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        return [network(batch, *others) for batch in batches]
    beside = [torch.cat([other] * len(batches)) for other in others]
    return list(network(torch.cat(list(batches)), *beside).split([len(batch) for batch in batches]))


def bare(network: nn.Module) -> nn.Module:
    """A network without Fabric's wrapper, for a gradient of its input: in 32 bits, and outside Fabric's backward."""
    module: nn.Module = network.module if is_wrapped(network) else network  # type: ignore[assignment]
    return module
