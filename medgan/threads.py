"""How many threads a process computes with: those that are free, or as many as it is told.

Convolutions on CPUs let threads wait for each other without sleeping. Where one of them has no core of its own the
others burn theirs until it has had its turn, so a thread too many costs far more than it brings.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.errors import ConfigError

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
LEAST_WINDOW_S, LONGEST_WINDOW_S = 0.2, 30.0
"""Over how long it is seen what other processes compute: /proc/stat counts in hundredths of a second."""
WATCHED_S = 10.0
"""How long a training is beside others before it gives threads up."""
POOLS = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
"""What torch, NumPy's and SciPy's BLAS, and SimpleITK take their threads from when they are loaded."""


def cores() -> int:
    """The cores that this process may use: its affinity, or fewer where a control group grants less CPU time."""
    return max(1, min([len(_affinity()), *(int(quota) for quota in _quotas())]))


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quotas() -> Iterator[float]:
    """CPU seconds a second of the control groups around this process, version 2 or 1, that have a limit."""
    for line in (_text(PROC / "self" / "cgroup") or "").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS if number == "0" else CGROUPS / "cpu"
        inner = root / path.lstrip("/")
        for group in (inner, *(each for each in inner.parents if each.is_relative_to(root))):
            if number == "0":
                quota, _, period = (_text(group / "cpu.max") or "max").partition(" ")
            else:
                quota, period = (_text(group / f"cpu.cfs_{name}_us") or "-1" for name in ("quota", "period"))
            if quota.strip().isdigit() and int(period) > 0:
                yield int(quota) / int(period)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return None


class Neighbours:
    """What other processes compute on the cores that this one may use."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._at_s, self._busy_s = time.monotonic(), _others_s()

    @property
    def window_s(self) -> float:
        """How long ago somebody looked."""
        return time.monotonic() - self._at_s

    def look(self) -> float:
        """How many cores they kept busy since somebody looked; after a long time, or no time, it waits a moment."""
        if self.window_s > LONGEST_WINDOW_S:
            self._begin()
        time.sleep(max(0.0, LEAST_WINDOW_S - self.window_s))
        window_s, before_s = self.window_s, self._busy_s
        self._begin()
        return max(0.0, (self._busy_s - before_s) / window_s)


def _others_s() -> float:
    """CPU seconds that others, and no children, have used on this process's cores; 0 where there is no /proc."""
    own, ticks = _affinity(), 0
    for line in (_text(PROC / "stat") or "").splitlines():
        name, *counts = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in own:
            user, nice, system, _, _, *interrupts = map(int, counts[:8])  # no idle, no waiting; guests are users
            ticks += user + nice + system + sum(interrupts)
    for child in multiprocessing.active_children():  # such as the processes that read patches
        counts = (_text(PROC / str(child.pid) / "stat") or ")").rpartition(")")[2].split()
        ticks -= sum(map(int, counts[11:15]))  # with those of its own processes that have ended
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4]) if ticks else 0.0


_neighbours = Neighbours()
"""Looked at when a command begins, so that it sees who else has begun while it is loaded."""


@dataclass(frozen=True)
class Threads:
    """Those that a process computes with."""

    number: int
    why: str
    given: bool
    """Whether somebody said how many; else fewer are used while others compute."""

    def __str__(self) -> str:
        return f"{_counted(self.number, 'thread')}: {self.why}"


_taken: Threads | None = None


def check(threads: int | None) -> None:
    """Refuse more threads than this process has cores.

    Raises:
        ConfigError: So many would wait for each other.
    """
    if threads is not None and not 1 <= threads <= cores():
        raise ConfigError(
            f"--threads {threads}: this process may use {_counted(cores(), 'core')}; give 1 or more, and no more than "
            "that, or leave it out."
        )


def free() -> Threads:
    """As many as there are cores that nobody else computes on, at least one; OMP_NUM_THREADS wins."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if told.isdigit() and int(told):
        return Threads(int(told), f"OMP_NUM_THREADS={told}", True)
    most, busy = cores(), _neighbours.look()
    number = max(1, min(most, round(len(_affinity()) - busy)))
    return Threads(number, f"{_counted(most, 'core')}, others use {busy:.1f}", False)


@contextmanager
def taken(threads: int | None = None, *, jobs: int = 1, begun: int | None = None) -> Iterator[Threads]:
    """Compute with so many threads, by default with those that are free; what does the same within has these, too.

    Args:
        threads: As the user wants it.
        jobs: Computations of this process among which they are divided.
        begun: Of what is gone on with, the number so far: equal numbers of threads give equal bits.

    Raises:
        ConfigError: More than this process has cores.
    """
    import torch

    global _taken
    check(threads)
    before, had = _taken, torch.get_num_threads()
    now = Threads(threads, "--threads", True) if threads is not None else before or free()
    if not now.given and had < now.number:
        now = Threads(had, "as torch was set", True)
    if begun not in (None, now.number):
        if now.given or begun > cores():
            now = replace(now, why=f"{now.why}; begun with {begun}, so it ends in other bits")
        else:
            now = Threads(begun, "as it was begun", False)
    _taken = replace(now, number=max(1, now.number // jobs))
    torch.set_num_threads(_taken.number)
    try:
        yield _taken
    finally:
        _taken = before
        torch.set_num_threads(had)


def heed() -> str:
    """Use fewer of the threads taken while others compute, and all again when they have ended; what to say of it."""
    if _taken is None or _taken.given or _taken.number == 1 or _neighbours.window_s < WATCHED_S:
        return ""
    import torch

    used, now = torch.get_num_threads(), free()
    number = min(_taken.number, now.number)
    if number == used:
        return ""
    torch.set_num_threads(number)
    return f"from here on {replace(now, number=number)}; --threads keeps to a number, and to its bits"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


@contextmanager
def shared(number: int) -> Iterator[None]:
    """Processes that are started meanwhile compute with so many threads each, whatever they load."""
    before = {name: os.environ.get(name) for name in POOLS}
    os.environ.update(dict.fromkeys(POOLS, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
