"""What a run leaves to look at while it trains: the progress bar, metrics.csv, sample panels, the tracking run."""

import csv
import io
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medgan.data.streams import replacing, write_text
from medgan.text import duration
from medgan.tracking import Tracker
from medgan.training import state

QUIET = Console(quiet=True)
TIMED = 10
"""Iterations after which a session says how long it will take; the first, which warms up, does not count."""


class Recorder:
    """The record of one run: ``metrics.csv`` and ``samples/`` in a folder, MLflow if given, and a progress bar."""

    def __init__(self, folder: Path, tracker: Tracker | None = None, console: Console = QUIET) -> None:
        self.folder, self.tracker, self.console = folder, tracker, console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=console.quiet or not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=None)
        self.first = self.total = 0
        self.warm_s = 0.0

    def begin(self, epochs: int, iterations_per_epoch: int, progress: state.Progress) -> None:
        """The run starts, or goes on, at ``progress``."""
        self.first, self.total = progress.iteration, epochs * iterations_per_epoch
        self.bar.update(self.task, total=self.total, completed=self.first)
        self._write_metrics(progress.history)

    def iteration(self, number: int) -> None:
        """``number`` iterations are done."""
        self.bar.update(self.task, completed=number)
        if number == self.first + 1:
            self.warm_s = time.perf_counter()
        if number == self.first + TIMED:
            each_s = (time.perf_counter() - self.warm_s) / (TIMED - 1)
            left = duration(each_s * (self.total - number))
            self.console.out(f"about {left} to go ({each_s:.2g} s an iteration)", highlight=False)

    def epoch(self, history: list[dict[str, float]], panel: NDArray[np.uint8] | None) -> None:
        """An epoch ended: its metrics are the last row of ``history``."""
        row = history[-1]
        number = int(row["epoch"])
        self._write_metrics(history)
        if panel is not None:
            path = self.folder / "samples" / f"epoch_{number:04d}.png"
            with replacing(path) as stream:
                Image.fromarray(panel).save(stream, format="PNG")
            if self.tracker:
                self.tracker.artifact(path, "samples")
        if self.tracker:
            self.tracker.metrics({key: value for key, value in row.items() if key != "epoch"}, step=number)
        shown = "  ".join(f"{key.split('/')[1]} {value:.3g}" for key, value in row.items() if key.startswith("val/"))
        self.console.out(f"epoch {number}: {shown}" if shown else f"epoch {number}", highlight=False)

    def _write_metrics(self, history: list[dict[str, float]]) -> None:
        columns = list(dict.fromkeys(key for row in history for key in row)) or ["epoch"]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder / "metrics.csv", text.getvalue())
