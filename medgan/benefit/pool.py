"""Children of a study one after the other, or several at the same time, each in a process of its own."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import torch
from rich.console import Console

from medgan import processes
from medgan.benefit.failures import Failure, failure_of
from medgan.errors import TrainingError


class Named(Protocol):
    """What of a child is told."""

    @property
    def name(self) -> str:
        """How people and folders call it."""

    @property
    def outcome(self) -> str:
        """What is said of it when it has ended."""


class Work(Protocol):
    """A child and all that a process must know to bring it to its end."""

    @property
    def child(self) -> Named:
        """The child."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""


T = TypeVar("T", bound=Work)
Ended: TypeAlias = Generator[tuple[T, BaseException | None], None, None]
"""Tasks as they end, each with what ended it early."""


def run_tasks(
    tasks: Sequence[T], run: Callable[[T], None], jobs: int, console: Console, *, what: str = "segmenters"
) -> tuple[Failure, ...]:
    """Bring every child to its end; one that fails is named, and does not stop the others.

    Args:
        tasks: The children.
        run: Brings one to its end; a function of a module, so that other processes find it.
        jobs: How many at the same time.
        console: Where it is told how far the study is.
        what: The children are, for people.

    Raises:
        LeakageError: A child would see a test subject: nothing of such a study is to be believed.
        KeyboardInterrupt: Asked to stop.
    """
    left = [task for task in tasks if not task.done]
    if len(left) < len(tasks):
        console.out(f"{len(tasks) - len(left)} of {len(tasks)} {what}: finished before", highlight=False)
    try:
        with closing(in_turn(left, run) if jobs == 1 else in_processes(left, run, jobs)) as ended:
            return tuple(_failures(ended, len(tasks) - len(left), len(tasks), console))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "stopped; the same command goes on from there.") from None


def _failures(ended: Ended[T], before: int, total: int, console: Console) -> Iterator[Failure]:
    """Those that failed, while all are told of as they end."""
    for number, (task, error) in enumerate(ended, before + 1):
        place = f"{number}/{total} {task.child.name}"
        if error is None:
            console.out(f"{place}: {task.child.outcome}", highlight=False)
            continue
        failure = failure_of(task.child.name, error)
        console.out(f"{place}: failed: {failure.reason}", highlight=False)
        yield failure


def in_turn(tasks: Sequence[T], run: Callable[[T], None]) -> Ended[T]:
    """One after the other, in this process."""
    for task in tasks:
        error: BaseException | None = None
        try:
            run(task)
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        yield task, error


def in_processes(tasks: Sequence[T], run: Callable[[T], None], jobs: int) -> Ended[T]:
    """Several at the same time; a stop reaches them all, and each keeps its state.

    Raises:
        TrainingError: A process was killed.
    """
    begin = partial(torch.set_num_threads, max(1, torch.get_num_threads() // jobs))
    with closing(processes.in_processes(tasks, run, jobs, begin)) as ended:
        try:
            for task, future in ended:
                yield task, future.exception()
        except processes.WorkerKilledError as killed:
            names = ", ".join(task.child.name for task in killed.args)
            raise TrainingError(
                f"a process that trained {names} was killed, perhaps for want of memory; run the same command with "
                "fewer --jobs."
            ) from None
