"""Many studies through one model: a bad one is named and never stops the rest, whatever the model does.

A batch leaves and shows a manifest line for each study, a summary, a progress bar, a table of failures.
"""

import json
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medgan.data.belonging import Scans, cannot_be, check_belongs, oddities
from medgan.data.domains import Domain
from medgan.data.leaks import ThisImage
from medgan.data.listing import passed_over_lines
from medgan.data.preparation import GridConfig
from medgan.data.streams import check_regular, unwritable, write_text
from medgan.data.volumes import Volume
from medgan.errors import DataError, MedganError
from medgan.inference.jobs import MANIFEST, Job, Plan
from medgan.inference.sidecar import as_json, kept
from medgan.text import few, printable
from medgan.tracking import download_model
from medgan.training.device import make_fabric
from medgan.training.folder_lock import alone_in

Status = Literal["done", "kept", "failed"]
MAX_NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """How one study ended."""

    status: Status
    input: str
    output: str
    seconds: float
    message: str = ""
    """Of a failure, what happened; else the warnings."""
    warnings: tuple[str, ...] = ()
    """What to know before using the output, one by one."""


@dataclass(frozen=True)
class ConvertSummary:
    """How a batch ended."""

    outcomes: tuple[Outcome, ...]
    """In the order in which the studies ended."""
    seconds: float
    device: str
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of INPUT that is neither converted nor known to be no image."""
    seen: Mapping[str, ThisImage] = field(default_factory=dict)
    """Whether the model has seen each converted input, by name; empty where that was not asked."""

    def counts(self) -> dict[str, int]:
        """How many studies ended how."""
        ended = [outcome.status for outcome in self.outcomes]
        return {status: ended.count(status) for status in get_args(Status)}

    def seen_counts(self) -> dict[ThisImage, int]:
        """How many inputs the model learnt from, chose its epoch by, never saw, and cannot tell of."""
        return {part: list(self.seen.values()).count(part) for part in get_args(ThisImage)}

    @property
    def failed(self) -> int:
        """How many studies were not converted."""
        return self.counts()["failed"]

    @property
    def exit_code(self) -> int:
        """0 if every study was converted or kept, 1 if some failed."""
        return 1 if self.failed else 0


class Manifest:
    """``manifest.jsonl``: a line a study, written as it ends; a later batch adds its lines.

    Args:
        path: The file; None keeps no manifest.

    Raises:
        DataError: It cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    check_regular(path)
                with path.open("ab+") as file:
                    _end_line(file)
            except OSError as error:
                raise unwritable(path, error) from None

    def add(self, outcome: Outcome) -> None:
        """One more study has ended."""
        if self.path:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
            except OSError as error:
                raise unwritable(self.path, error) from None


class StudyBatch(ABC):
    """Jobs that are done one by one or side by side.

    Args:
        jobs: Studies in memory: one is computed while the others are read or written.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.seen: dict[str, ThisImage] = {}
        """Whether the model has seen each input, by name in records."""
        self.computing = threading.Lock()

    @abstractmethod
    def converted(self, job: Job) -> tuple[Status, Sequence[str]]:
        """Do one study, unless its output is there already; how it ended, and its warnings."""

    def run(self, plan: Plan) -> Iterator[Outcome]:
        """Do each study; the outcomes come as studies end, and are in the manifest by then."""
        manifest = Manifest(plan.folder / MANIFEST if plan.folder else None)
        with ThreadPoolExecutor(self.jobs) as workers:
            try:
                for future in as_completed([workers.submit(self.outcome, job, plan.folder) for job in plan.jobs]):
                    manifest.add(future.result())
                    yield future.result()
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise

    def outcome(self, job: Job, folder: Path | None) -> Outcome:
        """Do one study, whatever may be wrong with it."""
        started = time.monotonic()
        status: Status = "failed"
        warnings: Sequence[str] = ()
        message = ""
        try:
            if job.problem:
                raise DataError(job.problem)
            status, warnings = self.converted(job)
        except Exception as error:  # whatever a study brings about, the others are still to be converted
            message = why(error, job.name)
        output = job.output.relative_to(folder).as_posix() if folder else job.output.name
        warnings = tuple(printable(_without_place(warning, job, folder)) for warning in warnings)
        message = printable(_without_place(message, job, folder)) or "; ".join(warnings)
        return Outcome(status, job.name, printable(output), round(time.monotonic() - started, 3), message, warnings)


def alone_with(plan: Plan, console: Console) -> AbstractContextManager[None]:
    """Keep other processes from a plan's outputs; see :func:`medgan.training.folder_lock.alone_in`."""
    output = plan.jobs[0].output
    return alone_in(plan.folder or output.parent, console, None if plan.folder else output.name)


def judged(
    volume: Volume, domain: Domain, *, force: bool, scans: Scans | None = None, grid: GridConfig | None = None
) -> tuple[tuple[str, ...], list[str]]:
    """Why a study is only taken because that was forced, and all warnings about it that need no network.

    Raises:
        DataError: It cannot be of the domain, and is not forced to be.
    """
    forced = check_belongs(volume, domain, force=force, advice=", or add --force to take it all the same")
    said = [f"forced, although it {cannot_be(domain)}: {why}" for why in forced]
    return forced, [*said, *volume.notes, *([] if forced else oddities(volume, domain, scans, grid))]


def forced_facts(reasons: Sequence[str]) -> dict[str, list[str]]:
    """What a sidecar says of a study that could not be of its domain; nothing of one that could."""
    return {"Forced": list(reasons)} if reasons else {}


def why(error: Exception, name: str) -> str:
    """What is recorded of an error that ended one study and stops no other.

    Args:
        error: What it was.
        name: The study's.
    """
    if isinstance(error, MedganError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; see that nothing else fills it (--jobs 1, other programs), or take a larger machine."
    if isinstance(error, OSError):
        return f"{error.filename or name}: {error.strerror or error}; check the disk, the file and its access."
    return f"unexpected {type(error).__name__}: {error}"


def is_kept(job: Job, facts: Mapping[str, object], *, overwrite: bool) -> bool:
    """Whether a job's outputs are there already; with ``overwrite``, whatever else is in their place does not matter.

    Raises:
        DataError: Something else lies there, and is not to be overwritten.
    """
    try:
        return kept(job, dict(facts))
    except MedganError:
        if not overwrite:
            raise
        return False


def local_model(model: str, tracking: str | None) -> Path:
    """The folder of a model: itself, or a model that MLflow recorded (``runs:/ID/model``), fetched."""
    if re.match(r"(runs|models):/", model):
        return download_model(model, tracking)
    return Path(model)


def conversion_fabric(device: str) -> Fabric:
    """32 bits on a CPU, where results shall not depend on its kind; on a GPU what it computes best."""
    fabric = make_fabric(device, "32")
    return make_fabric(device, "auto") if fabric.device.type == "cuda" else fabric


def _without_place(message: str, job: Job, folder: Path | None) -> str:
    """A message that names a study or an output as the records do, without the path of this machine in front."""
    places = {f"{folder or job.output.parent}{os.sep}": "", str(job.source): job.name}
    for place, name in places.items():
        if message.startswith(place):
            return name + message.removeprefix(place)
    return message


def write_summary(path: Path, summary: ConvertSummary, facts: Mapping[str, Any]) -> None:
    """Write ``summary.json`` in one step.

    Args:
        path: The file.
        summary: How the batch ended.
        facts: What the sidecars of the batch share.
    """
    failures = {outcome.input: outcome.message for outcome in summary.outcomes if outcome.status == "failed"}
    content: dict[str, Any] = {
        **summary.counts(),
        "failures": failures,
        "passed_over": dict(summary.passed_over),
        **({"seen": summary.seen_counts()} if summary.seen else {}),
        "seconds": summary.seconds,
        "device": summary.device,
        **{name.lower(): facts[name] for name in ("Model", "Direction", "Labels", "Versions") if name in facts},
    }
    write_text(path, as_json(content))


def shown(outcomes: Iterator[Outcome], total: int, console: Console, doing: str = "converting") -> Iterator[Outcome]:
    """The outcomes as they come, with a progress bar."""
    bar = Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=console.quiet or not console.is_terminal,
    )
    with bar:
        yield from bar.track(outcomes, total=total)


def warning_kinds(outcomes: Iterable[Outcome]) -> dict[str, list[tuple[str, str]]]:
    """The warnings of a batch by kind, most frequent first, each as input and text.

    A kind is what a warning says before its first colon, whatever numbers are in it.
    """
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for outcome in outcomes:
        for warning in outcome.warnings:
            kinds[re.sub(r"\d+", "", warning.partition(":")[0])].append((outcome.input, warning))
    return dict(sorted(kinds.items(), key=lambda kind: -len(kind[1])))


def show_warnings(summary: ConvertSummary, console: Console) -> None:
    """Tell what was odd, a line for each kind and not for each study."""
    done = len(summary.outcomes) - summary.failed
    for given in warning_kinds(summary.outcomes).values():
        (first, text), names = given[0], [name for name, _ in given]
        like = "" if len({warning for _, warning in given}) == 1 else f"such as of {first}: "
        who = "" if len(names) == done else f" ({few(names, MAX_NAMED, last=', and ')})"
        line = f"warning: {len(names)} of {done}: {like}{text}{who}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_seen(summary: ConvertSummary, console: Console) -> None:
    """Tell how many of the inputs the model was trained on, in one line."""
    parts, total = summary.seen_counts(), len(summary.seen)
    if not total:
        return
    if parts["unknown"] == total:
        line = "whether the model was trained on these inputs cannot be told: an earlier medgan wrote it or them"
    elif total == 1:
        chose = ", which chose its epoch" if parts["validation"] else ""
        line = f"the model was {'' if parts['train'] else 'not '}trained on this input{chose}"
    else:
        chose = f", and {parts['validation']} chose its epoch" if parts["validation"] else ""
        unsaid = f"; of {parts['unknown']} it cannot be told" if parts["unknown"] else ""
        line = f"the model was trained on {parts['train'] or 'none'} of these {total} inputs{chose}{unsaid}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_end(summary: ConvertSummary, output: Path, console: Console, done: str = "converted") -> None:
    """Tell what was odd, trained on, not converted and why, or passed over, and how many studies ended how."""
    show_warnings(summary, console)
    show_seen(summary, console)
    if summary.failed:
        table = Table("study", "what happened", title=f"not {done}", title_justify="left")
        for outcome in summary.outcomes:
            if outcome.status == "failed":
                table.add_row(Text(outcome.input), Text(outcome.message))
        console.print(table)
    for line in passed_over_lines(summary.passed_over):
        console.print(line, highlight=False, markup=False)
    said = ", ".join(f"{count} {status}" for status, count in summary.counts().items() if count)
    console.print(f"{said} in {summary.seconds:.1f} s: {output}", highlight=False, markup=False)


def _end_line(file: IO[bytes]) -> None:
    """Close a line that a killed batch left open."""
    if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
