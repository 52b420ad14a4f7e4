"""From a command to its answer: the first step of a training, warm and cold, help, wrong use, and one study converted.

    python bench/first_step.py [--before DIR] [--rounds 2] [--quick]

Each command runs as a user starts it, in a process of its own, with caches and an MLflow store of its own. A first step
has ended when each of CycleGAN's two optimisers has stepped once, which a hook of torch's tells; then the process ends.
Memory is the most that all processes of a command hold at once, shared pages counted in each.
"""

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
from page import judged, table
from timing import Spread

HERE = Path(__file__).resolve().parent
TRAIN = ("train", "--pipeline", "ct_contrast", "--device", "cpu")
TINY = ("fit.epochs=1", "fit.iterations_per_epoch=2", "fit.batch_size=1", "fit.keep=last")
WRONG = (
    "train --pipeline ct_contrst", "train -p ct_contrast fit.epoch=3", "train -p ct_contrast --data nowhere",
    "train -p ct_contrast --device gpu", "train -p ct_contrast --resume-or-start", "trian",
    "convert nowhere out --model model", "convert . out --model nowhere", "evaluate --synthetic nowhere --out out",
    "sweep -p ct_contrast cyclegan.cycl=1,2",
)  # fmt: skip
"""Ten commands that cannot be done."""
FIRST = """
import os
from torch.optim.optimizer import register_optimizer_step_post_hook

stepped = set()

def step(optimizer, *_):
    stepped.add(id(optimizer))
    if len(stepped) == 2:
        os._exit(0)

register_optimizer_step_post_hook(step)
from medgan.cli import main
main()
"""
"""The program ``medgan`` that ends after the first step of two optimisers."""


@dataclass(frozen=True)
class Run:
    """How one command ended."""

    seconds: float
    cpu_s: float
    """Of all its processes."""
    peak_mb: float
    code: int


def timed(command: Sequence[str], code: Path, home: Path) -> Run:
    """Run a command with the medgan in ``code``; its caches and its MLflow store are in ``home``."""
    environment = os.environ | {
        "PYTHONPATH": str(code), "MEDGAN_CACHE": str(home / "cache"), "MEDGAN_HOME": str(home / "data")
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)
    peak, ended = 0, threading.Event()
    begun, before = time.perf_counter(), _used_s()
    process = subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, _held(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    exit_code = process.wait()
    seconds = time.perf_counter() - begun
    ended.set()
    watcher.join()
    return Run(seconds, _used_s() - before, peak / 1e6, exit_code)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _held(pid: int) -> int:
    """Bytes that a process and its children hold."""
    held = 0
    try:
        above = psutil.Process(pid)
        for each in (above, *above.children(recursive=True)):
            held += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return held


class Measured:
    """The rows of the table, for one checkout of medgan or for two in turn."""

    def __init__(self, codes: Mapping[str, Path], rounds: int, folder: Path) -> None:
        self.codes, self.rounds, self.folder = codes, rounds, folder
        self.rows: list[list[str]] = []

    def row(
        self, what: str, commands: Sequence[Sequence[str]], target_s: float, *, code: int = 0, cold: bool = False
    ) -> None:
        """Time commands, each of which must end with ``code``; ``cold`` gives each a home that has nothing yet."""
        runs: dict[str, list[Run]] = {name: [] for name in self.codes}
        for number, (name, checkout) in product(range(self.rounds), self.codes.items()):
            for command in commands:
                home = Path(tempfile.mkdtemp(dir=self.folder)) if cold else self.folder / name
                run = timed(command, checkout, home)
                print(f"{what}, {name}, round {number + 1}: {run.seconds:.2f} s", file=sys.stderr)
                if run.code != code:
                    raise SystemExit(f"{shlex.join(command)} ended with {run.code}, not {code}")
                runs[name].append(run)
        seconds = [Spread.of([run.seconds for run in each]) for each in runs.values()]
        cpu = [f"{Spread.of([run.cpu_s for run in each]):.2f}" for each in runs.values()]
        memory = [f"{max(run.peak_mb for run in each):.0f}" for each in runs.values()]
        verdict = judged(seconds[-1].median, target_s, most=True) if target_s else ""
        self.rows.append([what, *(f"{each:.2f}" for each in seconds), *cpu, *memory, verdict])


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a section in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout of medgan, to be compared with")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round: it runs, and is no evidence")
    given = parser.parse_args(argv)
    codes = {"before": given.before.resolve()} if given.before else {}
    codes["now"] = HERE.parent
    program = [sys.executable, "-m", "medgan"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, code in codes.items():  # fills its caches
            (folder / name).mkdir()
            run = timed([*program, *TRAIN, *TINY], code, folder / name)
            print(f"training {name}: {run.seconds:.0f} s", file=sys.stderr)
        (model,) = (folder / next(iter(codes))).glob("runs/ct_contrast/*/model")  # of the older, which both can read
        study = next(folder.glob("*/cache/phantom/*/sub-001/contrast.nii.gz"))
        measured = Measured(codes, 1 if given.quick else given.rounds, folder)
        measured.row("first step, nothing cached", [[sys.executable, "-c", FIRST, *TRAIN]], 15, cold=True)
        measured.row("first step, studies cached", [[sys.executable, "-c", FIRST, *TRAIN]], 6)
        measured.row("help, of all commands", [[*program, "--help"]], 0.5)
        measured.row("ten wrong uses, each", [[*program, *shlex.split(wrong)] for wrong in WRONG], 0.5, code=2)
        convert = ["convert", study, folder / "converted.nii.gz", "--model", model, "--overwrite", "--device", "cpu"]
        measured.row("one small study converted", [[*program, *map(str, convert)]], 0)
    heads = [f"{unit}, {name}" for unit in ("s", "CPU s", "MB") for name in codes]
    print(table(["", *heads, "target, s"], measured.rows))
    print(f"`python bench/first_step.py{' --before …' if given.before else ''}`: medians, with the lowest and highest.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
