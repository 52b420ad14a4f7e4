"""What a study is: an order, tasks that are named by what goes into them, and what follows from their rows."""

import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from rich.console import Console, RenderableType

from medgan.data.studies import Data, Study
from medgan.errors import ConfigError
from medgan.report.study import write_page
from medgan.studies.subjects import Guard
from medgan.studies.tables import ROWS
from medgan.tracking import Tracker
from medgan.training.device import make_fabric
from medgan.training.run_folder import folder_named

PHANTOM_NOTE = "no --data: a study of the built-in phantom, which never stands for a patient"


@dataclass(frozen=True)
class StudyOrder:
    """What a user asks of ``medgan study NAME``; made where the command is parsed."""

    kind: str
    """The study's file, as ``lesion-prevalence``."""
    pipeline: str
    name: str | None = None
    """Of the study's folder; the same name resumes it. None is the kind."""
    data: Data | None = None
    """A cohort; None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    """``KEY=VALUE``."""
    seeds: tuple[int, ...] | None = None
    """None is the study's own choice."""
    models: tuple[Path, ...] = ()
    """Model folders of finished runs."""
    quick: bool = False
    out: Path = Path("runs")
    tracking: str | None = None
    devices: tuple[str, ...] = ("auto",)
    """One for each of ``jobs`` in turn."""
    jobs: int = 1
    """Tasks that run at the same time."""
    threads: int | None = None
    """Of the processor, for all of them; None takes those that are free."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What this kind of study alone is asked, as ``shifts``."""

    @property
    def device(self) -> str:
        """Where the study itself computes: the first device."""
        return self.devices[0]

    @property
    def on_cpu(self) -> bool:
        """Whether that is a CPU, for which pipelines ship smaller settings."""
        return make_fabric(self.device, "32").device.type == "cpu"

    @property
    def folder(self) -> Path:
        """Where the study and all that it trains lie."""
        return folder_named(self.out / self.pipeline, self.name or self.kind)

    @property
    def command(self) -> str:
        """What runs the study again; where the data lie is nobody's business but this machine's."""
        words = ["medgan", "study", self.kind, "--pipeline", self.pipeline, "--name", self.name or self.kind]
        # A number alone would be how many, so one seed is followed by a comma.
        words += ["--seeds", "".join(f"{seed}," for seed in self.seeds)] if self.seeds else []
        words += ["--data", "COHORT"] if self.data else []
        words += ["--config", self.config.name] if self.config else []
        words += [word for _ in self.models for word in ("--model", "MODEL")]
        words += ["--quick"] if self.quick else []
        words += [word for key, value in self.options.items() for word in (f"--{key}", value)]
        return shlex.join([*words, *self.overrides])


@dataclass(frozen=True)
class Context:
    """Where a task works, and how it is recorded."""

    folder: Path
    device: str
    console: Console
    resume: bool
    """Whether the task was begun before."""
    tracking: str
    parent: str
    """The study's MLflow run."""
    tracker: Tracker | None
    """The task's own run; None where it has no ``parameters``."""


@dataclass(frozen=True)
class Task:
    """One piece of work of a study, done once.

    Args:
        name: Its folder below the study's.
        inputs: All that its result depends on, as JSON: settings, hashes of images and models, ``split_hash``.
        run: A module's function: it gets a ``Context`` and ``args``, and returns rows or writes ``product`` itself.
        args: Must pickle, for other processes.
        product: The file in its folder that appears last.
        parameters: Of its MLflow run, a child of the study's; None is no run of its own.
        scans: What it would see; a test subject among them ends the study.
        outcome: From its folder to what is said of it when it is done.
    """

    name: str
    inputs: Mapping[str, Any]
    run: Callable[..., object]
    args: tuple[Any, ...] = ()
    product: str = ROWS
    parameters: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    scans: tuple[Study, ...] = ()
    outcome: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class TaskFailure:
    """A task without its product, and why."""

    child: str
    reason: str


Stages = Generator[Sequence[Task], Sequence[TaskFailure], None]
"""Tasks that may run at the same time, stage after stage; a stage learns which tasks of the last one failed."""


@dataclass(frozen=True)
class StudySummary:
    """What follows from the rows of a study.

    Args:
        record: For the study's JSON file.
        tables: Written beside the rows, by file name.
        shown: For the terminal.
        findings, comparisons, headlines, answer: For the page, see :func:`medgan.report.study.write_page`.
        metrics: For MLflow.
        artifacts: Files for MLflow, in which no subject is named.
        tags: For MLflow.
    """

    record: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    shown: Sequence[RenderableType] = ()
    findings: Mapping[str, str] = field(default_factory=dict)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    headlines: tuple[str, ...] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class StudyKind(ABC):
    """One kind of study: a subclass says what is compared; the engine does the rest.

    A module of this package whose class has its name in CamelCase is found by ``medgan study``, with ``-`` for ``_``.
    """

    heeds: ClassVar[tuple[str, ...]] = ()
    """Options of the command that make sense here, beside those of every study: data, model, quick, and its own.
    Written out, since they are read without importing the module."""
    keys: ClassVar[tuple[str, ...]]
    """Columns that tell the rows apart, ``subject`` among them; the metrics follow."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Columns that the table has even where no task has rows."""
    rows_file: ClassVar[str] = ROWS
    result_file: ClassVar[str] = "study.json"
    recorded: ClassVar[tuple[str, ...]] = ("seeds",)
    """What of the description are the ``parameters`` of its MLflow run."""
    default_seeds: ClassVar[tuple[int, ...]] = (0,)
    guard: Guard | None = None
    """Keeps test subjects out of every task's ``scans``."""

    def __init__(self, order: StudyOrder, console: Console) -> None:
        """Settle what will run, within the locked folder; MedganError keeps the study from starting."""
        self.order, self.console = order, console
        self.seeds = order.seeds or (self.default_seeds[:1] if order.quick else self.default_seeds)
        self.phantom = order.data is None
        self.failures: list[TaskFailure] = []
        """What failed beside tasks."""
        self.tags: Mapping[str, str] = {}
        """Of the study's MLflow run, beside pipeline, study and revision: ``split_hash``, ``data_fingerprint``."""

    @classmethod
    def default_name(cls, order: StudyOrder) -> str:
        """The study's name where none is given."""
        return f"{order.kind}-quick" if order.quick else order.kind

    @property
    def description(self) -> Mapping[str, Any]:
        """What the study is before it has results, as JSON."""
        return {"pipeline": self.order.pipeline, "kind": self.order.kind, "phantom": self.phantom}

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the study's MLflow run."""
        return {key: self.description[key] for key in self.recorded}

    def notes(self) -> Sequence[str]:
        """What is about to happen, and what was chosen on the user's behalf."""
        return [PHANTOM_NOTE] if self.phantom else []

    @abstractmethod
    def stages(self) -> Stages:
        """The tasks."""

    @abstractmethod
    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """What follows from the rows of all tasks that are done."""

    def write_page(self, rows: pd.DataFrame, summary: StudySummary, failures: Sequence[TaskFailure]) -> Path:  # noqa: ARG002
        """Write the study's HTML page; its path."""
        question = (sys.modules[type(self).__module__].__doc__ or "").partition("\n")[0]
        failed = {failure.child: failure.reason for failure in failures}
        shown = {key: getattr(summary, key) for key in ("findings", "comparisons", "tables", "headlines", "answer")}
        title, order = f"{self.order.kind}, {self.order.pipeline}", self.order
        return write_page(order.folder, title, question, self.description, order.command, failures=failed, **shown)


def seeds_of(text: str) -> tuple[int, ...]:
    """``"3"`` as the seeds 0, 1 and 2, ``"5,7"`` as those two.

    Raises:
        ConfigError: No whole numbers, none at all, or one twice.
    """
    numbers = [part.strip() for part in text.split(",") if part.strip()]
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--seeds {text}: write how many, as in --seeds 3, or which, as in --seeds 0,1,2.")
    seeds = tuple(range(int(numbers[0]))) if "," not in text else tuple(map(int, numbers))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: at least one seed is needed, and each once.")
    return seeds
