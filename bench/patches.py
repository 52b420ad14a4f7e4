"""What patches cost: the loader's CPU and the device's share of it, how long a step waits, and how many files are open.

    python bench/patches.py [--before DIR] [--quick]

Studies are noise of 240 x 240 x 80 voxels in a cache; pairs of patches of 128 x 128, 3 slices, and 64 x 64 x 64.
``before`` is an older checkout of medgan, whose patches are varied as they are drawn.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from page import judged

from medgan.data.patches import IntensityConfig, PatchConfig, PatchDataset, batches
from medgan.data.preparation import Prepared

HERE = Path(__file__).resolve().parent
SHAPES = {"2D, 128²": ("2", 128), "2.5D, 3 x 128²": ("2.5", 128), "3D, 64³": ("3", 64)}
VARIED = IntensityConfig(gamma=0.3, bias_field=0.3, contrast=0.2, brightness=0.1, noise=0.05)
BATCH, STEP_S = 4, 0.02
MOST_WAIT = 5
"""Percent of the time that a step should wait at most."""
COHORT, MOST_FILES = 2000, 1024


def main(argv: list[str] | None = None) -> int:
    """Print one section in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout of medgan, to be compared with")
    parser.add_argument("--quick", action="store_true", help="a few patches: it runs, and is no evidence")
    parser.add_argument("--cost", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.cost:
            print(json.dumps(costs(Path(folder), 4 if given.quick else 48)))
            return 0
        rows = {"": costs(Path(folder), 4 if given.quick else 48)}
        if given.before:
            rows["before"] = of_another(given.before, quick=given.quick)
        print(
            "\n".join([*cost_table(rows), "", *waits(Path(folder), 10 if given.quick else 200), "", many(Path(folder))])
        )
    return 0


def study(folder: Path, shape: Sequence[int], number: int = 0) -> Prepared:
    """A study of noise whose voxels are a map of a file."""
    path = folder / f"{number}-{shape[0]}.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(number).uniform(-1, 1, shape).astype(np.float32))
    body = tuple((0, size) for size in shape)
    return Prepared(np.load(path, mmap_mode="r"), np.eye(4), body, (-1.0, 1.0))


def dataset(folder: Path, dimensions: str, size: int, *, varied: bool) -> PatchDataset:
    """Pairs of patches of one study, turned and scaled; with ``varied`` intensities, too."""
    one = study(folder, (240, 240, 80))
    intensity = VARIED if varied else IntensityConfig()
    config = PatchConfig(dimensions=dimensions, size_voxels=size, flip=True, intensity=intensity)
    return PatchDataset([one], [one], paired=True, config=config, seed=0)


def costs(folder: Path, number: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of one thread for a pair of patches by shape: in the loader, and where the batch is."""
    result = {}
    for name, (dimensions, size) in SHAPES.items():
        for varied in (False, True):
            data = dataset(folder, dimensions, size, varied=varied)
            data[0]
            times = [time.process_time()]
            drawn = list(batches(data, 0, number // BATCH, BATCH, workers=0))
            times.append(time.process_time())
            if hasattr(data, "augmented"):
                data.augmented(drawn[0])
                times[-1:] = [times[-1], time.process_time()]
                for batch in drawn:
                    data.augmented(batch)
            times.append(time.process_time())
            spent = [1e3 * (times[1] - times[0]), 1e3 * (times[-1] - times[-2])]
            result[f"{name}{', intensities' if varied else ''}"] = [each / number for each in spent]
    return result


def of_another(checkout: Path, *, quick: bool) -> dict[str, list[float]]:
    """The costs with another checkout's code."""
    command = [sys.executable, str(Path(__file__).resolve()), "--cost", *(["--quick"] if quick else [])]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, list[float]] = json.loads(answer.splitlines()[-1])
    return result


def cost_table(rows: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    """A row for each kind of patch."""
    before = rows.get("before")
    yield "A pair of patches in ms of one thread's CPU. A GPU does the augmentation; on a CPU it is the trainer's work."
    yield ""
    last = " before |" if before else ""
    yield f"| patches | loader | augmentation | pairs a second, both | without augmentation |{last}"
    yield f"|---|---|---|---|---|{'---|' if before else ''}"
    for name, (loader, augmentation) in rows[""].items():
        both, alone = 1e3 / (loader + augmentation), 1e3 / loader
        last = f" {1e3 / sum(before[name]):.0f} a second |" if before else ""
        yield f"| {name} | {loader:.2f} | {augmentation:.2f} | {both:.0f} | {alone:.0f} |{last}"


def waits(folder: Path, iterations: int) -> Iterator[str]:
    """How long a step that sleeps waits for its batch, with two workers."""
    step = f"A step that sleeps {1e3 * STEP_S:.0f} ms"
    yield f"{step}, batches of {BATCH} pairs with intensities, 2 workers, {iterations} steps:"
    yield ""
    yield "| patches | of the time the step waits, % | target | CPU a batch of the workers, ms | of the trainer |"
    yield "|---|---|---|---|---|"
    for name, (dimensions, size) in SHAPES.items():
        ended, own = _ended_s(), time.process_time()
        source = batches(dataset(folder, dimensions, size, varied=True), 0, iterations + 5, BATCH, workers=2)
        for _ in range(5):  # the workers have begun
            next(source)
            time.sleep(STEP_S)
        started, waited = time.perf_counter(), 0.0
        for _ in range(iterations):
            asked = time.perf_counter()
            next(source)
            waited += time.perf_counter() - asked
            time.sleep(STEP_S)
        share = 100 * waited / (time.perf_counter() - started)
        source.close()
        workers, trainer = (1e3 * s / (iterations + 5) for s in (_ended_s() - ended, time.process_time() - own))
        yield f"| {name} | {share:.1f} | {judged(share, MOST_WAIT, most=True)} | {workers:.1f} | {trainer:.1f} |"


def _ended_s() -> float:
    """Seconds of CPU of the processes that this one began and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def many(folder: Path) -> str:
    """Draw from a cohort of many studies under a limit of open files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    small = [study(folder, (24, 24, 4), number) for number in range(COHORT)]
    config = PatchConfig(size_voxels=16)
    data = PatchDataset(small, small, paired=True, config=config, seed=0)
    for _ in batches(data, 0, COHORT // BATCH, BATCH, workers=2):
        pass
    for number in range(COHORT // 10):
        data[number]
    files = sum(file.path.endswith(".npy") for file in psutil.Process().open_files())
    return f"{COHORT:,} studies under a limit of {MOST_FILES:,} open files: drawn, and {files} open in this process."


if __name__ == "__main__":
    sys.exit(main())
