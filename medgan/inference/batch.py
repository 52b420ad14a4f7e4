"""Many studies through one model: a bad one is named and never stops the rest, whatever the model does.

A kind of batch says what is made of one study. Which studies there are, what an earlier batch has finished, locks,
workers and devices, the manifest, the summary and what people are told are the same for all.
"""

import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medgan.data.belonging import Scans, assessed
from medgan.data.domains import Domain
from medgan.data.hashes import file_hash
from medgan.data.listing import passed_over_lines
from medgan.data.preparation import GridConfig
from medgan.data.splits import TRAINING, ThisImage, TrainedOn, training_facts, training_of
from medgan.data.streams import check_regular, unwritable, write_text
from medgan.data.studies import Data
from medgan.data.volumes import Volume, read_volume
from medgan.errors import DataError, MedganError
from medgan.inference.jobs import MANIFEST, STRENGTH, SUMMARY, Facts, Job, Plan, as_json, is_finished, write_outputs
from medgan.text import few, printable
from medgan.threads import taken
from medgan.training.device import make_fabric, parse_devices
from medgan.training.folder_lock import alone_in

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Status = Literal["done", "kept", "failed"]
M = TypeVar("M")
"""What computes: a model, or what is built on one."""


@dataclass(frozen=True)
class BatchOrder:
    """What a user asks of a batch."""

    input: Data
    """An image, a folder, a DICOM series folder, or a cohort (CSV, folders, BIDS or nnU-Net raw)."""
    output: Path
    """A folder; for one image that becomes another, also a file name that ends in .nii.gz."""
    model: str
    """A model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    domain: str | None = None
    """Of a cohort, the domain whose images are taken; None is the one that the model was trained on."""
    overwrite: bool = False
    force: bool = False
    """Take studies that cannot be of the model's domain all the same."""
    jobs: int = 1
    """Studies in memory: on each device one is computed while others are read or written."""
    tracking: str | None = None
    """The MLflow store of a recorded model."""
    device: str = "auto"
    """Where to compute; of several with commas between them, as many as there are jobs."""
    threads: int | None = None
    """Of the processor; None takes those that are free."""


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
class BatchSummary:
    """How a batch ended."""

    outcomes: tuple[Outcome, ...]
    """In the order in which the studies ended."""
    seconds: float
    device: str
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of INPUT that is neither an input nor known to be no image."""
    seen: Mapping[str, ThisImage] = field(default_factory=dict)
    """Whether the model has seen each input, by name; empty where nobody asks."""
    model_sha256: str = ""
    """Of the model's description."""

    def counts(self) -> dict[str, int]:
        """How many studies ended how."""
        ended = [outcome.status for outcome in self.outcomes]
        return {status: ended.count(status) for status in get_args(Status)}

    def seen_counts(self) -> dict[ThisImage, int]:
        """How many inputs the model learnt from, chose its epoch by, never saw, and cannot tell of."""
        return {part: list(self.seen.values()).count(part) for part in get_args(ThisImage)}

    @property
    def failed(self) -> int:
        """How many studies failed."""
        return self.counts()["failed"]

    @property
    def exit_code(self) -> int:
        """0 if no study failed, else 1."""
        return int(self.failed > 0)


class StudyBatch(ABC, Generic[M]):
    """Studies that are done one by one or side by side."""

    doing: ClassVar[str] = "converting"
    done: ClassVar[str] = "converted"
    place: ClassVar[str] = ""
    """The file in the output folder that people are told of; empty is the folder itself."""

    advice: ClassVar[str] = ", or add --force to take it all the same"
    """What to do with a study that cannot be of the domain."""

    domain: Domain
    """What studies are taken for."""
    scans: Scans | None = None
    """How the training's studies of that domain were scanned, if that is known."""
    grid: GridConfig | None = None
    trained_on: TrainedOn | None = None
    split_hash: str = ""

    def __init__(self, order: BatchOrder, console: Console) -> None:
        self.started = time.monotonic()
        self.order, self.console = order, console
        self.fabrics = [conversion_fabric(device) for device in parse_devices(order.device)[: order.jobs]]
        self.facts: Facts = {}
        """What the sidecars share."""
        self.seen: dict[str, ThisImage] = {}
        """Whether the model has seen each input, by name in records."""
        self.outcomes: tuple[Outcome, ...] = ()
        """Of all studies, once they have ended."""
        self._idle: SimpleQueue[tuple[M, Fabric]] = SimpleQueue()

    def compute_with(self, model: M) -> None:
        """Give each device the model, or a copy of it."""
        for number, fabric in enumerate(self.fabrics):
            self._idle.put((deepcopy(model) if number else model, fabric))

    @contextmanager
    def device(self) -> "Iterator[tuple[M, Fabric]]":
        """A model and its device for this study alone; waits until one is idle."""
        idle = self._idle.get()
        try:
            yield idle
        finally:
            self._idle.put(idle)

    @abstractmethod
    def plan(self) -> Plan:
        """The studies; nothing is written yet."""

    def begin(self, plan: Plan) -> Plan:
        """The plan once other processes are kept out of the outputs; perhaps only now are all studies known."""
        return plan

    @abstractmethod
    def make(self, job: Job, facts: Facts) -> Sequence[str]:
        """Make and write what becomes of a study, of whose sidecar some facts are known before; its warnings."""

    def save(self) -> None:
        """Write what is of the whole batch, also of one that is stopped."""

    def finish(self, folder: Path) -> None:
        """Write what is of the whole batch, once all studies have ended."""

    def sources(self, job: Job) -> Facts:
        """What the sidecar says of the input; with the facts that are shared, all that an output is made from."""
        return {"Sources": [job.name], "SourceSHA256": file_hash(job.source)}

    def is_kept(self, job: Job, facts: Facts) -> bool:
        """Whether an earlier batch has done the study; with ``--overwrite``, no other file is in the way.

        Raises:
            DataError: Something else lies in the outputs' place, and is not to be overwritten.
        """
        try:
            return is_finished(job, facts)
        except MedganError:
            if not self.order.overwrite:
                raise
            return False

    def training(self, job: Job) -> ThisImage | None:
        """Whether the model has seen a study; None where nobody asks."""
        return training_of(job.output)[0]

    def complete(self) -> BatchSummary:
        """Do all studies, tell how they ended, and leave the batch's own files beside the outputs."""
        console, plan, devices = self.console, self.plan(), parse_devices(self.order.device)
        notes = [*plan.notes]
        if len(devices) > len(self.fabrics):
            used = ",".join(devices[: len(self.fabrics)])
            notes.append(f"computing on {used} alone; for all of {','.join(devices)} add --jobs {len(devices)}")
        for note in notes:
            console.print(note, highlight=False, markup=False)
        folder, output = plan.folder, self.order.output
        busy = alone_in(folder or output.parent, console, None if folder else output.name)
        with busy, taken(self.order.threads, jobs=len(self.fabrics)) as threads:
            console.out(str(threads), highlight=False)
            plan = self.begin(plan)
            try:
                self.outcomes = tuple(_shown(self.run(plan), len(plan.jobs), console, self.doing))
            finally:
                self.save()
            used = ", ".join(str(fabric.device) for fabric in self.fabrics)
            seconds = round(time.monotonic() - self.started, 3)
            sha256 = (self.facts.get("Model") or {}).get("DescriptionSHA256", "")  # a method has no model
            summary = BatchSummary(self.outcomes, seconds, used, plan.passed_over, self.seen, sha256)
            _show_end(summary, output / self.place, console, self.done)
            if folder:
                self.finish(folder)
                shared = "Model", "Direction", STRENGTH, "Labels", "Versions"
                content = {
                    **summary.counts(),
                    "failures": {each.input: each.message for each in self.outcomes if each.status == "failed"},
                    "passed_over": dict(plan.passed_over),
                    **({"seen": summary.seen_counts()} if self.seen else {}),
                    "seconds": seconds,
                    "device": used,
                    **{name.lower(): self.facts[name] for name in shared if name in self.facts},
                }
                write_text(folder / SUMMARY, as_json(content))
        return summary

    def run(self, plan: Plan) -> Iterator[Outcome]:
        """Do each study; the outcomes come as studies end, and are in the manifest by then."""
        manifest = plan.folder / MANIFEST if plan.folder else None
        asked = {name.lower(): self.facts[name] for name in (STRENGTH,) if name in self.facts}
        if manifest:
            _append(manifest, "")  # where it cannot be written, nothing is begun
        with ThreadPoolExecutor(self.order.jobs) as workers:
            try:
                for future in as_completed([workers.submit(self._outcome, job, plan.folder) for job in plan.jobs]):
                    if manifest:
                        _append(manifest, json.dumps(asdict(future.result()) | asked, ensure_ascii=False) + "\n")
                    yield future.result()
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise

    def read(self, job: Job) -> tuple[Volume, list[str], list[str]]:
        """A study, the warnings about it that need no network, and why it is only taken because that is forced.

        Raises:
            DataError: It cannot be read, or cannot be of the domain.
        """
        volume = read_volume(job.source)
        force, advice = self.order.force, self.advice
        return volume, *assessed(volume, self.domain, self.scans, self.grid, force=force, advice=advice)

    def _outcome(self, job: Job, folder: Path | None) -> Outcome:
        """Do one study, whatever may be wrong with it."""
        started = time.monotonic()
        status: Status = "failed"
        warnings: Sequence[str] = ()
        message = ""
        try:
            if job.problem:
                raise DataError(job.problem)
            facts = self.facts | self.sources(job)
            up_to_date = self.is_kept(job, facts)
            warnings = () if up_to_date else self.make(job, facts)
            if seen := self.training(job):
                self.seen[job.name] = seen
            status = "kept" if up_to_date else "done"
        except Exception as error:  # whatever a study brings about, the others are still to be done
            message = why(error, job.name)
        output = job.output.relative_to(folder).as_posix() if folder else job.output.name
        warnings = tuple(_as_recorded(warning, job, folder) for warning in warnings)
        message = _as_recorded(message, job, folder) or "; ".join(warnings)
        return Outcome(status, job.name, printable(output), round(time.monotonic() - started, 3), message, warnings)


class ImageBatch(StudyBatch[M]):
    """Studies of which each becomes an image, perhaps with maps, on its own voxel grid."""

    @abstractmethod
    def images(self, job: Job, volume: Volume) -> tuple[dict[Path, NDArray[Any]], Sequence[str]]:
        """The voxels (X, Y, Z) of what is made of a study, by path, and warnings; the study may be used up."""

    def make(self, job: Job, facts: Facts) -> Sequence[str]:
        """Read a study, compute, and write images and sidecar."""
        volume, odd, forced = self.read(job)
        facts = facts | {TRAINING: training_facts(volume, self.trained_on, self.split_hash)}
        grid = volume.grid
        images, warnings = self.images(job, volume)
        del volume  # of the study's memory only what is written is still needed
        facts |= {"Warnings": [*odd, *warnings]} | ({"Forced": forced} if forced else {})
        write_outputs(job, images, grid, facts)
        return [*odd, *warnings]


def local_model(model: str, tracking: str | None) -> Path:
    """The folder of a model: itself, or a model that MLflow recorded (``runs:/ID/model``), fetched."""
    if not re.match(r"(runs|models):/", model):
        return Path(model)
    from medgan.tracking import download_model  # with MLflow, which takes seconds

    return download_model(model, tracking)


def conversion_fabric(device: str) -> "Fabric":
    """32 bits on a CPU, where results shall not depend on its kind; on a GPU what it computes best."""
    fabric = make_fabric(device, "32")
    return make_fabric(device, "auto") if fabric.device.type == "cuda" else fabric


def why(error: Exception, name: str) -> str:
    """What is recorded of an error that ended one study, of this name, and stops no other."""
    if isinstance(error, MedganError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return (
            "out of the GPU's memory; see that nothing else fills it (--jobs 1, other programs), or give --device cpu."
        )
    if isinstance(error, MemoryError):
        return "out of memory; see that nothing else fills it (--jobs 1, other programs), or take a larger machine."
    if isinstance(error, OSError):
        return f"{error.filename or name}: {error.strerror or error}; check the disk, the file and its access."
    return f"unexpected {type(error).__name__}: {error}"


def _as_recorded(message: str, job: Job, folder: Path | None) -> str:
    """A message that names a study or an output as the records do, without the path of this machine in front."""
    for place, name in ((f"{folder or job.output.parent}{os.sep}", ""), (str(job.source), job.name)):
        if message.startswith(place):
            return printable(name + message.removeprefix(place))
    return printable(message)


def _append(path: Path, text: str) -> None:
    """Add to a file of lines, whose last one a killed batch may have left open."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_regular(path)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                text = text if file.read(1) == b"\n" else f"\n{text}"
            file.write(text.encode())
    except OSError as error:
        raise unwritable(path, error) from None


def _shown(outcomes: Iterator[Outcome], total: int, console: Console, doing: str) -> Iterator[Outcome]:
    """The outcomes as they come, with a progress bar."""
    columns = TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left:")
    left = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, left, console=console, disable=console.quiet or not console.is_terminal) as bar:
        yield from bar.track(outcomes, total=total)


def _show_end(summary: BatchSummary, output: Path, console: Console, done: str) -> None:
    """Tell what was odd, trained on, not done and why, or passed over, and how many studies ended how."""
    for line in (*warning_lines(summary), *_seen_lines(summary)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if summary.failed:
        table = Table("study", "what happened", title=f"not {done}", title_justify="left")
        for outcome in summary.outcomes:
            if outcome.status == "failed":
                table.add_row(Text(outcome.input), Text(outcome.message))
        console.print(table)
    ends = ", ".join(f"{count} {status}" for status, count in summary.counts().items() if count)
    for line in (*passed_over_lines(summary.passed_over), f"{ends} in {summary.seconds:.1f} s: {output}"):
        console.print(line, highlight=False, markup=False)


def warning_lines(summary: BatchSummary) -> Iterator[str]:
    """A line for each kind of warning and not for each study, the most frequent first.

    A kind is what a warning says before its first colon, whatever numbers are in it.
    """
    done = len(summary.outcomes) - summary.failed
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for outcome in summary.outcomes:
        for warning in outcome.warnings:
            kinds[re.sub(r"\d+", "", warning.partition(":")[0])].append((outcome.input, warning))
    for warnings in sorted(kinds.values(), key=len, reverse=True):
        (first, text), names = warnings[0], [name for name, _ in warnings]
        like = "" if len({warning for _, warning in warnings}) == 1 else f"such as of {first}: "
        who = "" if len(names) == done else f" ({few(names, 3, last=', and ')})"
        yield f"warning: {len(names)} of {done}: {like}{text}{who}"


def _seen_lines(summary: BatchSummary) -> Iterator[str]:
    """How many of the inputs the model was trained on, in one line."""
    parts, total = summary.seen_counts(), len(summary.seen)
    if total and parts["unknown"] == total:
        yield "whether the model was trained on these inputs cannot be told: an earlier medgan wrote it or them"
    elif total == 1:
        chose = ", which chose its epoch" if parts["validation"] else ""
        yield f"the model was {'' if parts['train'] else 'not '}trained on this input{chose}"
    elif total:
        chose = f", and {parts['validation']} chose its epoch" if parts["validation"] else ""
        unsaid = f"; of {parts['unknown']} it cannot be told" if parts["unknown"] else ""
        yield f"the model was trained on {parts['train'] or 'none'} of these {total} inputs{chose}{unsaid}"
