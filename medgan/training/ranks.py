"""The processes that share one training, rank by rank: what they say to each other, how they begin and how they end.

Each rank has a device, a share of every batch and all of the networks; gradients are averaged before each optimiser's
step, so that weights are those of one process with the whole batch. All that ranks exchange goes through
:class:`Ranks`, and a rank that is lost ends the others: its connections close.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor, distributed
from torch._C._distributed_c10d import TCPStore
from torch.optim import Optimizer

from medgan.errors import ConfigError, MedganError, TrainingError
from medgan.processes import begin_beside, end_processes
from medgan.training.device import Place, device_of

T = TypeVar("T")
STUCK_S = 1800.0
"""How long ranks wait for one that still runs, in a step or a validation."""
PREPARING_S = 86_400.0
"""How long they wait while studies are prepared."""
LEAVING_S = 30.0
"""How long this process may take to end by itself after another of its node was killed."""


MEETING_S = 300.0
"""How long they wait for each other at the start."""
TELLING_S = 8.0
"""How long another process of this node may take to end before it is said why it did."""
PORT = 29_500
"""Where ranks of several nodes meet, if ``MASTER_PORT`` says nothing."""
AFTER_ANOTHER = 3
"""The exit code of a rank beside the first, which tells why."""
GO_ON = "add --resume to go on from the last state"


class LostRankError(TrainingError):
    """Another rank has ended, so that this one cannot go on."""


@dataclass
class Others:
    """The other ranks of this node, which this process has started; none, where torchrun or srun did."""

    processes: list[BaseProcess] = field(default_factory=list)
    messages: "SimpleQueue[str] | None" = None
    """What ended them, in their words."""

    def loss(self, error: Exception | None = None) -> str:
        """What happened to the rank that is gone, as far as it can be told."""
        until = monotonic() + TELLING_S
        for process in self.processes:
            process.join(max(until - monotonic(), 0))
        if self.messages and not self.messages.empty():
            return self.messages.get()
        for number, process in enumerate(self.processes, start=1):
            if (code := process.exitcode or 0) < 0:
                name = signal.Signals(-code).name
                return f"rank {number} (process {process.pid}) was ended by {name}, perhaps for want of memory; {GO_ON}"
        reason = f" ({str(error).splitlines()[0]})" if error else ""
        return f"another rank has ended, or the network between them is broken{reason}; {GO_ON}"


class Ranks:
    """All processes of a training, as this one sees them; alone, every method gives back what it got."""

    def __init__(self, place: Place | None = None, device: str = "auto", others: Others | None = None) -> None:
        self.place, self.device, self._others = place or Place(), device, others or Others()
        self.rank, self.world = self.place.rank, self.place.world
        long = timedelta(seconds=PREPARING_S)
        self._patient = distributed.new_group(timeout=long, backend="gloo") if self.world > 1 else None

    def _exchange(self, operation: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """A collective operation, in which all ranks take part."""
        try:
            operation(*arguments, **named)
        except RuntimeError as error:  # gloo and NCCL have no error of their own for a rank that is gone
            raise LostRankError(self._others.loss(error)) from None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes, tracks and speaks."""
        return self.rank == 0

    def share(self, batch_size: int, parts: int = 1) -> int:
        """This rank's part of a batch, which goes through in ``parts``.

        Raises:
            ConfigError: Ranks, or parts, would be unequal.
        """
        if batch_size % (self.world * parts):
            pieces = self.world * parts
            each = f", each in {parts} parts (fit.accumulate)" if parts > 1 else ""
            nearest = max(round(batch_size / pieces), 1) * pieces
            raise ConfigError(
                f"fit.batch_size={batch_size} is the batch of all {self.world} devices together{each}, which cannot "
                f"share it equally; set fit.batch_size={nearest}, or take another number of --devices."
            )
        return batch_size // self.world

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        if self.world == 1:
            return flag
        flags = torch.tensor(flag, dtype=torch.uint8)
        self._exchange(distributed.all_reduce, flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def average(self, optimizer: Optimizer) -> None:
        """Replace the gradients of an optimiser's parameters by their means over ranks."""
        if self.world == 1:
            return
        parameters = (each for group in optimizer.param_groups for each in group["params"])
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._exchange(distributed.all_reduce, flat)
        parts = (flat / self.world).split([gradient.numel() for gradient in gradients])
        shaped = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, shaped)

    def total(self, sums: Tensor) -> Tensor:
        """The sum over ranks; its gradient, once averaged over ranks, is that of the whole sum."""
        if self.world == 1:
            return sums
        whole = sums.detach().clone()
        self._exchange(distributed.all_reduce, whole)
        return whole + self.world * (sums - sums.detach())

    def gather(self, images: Tensor) -> Tensor:
        """The whole batch (B, ...) of which each rank has its share, in the order of the ranks; detached."""
        if self.world == 1:
            return images
        parts = [torch.empty_like(images, memory_format=torch.contiguous_format) for _ in range(self.world)]
        self._exchange(distributed.all_gather, parts, images.detach().contiguous())
        return torch.cat(parts)

    def part(self, images: Tensor) -> Tensor:
        """This rank's share of a whole batch (B, ...)."""
        return images.chunk(self.world)[self.rank]

    def all(self, content: T) -> list[T]:
        """What each rank gives, in their order; for small things."""
        if self.world == 1:
            return [content]
        contents: list[Any] = [None] * self.world
        self._exchange(distributed.all_gather_object, contents, content)
        return contents

    def of_first(self, content: T) -> T:
        """What the first rank gives, on all of them; others may take long to ask for it, and wait for it long."""
        if self.world == 1:
            return content
        contents = [content]
        self._exchange(distributed.broadcast_object_list, contents, 0, group=self._patient)
        return contents[0]

    def shared_out(self, subjects: Sequence[T], work: Callable[[T], Any]) -> list[Any]:
        """``work`` of each subject, an array, done by every ``world``-th rank in turn; all have all results."""
        results = [work(each) if number % self.world == self.rank else None for number, each in enumerate(subjects)]
        if self.world == 1:
            return results
        kinds = self.all([(0, "") if each is None else (each.shape, each.dtype) for each in results])
        for number, result in enumerate(results):
            owner = number % self.world
            array = np.empty(*kinds[owner][number]) if result is None else np.ascontiguousarray(result)
            self._exchange(distributed.broadcast, torch.from_numpy(array), owner)
            results[number] = array
        return results

    @contextmanager
    def first_of_node(self) -> Iterator[None]:
        """The block on one rank of each node and then, when what it keeps on the disk is there, on the others."""
        if self.place.local_rank:
            self._exchange(distributed.barrier, group=self._patient)
        yield
        if self.world > 1 and not self.place.local_rank:
            self._exchange(distributed.barrier, group=self._patient)


@contextmanager
def joined(place: Place, devices: Sequence[str], assist: Callable[..., object], *arguments: Any) -> Iterator[Ranks]:
    """All ranks of a training, for as long as the block runs; where nobody else does, the node's others are started.

    Args:
        place: This process's, as :func:`medgan.training.device.take_place` says.
        devices: Of each process on this node.
        assist: What those that are started here do, ``assist(ranks, *arguments)``; a function of a module.
        arguments: Passed on to them.

    Raises:
        LostRankError: Another rank has ended before its time.
    """
    if place.world == 1:
        yield Ranks(device=devices[0])
        return
    host, port = _main_address(place)
    leads = place.rank == 0 and place.launcher != "torchrun"
    store = TCPStore(host, port, place.world, is_master=True, wait_for_workers=False) if leads else None
    address = (host, store.port if store else port)
    spawning = multiprocessing.get_context("spawn")
    others, finished = Others(messages=spawning.SimpleQueue()), threading.Event()
    for number in range(1, 1 if place.launcher else place.local_world):
        other = replace(place, rank=place.rank + number, local_rank=number)
        given = (other, devices, address, others.messages, assist, arguments)
        others.processes.append(spawning.Process(target=_assist, args=given))
        others.processes[-1].start()
    threading.Thread(target=_watch, args=(others, finished), daemon=True).start()
    try:
        with _connected(place, devices, address, others, store) as ranks:
            yield ranks
        for process in others.processes:
            process.join(LEAVING_S)
    finally:
        finished.set()
        end_processes(set(others.processes))


@contextmanager
def _connected(
    place: Place,
    devices: Sequence[str],
    address: tuple[str, int],
    others: Others,
    store: TCPStore | None = None,
) -> Iterator[Ranks]:
    """The ranks, once they have found each other; when one leaves, the others' connections to it close."""
    device, patience = device_of(place, devices), timedelta(seconds=STUCK_S)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    try:
        if place.launcher == "torchrun":
            distributed.init_process_group(backend, timeout=patience)
        else:
            store = store or TCPStore(*address, place.world, is_master=False, timeout=timedelta(seconds=MEETING_S))
            distributed.init_process_group(
                backend, store=store, rank=place.rank, world_size=place.world, timeout=patience
            )
        ranks = Ranks(place, device, others)
    except RuntimeError as error:
        raise LostRankError(others.loss(error)) from None
    try:
        yield ranks
    finally:
        # A GPU that waits for a rank which is gone would keep this one for ever.
        leaving = threading.Thread(target=distributed.destroy_process_group, daemon=True)
        leaving.start()
        leaving.join(LEAVING_S / 10)


def _main_address(place: Place) -> tuple[str, int]:
    """Where ranks meet: what the environment says, else the first of SLURM's nodes, else this machine, any port."""
    host, port = os.environ.get("MASTER_ADDR"), int(os.environ.get("MASTER_PORT", 0))
    if place.launcher == "srun":
        nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
        # Every rank must know the port; two steps of a job must not meet at one.
        job, step = (int(os.environ.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return host or SLURMEnvironment.resolve_root_node_address(nodes), port or 15_000 + (job + 97 * step) % 10_000
    if place.nodes == 1 and not place.launcher:
        return "127.0.0.1", 0
    return host or "127.0.0.1", port or PORT


def _assist(
    place: Place,
    devices: Sequence[str],
    address: tuple[str, int],
    messages: "SimpleQueue[str]",
    assist: Callable[..., object],
    arguments: Sequence[Any],
) -> None:
    """All that a started rank does; what ends it, and it alone, the first rank says."""
    begin_beside(None)
    try:
        with _connected(place, devices, address, Others()) as ranks:
            try:
                assist(ranks, *arguments)
            except (LostRankError, KeyboardInterrupt):
                raise
            except Exception as error:  # said before the connections close, by which the first rank learns of it
                known = str(error) if isinstance(error, MedganError) else f"unexpected {type(error).__name__}: {error}"
                messages.put(f"rank {place.rank}: {known}")
                raise
    except BaseException:
        os._exit(AFTER_ANOTHER)


def _watch(others: Others, finished: threading.Event) -> None:
    """End this process, too, where another of its node was lost and it does not end by itself: it may wait on a GPU."""
    running = others.processes
    while not any(process.exitcode for process in others.processes):
        if not running:
            return
        wait([process.sentinel for process in running])
        running = [process for process in running if process.exitcode is None]
    if not finished.wait(LEAVING_S):
        print(f"medgan: {others.loss()}", file=sys.stderr, flush=True)
        for process in others.processes:
            process.kill()
        os._exit(2)
