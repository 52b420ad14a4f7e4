"""Work in several processes, of which none outlives the command: a stop, an error or a kill ends them all."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from itertools import islice
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any, TypeVar

from medgan.threads import cores, shared

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, what ends a process, and what SLURM is told to send before a job's time is over; Windows has no SIGUSR1."""
GRACE_S = 20.0
"""How long a process that is asked to end may take to save what it has; then it is killed."""

T = TypeVar("T")
R = TypeVar("R")


class WorkerKilledError(Exception):
    """A process was killed from outside, perhaps for want of memory; ``args`` are the tasks that were under way."""


def do_all(tasks: Sequence[T], run: Callable[[T], object], *, most: int, each: int) -> None:
    """Do tasks in as many processes as there are cores for, at most ``most``, and each with ``each`` tasks or more.

    A process takes about a second to start: with fewer tasks it does not pay, and they are done in this one.

    Raises:
        WorkerKilledError: A process was killed.
    """
    jobs = min(cores(), len(tasks) // each, most)
    if jobs < 2:
        for task in tasks:
            run(task)
        return
    with closing(in_processes(tasks, run, jobs)) as ended:
        for _, future in ended:
            future.result()


def in_processes(
    tasks: Sequence[T], run: Callable[[T], R], jobs: int, begin: Callable[[], object] | None = None, threads: int = 1
) -> Generator[tuple[T, Future[R]]]:
    """Tasks as they end, several at the same time.

    A process gets its next task when its last one has ended. When the caller stops (Ctrl-C, an error, a closed
    iterator), processes are told to end as by SIGTERM; killed, this process takes them along. ``run`` does a task, and
    ``begin`` is what a process does first; both are functions of a module, so that other processes find them. Each
    computes with so many ``threads``.
    """
    others = set(multiprocessing.active_children())
    waiting, running = iter(tasks), dict[Future[R], T]()
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawning, initializer=begin_beside, initargs=(begin,))
    try:
        while True:
            with _apart_from_main(run), shared(threads):
                running |= {pool.submit(run, task): task for task in islice(waiting, jobs - len(running))}
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                raise BrokenProcessPool
            for future in done:
                yield running.pop(future), future
    except BrokenProcessPool:
        raise WorkerKilledError(*running.values()) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_processes(set(multiprocessing.active_children()) - others)
        raise
    finally:
        pool.shutdown()


@contextmanager
def beside(run: Callable[[T], object], task: T) -> Iterator[None]:
    """A function of a module does a task in a process of its own, with more of them perhaps, while the body runs.

    It is ended with the body. What goes wrong there is left to whoever needs what it should have done.
    """
    process = multiprocessing.get_context("spawn").Process(target=_quietly, args=(run, task))
    with _apart_from_main(run):
        process.start()
    try:
        yield
    finally:
        end_processes({process})


def _quietly(run: Callable[[T], object], task: T) -> None:
    begin_beside(None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it ends its own processes
    with suppress(Exception):
        run(task)


@contextmanager
def _apart_from_main(run: Callable[..., object]) -> Iterator[None]:
    """Processes that are started in here do not run the main program's file again, where ``run`` is not in it.

    It is a user's script perhaps, which would train once more in each of them.
    """
    main = vars(sys.modules["__main__"])
    own = getattr(run, "func", run).__module__ == "__main__"  # or that of a partial
    before: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main and not own}
    main.update(dict.fromkeys(before))
    try:
        yield
    finally:
        main.update(before)


def _end_with_parent() -> None:
    """End this process when its parent has ended, however that was.

    A command that was killed must not go on working beside the one that takes its place.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only what multiprocessing began has a parent"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def begin_beside(begin: Callable[[], object] | None) -> None:
    """Ctrl-C reaches every process of a terminal: what it means is told by the one that was started there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    if begin:
        begin()


def end_processes(processes: set[BaseProcess]) -> None:
    """Ask processes to end, and kill those that do not."""
    for process in processes:
        process.terminate()
    until = monotonic() + GRACE_S
    for process in processes:
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: at once
            process.join(max(until - monotonic(), 0))
        if process.is_alive():
            process.kill()
            process.join()
