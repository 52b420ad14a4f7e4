"""A few real iterations and one validation in a process of their own: how long they take, and how much memory."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from medgan import catalog
from medgan.config import Config
from medgan.data.cache import Cache, default_folder
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.pictures.panels import Panel
from medgan.pipeline import PipelineConfig
from medgan.processes import WorkerKilledError, in_processes
from medgan.threads import free
from medgan.training.device import make_fabric
from medgan.training.fit import Fit
from medgan.training.recorder import Unrecorded

WARM, TIMED = 3, 6
"""Iterations that warm up, and those of which the fastest counts."""
GIB = 1 << 30


@dataclass(frozen=True)
class Trial:
    """A training of a few iterations with the settings of a whole one."""

    pipeline: str
    config: PipelineConfig
    cohort: Cohort
    split: Split
    """Of some subjects: as many as the task needs."""
    device: str
    threads: int | None = None
    """Of the processor; None takes those that are free."""


@dataclass(frozen=True)
class Measured:
    """What a trial took."""

    step_s: float
    validation_s: float
    """Of the trial's own validation subjects; 0 without any."""
    before_gib: float
    """Memory of the process before the first iteration."""
    peak_gib: float
    """Its highest, or on a GPU the most that was reserved there."""


class _Clock(Unrecorded):
    """Notes when iterations and the validation ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.iterations_s, self.validated_s = list[tuple[float, float]](), 0.0

    def iteration(self, number: int) -> None:
        """One more is done."""
        del number
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.iterations_s.append((time.perf_counter(), time.process_time()))

    def epoch(self, history: list[dict[str, float]], panel: Panel | None, best_epoch: int = 0) -> None:
        """The validation is done."""
        del history, panel, best_epoch
        self.validated_s = time.perf_counter()


def measure(trial: Trial) -> Measured | None:
    """What a trial takes in a fresh process, which has the threads that are free; None where its memory ran out."""
    try:
        ((_, future),) = in_processes([trial], _run, 1, threads=trial.threads or free().number)
    except WorkerKilledError:
        return None
    return future.result()


def _run(trial: Trial) -> Measured:
    config = whole_game(trial.config)
    steps = {"epochs": 1, "iterations_per_epoch": WARM + TIMED, "compile": False}
    fit = config.fit.model_copy(update=steps)
    task = catalog.load(trial.pipeline)(config).task(trial.cohort, trial.split, Cache(default_folder()))
    fabric, learner = make_fabric(trial.device, fit.precision), task.seeded()
    before = psutil.Process().memory_info().rss / GIB
    with TemporaryDirectory() as folder:
        clock = _Clock(Path(folder))
        loop = Fit(learner, task.patches, task.held_out, fit, fabric=fabric, folder=Path(folder), recorder=clock)
        loop.run()
    if fabric.device.type == "cuda":
        before, peak = 0.0, torch.cuda.max_memory_reserved(fabric.device) / GIB
    else:
        import resource  # Windows has none

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
    wall_s, cpu_s = np.diff(clock.iterations_s[WARM - 1 :], axis=0).T
    # A processor's threads wait for each other without sleeping, so that what they compute is what the clock would show
    # if nobody else were on the machine.
    step_s = float(
        min(wall_s.min(), *([] if fabric.device.type == "cuda" else [cpu_s.min() / torch.get_num_threads()]))
    )
    validation_s = clock.validated_s - clock.iterations_s[-1][0] if task.held_out.source else 0.0
    return Measured(step_s, validation_s * step_s / float(wall_s.mean()), before, peak)


def phases(config: Config) -> dict[str, dict[str, int]]:
    """The settings that count iterations of a phase, such as ``cyclegan.ramp_iterations``, by section."""
    sections = {name: section for name, section in config if isinstance(section, Config) and name != "fit"}
    found = {
        name: {key: int(value) for key, value in section if key.endswith("_iterations") and value}
        for name, section in sections.items()
    }
    return {name: counts for name, counts in found.items() if counts}


def whole_game(config: PipelineConfig) -> Any:
    """The settings without phases at the start in which less is computed than afterwards."""
    without: Mapping[str, Config] = {
        name: getattr(config, name).model_copy(update=dict.fromkeys(counts, 0))
        for name, counts in phases(config).items()
    }
    return config.model_copy(update=without)
