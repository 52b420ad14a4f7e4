"""Arms timed in turn, each in a process of its own; what is compared comes from rounds side by side.

Two clocks: CPU seconds of one thread, which other programs on the machine hardly move, and wall seconds with all
threads, which is what a user waits. An arm sleeps while another is timed.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
Round = dict[str, float]
"""Seconds of one call by clock, ``cpu`` and ``wall``, and ``peak_mib``."""
Clocks = Sequence[str]
THREADS = {"cpu": 1, "wall": len(os.sched_getaffinity(0))}
"""With how many threads each clock is read."""
CLOCKS = tuple(os.environ.get("MEDGAN_BENCH_CLOCKS", "cpu wall").split())
"""Those that are read: on a machine that others use, CPU seconds alone."""
BUSY = 3.0
"""Where all threads take so many times longer than one thread's CPU seconds, others have the cores."""


@dataclass(frozen=True)
class Spread:
    """A median and the lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """That of some rounds."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, digits: str) -> str:
        """``1.52 (1.47 to 1.60)`` for the digits ``.2f``."""
        return f"{self.median:{digits}} ({self.low:{digits}} to {self.high:{digits}})"


def speed_up(base: Sequence[float], arm: Sequence[float]) -> Spread:
    """How many times faster ``arm`` is than ``base``: the ratios of rounds that ran side by side."""
    return Spread.of([slow / fast for slow, fast in zip(base, arm, strict=True)])


def in_turn(arms: Mapping[str, Callable[[], Round]], rounds: int) -> dict[str, list[Round]]:
    """Every arm once in each round, forwards and backwards by turns: A B, B A, A B; so a drift meets all alike."""
    times: dict[str, list[Round]] = {name: [] for name in arms}
    for number in range(rounds):
        for name in list(arms)[:: -1 if number % 2 else 1]:
            times[name].append(arms[name]())
    return times


@dataclass(frozen=True)
class Command:
    """How an arm's process is started: a script that calls :func:`serve`."""

    script: str
    """Beside this file, such as ``arms/learners.py``."""
    arguments: Sequence[str] = ()
    python: str = sys.executable
    """Another environment's interpreter."""
    code: Path | None = None
    """Another checkout of medgan."""


class Arm:
    """A running process that repeats its work when it is told to."""

    def __init__(self, command: Command) -> None:
        paths = [*([str(command.code)] if command.code else []), str(HERE.parent), str(HERE)]
        if command.python != sys.executable:
            paths = [str(HERE)]
        self._process = subprocess.Popen(
            [command.python, str(HERE / command.script), *command.arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.facts: dict[str, Any] = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def time(self, calls: int, threads: int) -> dict[str, float]:
        """Seconds a call by both clocks, the mean of ``calls``; and the process's peak memory in MiB so far."""
        return self._told(calls=calls, threads=threads)

    def flops(self) -> dict[str, float]:
        """FLOPs of one call, ``forward`` and ``backward``: convolutions and matrix products by torch's counter."""
        return self._told(flops=True)

    def _told(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Times:
    """What the rounds of some arms gave."""

    rounds: dict[str, dict[str, list[float]]]
    """Seconds a call by arm and clock, of the clocks that were read."""
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    flops: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)

    def speed_up(self, arm: str, base: str, clock: str) -> Spread:
        """How many times faster ``arm`` is than ``base``."""
        return speed_up(self.rounds[base][clock], self.rounds[arm][clock])

    def seconds(self, arm: str, clock: str) -> Spread:
        """Of one call."""
        return Spread.of(self.rounds[arm][clock])

    def row(self, arm: str, base: str, unit: float = 1e3, digits: str = ".0f") -> list[str]:
        """Cells of a table: by clock the time of a call in seconds / ``unit``, then by clock the ratio to ``base``."""
        taken = {clock: Spread.of([unit * each for each in rounds]) for clock, rounds in self.rounds[arm].items()}
        times = [f"{taken[clock]:{digits}}" if clock in taken else "" for clock in THREADS]
        ratios = [f"{self.speed_up(arm, base, clock):.2f}" if clock in taken else "" for clock in THREADS]
        return [*times, *(["1", "1"] if arm == base else ratios)]


def whole(commands: Mapping[str, Sequence[str]], *, rounds: int, clocks: Clocks = CLOCKS) -> Times:
    """Time whole programs in turn, from their start to their end; ``peak_mib`` is that of their largest process."""
    times = Times({name: {} for name in commands})
    for clock in clocks:
        ready = {name: partial(_whole, line, THREADS[clock]) for name, line in commands.items()}
        for name, each in in_turn(ready, rounds).items():
            times.rounds[name][clock] = [one[clock] for one in each]
            times.peak_mib[name] = max(one["peak_mib"] for one in each)
    return times


def _whole(line: Sequence[str], threads: int) -> Round:
    """A program with so many threads; what it says is only shown where it fails."""
    started = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(line, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(line)} ended with {process.returncode}: {said.read()}")
    wall = time.perf_counter() - started
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def side_by_side(
    commands: Mapping[str, Command], *, rounds: int, seconds: float, flops: Sequence[str] = (), clocks: Clocks = CLOCKS
) -> Times:
    """Time arms in turn: CPU seconds of one thread, then wall seconds with all; ``seconds`` an arm and round."""
    with ExitStack() as stack:
        arms = {name: stack.enter_context(Arm(command)) for name, command in commands.items()}
        times = Times({name: {} for name in arms}, {name: arm.facts for name, arm in arms.items()})
        _read_clocks(times, arms, rounds, seconds, clocks)
        # Last: they are counted in a thread with a pool of its own, beside which libgomp no longer spins.
        times.flops = {name: arms[name].flops() for name in flops}
    return times


def _read_clocks(times: Times, arms: Mapping[str, Arm], rounds: int, seconds: float, clocks: Clocks) -> None:
    """Fill in the rounds by each clock; not the wall's where others have the machine's cores."""
    for clock in clocks:
        calls = {}
        for name, arm in arms.items():
            calls[name], once = _calls(arm, clock, seconds)
            if once > BUSY * Spread.of(times.rounds[name].get("cpu", [once])).median:
                print(f"{name}: the machine is busy, so its wall clock is not read", file=sys.stderr)
                return
        ready = {name: partial(arm.time, calls[name], THREADS[clock]) for name, arm in arms.items()}
        for name, each in in_turn(ready, rounds).items():
            times.rounds[name][clock] = [one[clock] for one in each]
            times.peak_mib[name] = max(one["peak_mib"] for one in each)


def _calls(arm: Arm, clock: str, seconds: float) -> tuple[int, float]:
    """How many calls fill a round, and what one takes; the first warms up, but what is slow is not called again."""
    once = arm.time(1, THREADS[clock])[clock]
    if once < seconds:
        once = arm.time(1, THREADS[clock])[clock]
    return max(1, round(seconds / once)), once


@contextmanager
def quiet() -> Any:
    """What is printed goes to stderr: stdout belongs to the answers."""
    with redirect_stdout(sys.stderr):
        yield


def serve(repeat: Callable[[int], object], *, flops_of: Callable[[int], object] | None = None, **facts: Any) -> None:
    """In an arm's process: do ``repeat(calls)`` as often as it is told to, until nobody tells any more.

    ``flops_of`` does the same work in this thread, where ``repeat`` leaves it to another, in which nobody counts.
    """
    import torch

    answers = sys.__stdout__  # whatever a package under test makes of stdout
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        with quiet():
            if order.get("flops"):
                answer = _flops(flops_of or repeat)
            else:
                torch.set_num_threads(order["threads"])
                wall, cpu = time.perf_counter(), time.process_time()
                repeat(order["calls"])
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                answer = {"wall": wall / order["calls"], "cpu": cpu / order["calls"], "peak_mib": peak}
        print(json.dumps(answer), file=answers, flush=True)


def _flops(repeat: Callable[[int], object]) -> dict[str, float]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        repeat(1)
    by_kind = {str(kind): float(count) for kind, count in counter.get_flop_counts()["Global"].items()}
    backward = sum(count for kind, count in by_kind.items() if "backward" in kind)
    return {"forward": sum(by_kind.values()) - backward, "backward": backward}
