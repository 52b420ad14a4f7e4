"""What a run leaves to look at while it trains: bar, train.log, metrics.csv, progress.png, panels, the tracking run."""

import csv
import io
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medgan.data.streams import replacing, unwritable, write_text
from medgan.errors import MedganError
from medgan.pictures.panels import Panel
from medgan.text import duration, printable
from medgan.training import state
from medgan.training.run_folder import RunFolder

if TYPE_CHECKING:  # with MLflow, which takes seconds
    from medgan.tracking import Tracker

QUIET = Console(quiet=True)
TIMED = 10
"""Iterations after which a session says how long it will take; the first, which warms up, does not count."""


DRAWN_SHARE = 0.05
"""Of a training's time that ``progress.png`` may take: where epochs last seconds, not each of them draws it anew."""
FIRST_DRAWING_S = 0.3
"""How long drawing is thought to take before it was done once."""


class TrainLog:
    """Says lines on the console, and keeps them with their times in a run's ``train.log``."""

    def __init__(self, console: Console = QUIET) -> None:
        self.console = console
        self.path: Path | None = None
        self._early: list[str] = []

    def begin(self, folder: Path) -> None:
        """Write to ``train.log`` of a run folder from now on, at its end; first, what was said so far."""
        self.path = folder / "train.log"
        self._append("".join(self._early))

    def say(self, line: str) -> None:
        """Say and keep a line."""
        self.console.out(line, highlight=False)
        self.keep(line)

    def keep(self, line: str) -> None:
        """Keep a line that others say; before :meth:`begin` in memory, since a refused training leaves nothing."""
        timed = f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {printable(line)}\n"
        if self.path:
            self._append(timed)
        else:
            self._early.append(timed)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep medgan's warnings, too, and what ends a run that has begun: a break-down, or a stop."""
        handler, logger = _Keeper(self), logging.getLogger("medgan")
        logger.addHandler(handler)
        try:
            yield
        except (MedganError, KeyboardInterrupt) as error:
            if self.path:
                self.keep(str(error) or "stopped")
            raise
        finally:
            logger.removeHandler(handler)

    def _append(self, text: str) -> None:
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise unwritable(self.path, error) from None


class _Keeper(logging.Handler):
    """What modules say through Python's logging, on its way to a log."""

    def __init__(self, log: TrainLog) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.keep(record.getMessage())
        if logging.lastResort and not logging.getLogger().handlers:  # which a handler of one's own takes the place of
            logging.lastResort.handle(record)


class Recorder:
    """The record of one run: what its folder shows of it, MLflow if given, and a progress bar."""

    def __init__(
        self, folder: Path, tracker: "Tracker | None" = None, console: Console = QUIET, log: TrainLog | None = None
    ) -> None:
        self.folder, self.tracker, self.console = folder, tracker, console
        self.log = log or TrainLog(console)
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
        self.drawn_at_s, self.drawing_s = time.perf_counter(), FIRST_DRAWING_S
        self.epochs = 0

    def begin(self, epochs: int, iterations_per_epoch: int, progress: state.Progress) -> None:
        """The run starts, or goes on, at ``progress``."""
        self.first, self.total, self.epochs = progress.iteration, epochs * iterations_per_epoch, epochs
        self.bar.update(self.task, total=self.total, completed=self.first)
        if not self.log.path:
            self.log.begin(self.folder)
        self._write_metrics(progress.history)
        if progress.history and not (self.folder / "progress.png").exists():
            self._draw_progress(progress.history, progress.best_epoch)

    def note(self, line: str, facts: Mapping[str, object]) -> None:
        """What happened to a run that nobody asked for: said, kept in its log and, as facts, in its ``run.json``."""
        self.log.say(line)
        run = RunFolder(self.folder)
        if run.facts():
            run.note(dict(facts))

    def iteration(self, number: int) -> None:
        """``number`` iterations are done."""
        self.bar.update(self.task, completed=number)
        if number == self.first + 1:
            self.warm_s = time.perf_counter()
        if number == self.first + TIMED:
            each_s = (time.perf_counter() - self.warm_s) / (TIMED - 1)
            left = duration(each_s * (self.total - number))
            self.log.say(f"about {left} to go ({each_s:.2g} s an iteration)")

    def epoch(self, history: list[dict[str, float]], panel: Panel | None, best_epoch: int = 0) -> None:
        """An epoch ended: its metrics are the last row of ``history``; ``best_epoch`` is 0 where none was judged."""
        row = history[-1]
        number = int(row["epoch"])
        self._write_metrics(history)
        if panel is not None:
            picture = panel.picture(f"epoch {number}")
            path = self.folder / "samples" / f"epoch_{number:04d}.png"
            self._write(path, picture.png())
            if self.tracker:
                self.tracker.image(path, "validation", number, panel.caption)
        self._draw_progress(history, best_epoch)
        if self.tracker:
            self.tracker.metrics({key: value for key, value in row.items() if key != "epoch"}, step=number)
        shown = "  ".join(f"{key.split('/')[1]} {value:.3g}" for key, value in row.items() if key.startswith("val/"))
        self.log.say(f"epoch {number}: {shown}" if shown else f"epoch {number}")

    def _draw_progress(self, history: list[dict[str, float]], best_epoch: int) -> None:
        """Write ``progress.png``, unless it was drawn a moment ago and will be again."""
        number, begun = len(history), time.perf_counter()
        if number < self.epochs and begun - self.drawn_at_s < self.drawing_s / DRAWN_SHARE:
            return
        from medgan.pictures.curves import progress as progress_picture  # draws by matplotlib, after an epoch

        title = f"{self.folder.name}: epoch {number}" + (f" of {self.epochs}" if self.epochs else "")
        self._write(self.folder / "progress.png", progress_picture(history, best_epoch, title))
        self.drawn_at_s = time.perf_counter()
        self.drawing_s = self.drawn_at_s - begun

    def _write(self, path: Path, content: bytes) -> None:
        with replacing(path) as stream:
            stream.write(content)

    def _write_metrics(self, history: list[dict[str, float]]) -> None:
        columns = list(dict.fromkeys(key for row in history for key in row)) or ["epoch"]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder / "metrics.csv", text.getvalue())


class Unrecorded(Recorder):
    """Of a rank beside the first, which records for all."""

    def begin(self, epochs: int, iterations_per_epoch: int, progress: state.Progress) -> None:
        """Nothing."""

    def iteration(self, number: int) -> None:
        """Nothing."""

    def epoch(self, history: list[dict[str, float]], panel: Panel | None, best_epoch: int = 0) -> None:
        """Nothing."""
