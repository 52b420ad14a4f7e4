"""One engine for every study: tasks named by what goes into them, each done once, several at the same time."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch
from rich.console import Console
from rich.text import Text

from medgan import documents, processes
from medgan.config import flattened
from medgan.data.hashes import file_hash
from medgan.data.streams import write_csv, write_json
from medgan.data.studies import Study as Scan
from medgan.errors import ConfigError, DataError, LeakageError, MedganError, TrainingError
from medgan.studies.base import Context, Failure, Order, Study, Summary, Task
from medgan.studies.rows import ROWS, read_rows
from medgan.studies.subjects import OTHER_SPLIT
from medgan.text import few
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in
from medgan.training.run_folder import MAX_NAMED, STUDIES, RunFolder

RECORD, IDENTITY = "study.json", "task.json"
"""In a study's folder, and in a task's: with what each was begun."""
SCHEMA = 2
"""Of these records; studies of medgan 0.1 have none, and other tasks."""


@dataclass(frozen=True)
class Result:
    """A study that has run through."""

    study: Study
    rows: pd.DataFrame
    summary: Summary
    failures: tuple[Failure, ...]
    tracked: str
    """Where to look at the study's run in MLflow."""
    page: Path | None = None
    """For people; None where nothing was found."""

    @property
    def exit_code(self) -> int:
        """0 if every task has its product, else 1."""
        return 1 if self.failures else 0


def run_study(kind: type[Study], order: Order, console: Console) -> Result:
    """Do what is not done of a study; write its rows, its tables and its JSON file after each stage.

    Raises:
        LeakageError: A test subject would reach, or has reached, a training: nothing of such a study is to be believed.
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order resumes.
    """
    check_store(order.tracking)
    order = replace(order, name=order.name or kind.default_name(order))
    with alone_in(order.folder, console):
        begun = _begun(order)
        study = kind(order, console)
        for note in study.notes():
            console.out(note, highlight=False)
        stages = study.stages()
        stage = _next(stages, None)
        _check(study, stage or ())  # before anything is written
        with _parent_run(study, begun) as parent:
            ids = {"schema": SCHEMA, "kind": order.kind, "mlflow_run_id": parent.id, "tracking_uri": parent.uri}
            write_json(order.folder / RECORD, {**study.description, **ids})
            tasks, failures, result, number = dict[str, Task](), list[Failure](), None, 0
            while stage is not None:
                _check(study, stage)
                failed = _run(study, stage, parent, console)
                failures += failed
                number += len(stage)
                tasks |= {task.name: task for task in stage if task.product == ROWS}
                if any(task.product == ROWS for task in stage):
                    result = _write(study, tasks.values(), failures, ids, parent)
                stage = _next(stages, failed)
            result = result or _write(study, tasks.values(), failures, ids, parent)
            for name in result.summary.artifacts:
                parent.artifact(order.folder / name)
            parent.metrics(result.summary.metrics, step=0)
            parent.tags({"failed_children": f"{len(result.failures)} of {number}", **result.summary.tags})
        if not result.rows.empty:
            result = replace(result, page=study.write_page(result.rows, result.summary, result.failures))
    for shown in result.summary.shown:
        console.print(shown)
    for failure in result.failures:
        console.print(Text(f"failed: {failure.child}: {failure.reason}", style="red"))
    return result


def _begun(order: Order) -> dict[str, Any]:
    """The record of the study that was begun in the folder; nothing where none was.

    Raises:
        ConfigError: The folder holds the run of a training, a study of another kind, or one of medgan 0.1.
    """
    if RunFolder(order.folder).config.exists():
        raise ConfigError(f"{order.folder} holds the run of a training, and no study; choose another --name.")
    for record in filter(None, (read_json(order.folder / name) for name in STUDIES)):
        if record.get("kind") != order.kind and not (record.get("kind"), order.kind) == ("benefit", "arms"):
            raise ConfigError(
                f"{order.folder} holds a study of another kind, {record.get('kind')}, and no {order.kind}; choose "
                "another --name."
            )
        if record.get("schema") != SCHEMA:
            raise ConfigError(
                f"{order.folder} holds a study that medgan 0.1 began; finish it with that version, or choose another "
                "--name."
            )
        return record
    return {}


def _parent_run(study: Study, begun: Mapping[str, Any]) -> Tracker:
    order = study.order
    return Tracker.start(
        order.tracking,
        recorded=begun.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.folder.name,
        parameters=study.parameters,
        tags={"pipeline": order.pipeline, "study": order.kind, "git_revision": code_revision(), **study.tags},
        run_id=begun.get("mlflow_run_id"),
    )


def _next(
    stages: Generator[Sequence[Task], Sequence[Failure], None], failed: Sequence[Failure] | None
) -> Sequence[Task] | None:
    try:
        return next(stages) if failed is None else stages.send(failed)
    except StopIteration:
        return None


def _write(
    study: Study, tasks: Iterable[Task], failures: Sequence[Failure], ids: Mapping[str, Any], parent: Tracker
) -> Result:
    """The study's files so far; the one with the results comes last."""
    folder = study.order.folder
    rows = read_rows([folder / task.name / ROWS for task in tasks], study.keys, study.metrics)
    summary, failures = study.summary(rows), (*failures, *study.failures)
    write_csv(folder / study.rows_file, rows)
    for name, table in summary.tables.items():
        write_csv(folder / name, table)
    results = {**study.description, **summary.record, "failures": [asdict(each) for each in failures]}
    if study.result_file == RECORD:
        results |= ids
    write_json(folder / study.result_file, results)
    return Result(study, rows, summary, tuple(failures), parent.describe())


@dataclass(frozen=True)
class _Work:
    """A task with all that a process needs to do it."""

    task: Task
    folder: Path
    order: Order
    split_hash: str
    parent: str
    tracking: str

    @property
    def begun(self) -> dict[str, Any]:
        """With what its folder was begun; see ``_begun_with``."""
        return _begun_with(self.folder, self.task)

    @property
    def done(self) -> bool:
        return bool(self.begun) and (self.folder / self.task.product).is_file()


def _begun_with(folder: Path, task: Task) -> dict[str, Any]:
    """With what its folder was begun: with the same inputs as now, or not at all.

    Raises:
        LeakageError: Under another split, so it may have seen who is tested now.
        ConfigError: With other inputs; names them.
    """
    begun = read_json(folder / IDENTITY)
    before, now = (flattened(each) for each in (begun.get("inputs", {}), _as_json(task.inputs)))
    changed = [key for key in {**before, **now} if begun and before.get(key) != now.get(key)]
    if "split_hash" in changed:
        raise LeakageError(f"{folder} {OTHER_SPLIT}")
    if changed:
        raise ConfigError(
            f"{folder} was begun with other {few(changed, MAX_NAMED)}; choose another --name, or put that folder away."
        )
    return begun


def _check(study: Study, tasks: Iterable[Task]) -> None:
    """Refuse tasks that would see who is tested, or whose folders were begun with other inputs."""
    for task in tasks:
        if study.guard and task.scans:
            study.guard.admit(task.scans, f"the task {task.name}")
        _begun_with(study.order.folder / task.name, task)


Ended: TypeAlias = Generator[tuple[_Work, BaseException | None], None, None]
"""Tasks as they end, each with what ended it early."""


def _run(study: Study, tasks: Sequence[Task], parent: Tracker, console: Console) -> tuple[Failure, ...]:
    """Do every task that is not done; one that fails is named, and does not stop the others."""
    order = study.order
    split_hash = study.tags.get("split_hash", "")
    works = [_Work(task, order.folder / task.name, order, split_hash, parent.id, parent.uri) for task in tasks]
    left = [work for work in works if not work.done]
    before = len(works) - len(left)
    if before:
        console.out(f"{before} of {len(works)} tasks: finished before", highlight=False)
    failures, started = list[Failure](), time.monotonic()
    try:
        # One task needs no process of its own, which takes seconds to start.
        several = order.jobs > 1 and len(left) > 1
        with closing(_in_processes(left, order) if several else _in_turn(left, console)) as ended:
            for number, (work, error) in enumerate(ended, 1):
                said = _said(work, error)
                left_s = (time.monotonic() - started) / number * (len(left) - number)
                console.out(f"{before + number}/{len(works)} {work.task.name}: {said}{_left(left_s)}", highlight=False)
                if error is not None:
                    failures.append(Failure(work.task.name, said.removeprefix("failed: ")))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "stopped; the same command goes on from there.") from None
    return tuple(failures)


def _said(work: _Work, error: BaseException | None) -> str:
    """What is said of a task that has ended.

    Raises:
        LeakageError: It was one.
        KeyboardInterrupt: It was asked to stop; the text says where.
    """
    if isinstance(error, LeakageError):
        raise error
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"stopped in {work.task.name}; the same command goes on from there.") from None
    if error is None:
        return work.task.outcome(work.folder) if work.task.outcome else "done"
    unexpected = "" if isinstance(error, MedganError) else f"unexpected {type(error).__name__}: "
    return f"failed: {unexpected}{error}"


def _left(seconds: float) -> str:
    """How long the stage will take, where that is worth a word."""
    return f" (about {seconds / 60:.0f} min left)" if seconds >= 60 else ""


def _in_turn(works: Sequence[_Work], console: Console) -> Ended:
    for work in works:
        error: BaseException | None = None
        try:
            _do(work, work.order.device, console)
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        yield work, error


_device: list[str] = []
"""That this process was given when it began."""


def _in_processes(works: Sequence[_Work], order: Order) -> Ended:
    """Several at the same time, each process on a device of its own in turn; a stop reaches them all.

    Raises:
        TrainingError: A process was killed.
    """
    devices: SimpleQueue[str] = multiprocessing.get_context("spawn").SimpleQueue()
    for number in range(order.jobs):
        devices.put(order.devices[number % len(order.devices)])
    begin = _Begin(max(1, torch.get_num_threads() // order.jobs), devices)
    try:
        with closing(processes.in_processes(works, _do_here, order.jobs, begin)) as ended:
            for work, future in ended:
                yield work, future.exception()
    except processes.WorkerKilledError as killed:
        names = ", ".join(work.task.name for work in killed.args)
        raise TrainingError(
            f"a process that trained {names} was killed, perhaps for want of memory; run the same command with "
            "fewer --jobs."
        ) from None


@dataclass(frozen=True)
class _Begin:
    """What a process does first: take its share of the threads and one of the devices."""

    threads: int
    devices: "SimpleQueue[str]"

    def __call__(self) -> None:
        torch.set_num_threads(self.threads)
        _device[:] = [self.devices.get()]


def _do_here(work: _Work) -> None:
    _do(work, _device[0], Console(quiet=True))


def _do(work: _Work, device: str, console: Console) -> None:
    """Do one task from wherever it was left."""
    task, begun = work.task, work.begun
    with ExitStack() as opened:
        tracker = opened.enter_context(_child_run(work, begun)) if task.parameters is not None else None
        run_id = tracker.id if tracker else None
        write_json(work.folder / IDENTITY, {"inputs": _as_json(task.inputs), "mlflow_run_id": run_id})
        context = Context(work.folder, device, console, bool(begun), work.tracking, work.parent, tracker)
        rows = task.run(context, *task.args)
        if rows is not None:
            write_csv(work.folder / task.product, rows)


def _child_run(work: _Work, begun: Mapping[str, Any]) -> Tracker:
    order, task = work.order, work.task
    tags = {"pipeline": order.pipeline, "study": order.kind, "git_revision": code_revision()}
    return Tracker.start(
        work.tracking,
        experiment=order.pipeline,
        run_name=task.name,
        parameters=task.parameters or {},
        tags=tags | ({"split_hash": work.split_hash} if work.split_hash else {}) | dict(task.tags),
        run_id=begun.get("mlflow_run_id"),
        parent=work.parent,
    )


def content_hash(scans: Iterable[Scan]) -> str:
    """SHA-256 over who is there, with which images and masks, in whatever order."""
    files = ((scan.subject, scan.image, scan.mask) for scan in scans)
    lines = sorted(" ".join([who, file_hash(image), file_hash(mask) if mask else ""]) for who, image, mask in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A record; nothing where there is none.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = documents.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove it, or put its folder away, and what it recorded is done anew."
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no record; remove it, or put its folder away, and it is made anew.")
    return content


def _as_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(inputs)))
    return plain
