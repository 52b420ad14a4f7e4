"""One engine for every study: tasks named by what goes into them, each done once, several at the same time."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch
from rich.console import Console
from rich.text import Text

from medgan import processes, threads
from medgan.config import flattened
from medgan.data.hashes import file_hash
from medgan.data.streams import write_csv, write_json
from medgan.data.studies import Study
from medgan.errors import ConfigError, LeakageError, MedganError, TrainingError
from medgan.studies.base import Context, StudyKind, StudyOrder, StudySummary, Task, TaskFailure
from medgan.studies.subjects import OTHER_SPLIT
from medgan.studies.tables import ROWS, read_rows
from medgan.text import few
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in
from medgan.training.run_folder import MAX_NAMED, STUDIES, RunFolder, read_record

RECORD, IDENTITY = "study.json", "task.json"
"""In a study's folder, and in a task's: with what each was begun."""
SCHEMA = 2
"""Of these records; studies of medgan 0.1 have none, and other tasks."""


@dataclass(frozen=True)
class Result:
    """A study that has run through."""

    study: StudyKind
    rows: pd.DataFrame
    summary: StudySummary
    failures: tuple[TaskFailure, ...]
    tracked: str
    """Where to look at the study's run in MLflow."""
    page: Path | None = None
    """For people; None where nothing was found."""

    @property
    def exit_code(self) -> int:
        """0 if every task has its product, else 1."""
        return 1 if self.failures else 0


def run_study(kind: type[StudyKind], order: StudyOrder, console: Console) -> Result:
    """Do what is not done of a study; write its rows, its tables and its JSON file after each stage.

    Raises:
        LeakageError: A test subject would reach, or has reached, a training: nothing of such a study is to be believed.
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order resumes.
    """
    check_store(order.tracking)
    order = replace(order, name=order.name or kind.default_name(order))
    with alone_in(order.folder, console), threads.taken(order.threads) as taken:
        console.out(f"{taken}{f', for {order.jobs} jobs' if order.jobs > 1 else ''}", highlight=False)
        begun = _begun(order)
        study = kind(order, console)
        for note in study.notes():
            console.out(note, highlight=False)
        stages = study.stages()
        stage = next(stages, None)
        _check(study, stage or ())  # before anything is written
        with _tracked(order, order.folder.name, study.parameters, study.tags, begun, order.tracking) as parent:
            ids = {"schema": SCHEMA, "kind": order.kind, "mlflow_run_id": parent.id, "tracking_uri": parent.uri}
            write_json(order.folder / RECORD, {**study.description, **ids})
            rows, failures, result, number = list[str](), list[TaskFailure](), None, 0
            while stage is not None:
                _check(study, stage)
                failed = _run(study, stage, parent, console)
                failures += failed
                number += len(stage)
                if own := [task.name for task in stage if task.product == ROWS]:
                    rows += own
                    result = _write(study, rows, failures, ids, parent)
                stage = None
                with suppress(StopIteration):
                    stage = stages.send(failed)
            result = result or _write(study, rows, failures, ids, parent)
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


def _begun(order: StudyOrder) -> dict[str, Any]:
    """The record of the study that was begun in the folder, unless something else was; nothing where none was."""
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


def _tracked(
    order: StudyOrder, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str], begun: Mapping[str, Any],
    store: str | None, parent: str | None = None,
) -> Tracker:  # fmt: skip
    """The MLflow run of a study, or of a task as a child of the study's; the one of before where it was begun."""
    return Tracker.start(
        store,
        recorded=begun.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=name,
        parameters=parameters,
        tags={"pipeline": order.pipeline, "study": order.kind, "git_revision": code_revision(), **tags},
        run_id=begun.get("mlflow_run_id"),
        parent=parent,
        command=f"medgan study {order.kind} --pipeline {order.pipeline}",
    )


def _write(
    study: StudyKind, tasks: Iterable[str], failures: Sequence[TaskFailure], ids: Mapping[str, Any], parent: Tracker
) -> Result:
    """The study's files so far; the one with the results comes last."""
    folder = study.order.folder
    rows = read_rows([folder / task / ROWS for task in tasks], study.keys, study.metrics)
    summary, failures = study.summary(rows), (*failures, *study.failures)
    write_csv(folder / study.rows_file, rows)
    for name, table in summary.tables.items():
        write_csv(folder / name, table)
    results = {**study.description, **summary.record, "failures": [asdict(each) for each in failures]}
    if study.result_file == RECORD:
        results |= ids
    write_json(folder / study.result_file, results)
    return Result(study, rows, summary, tuple(failures), parent.describe())


def _begun_with(folder: Path, task: Task) -> dict[str, Any]:
    """With what its folder was begun: with the same inputs as now, or not at all; others are refused by name."""
    begun = read_json(folder / IDENTITY)
    before, now = (flattened(each) for each in (begun.get("inputs", {}), json.loads(json.dumps(dict(task.inputs)))))
    changed = [key for key in {**before, **now} if begun and before.get(key) != now.get(key)]
    if "split_hash" in changed:
        raise LeakageError(f"{folder} {OTHER_SPLIT}")
    if changed:
        raise ConfigError(
            f"{folder} was begun with other {few(changed, MAX_NAMED)}; choose another --name, or put that folder away."
        )
    return begun


def _check(study: StudyKind, tasks: Iterable[Task]) -> None:
    """Refuse tasks that would see who is tested, or whose folders were begun with other inputs."""
    for task in tasks:
        if study.guard and task.scans:
            study.guard.admit(task.scans, f"the task {task.name}")
        _begun_with(study.order.folder / task.name, task)


Ended: TypeAlias = Generator[tuple[Task, BaseException | None], None, None]
"""Tasks as they end, each with what ended it early."""


def _run(study: StudyKind, tasks: Sequence[Task], parent: Tracker, console: Console) -> tuple[TaskFailure, ...]:
    """Do every task that is not done; one that fails is named, and does not stop the others."""
    order = study.order
    tags = {"split_hash": study.tags["split_hash"]} if "split_hash" in study.tags else {}
    do = partial(_do, order, parent.id, parent.uri, tags)
    folders = {task.name: order.folder / task.name for task in tasks}
    left = [
        task
        for task in tasks
        if not (_begun_with(folders[task.name], task) and (folders[task.name] / task.product).is_file())
    ]
    if before := len(tasks) - len(left):
        console.out(f"{before} of {len(tasks)} tasks: finished before", highlight=False)
    failures, started = list[TaskFailure](), time.monotonic()
    try:
        # One task needs no process of its own, which takes seconds to start.
        several = order.jobs > 1 and len(left) > 1
        with closing(_in_processes(left, do, order) if several else _in_turn(left, do, order, console)) as ended:
            for number, (task, error) in enumerate(ended, 1):
                line = _outcome(task, folders[task.name], error)
                minutes = (time.monotonic() - started) / number * (len(left) - number) / 60
                later = f" (about {minutes:.0f} min left)" if minutes >= 1 else ""
                console.out(f"{before + number}/{len(tasks)} {task.name}: {line}{later}", highlight=False)
                if error is not None:
                    failures.append(TaskFailure(task.name, line.removeprefix("failed: ")))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "stopped; the same command goes on from there.") from None
    return tuple(failures)


def _outcome(task: Task, folder: Path, error: BaseException | None) -> str:
    """What is said of a task that has ended; a leak and a stop end all."""
    if isinstance(error, LeakageError):
        raise error
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"stopped in {task.name}; the same command goes on from there.") from None
    if error is None:
        return task.outcome(folder) if task.outcome else "done"
    unexpected = "" if isinstance(error, MedganError) else f"unexpected {type(error).__name__}: "
    return f"failed: {unexpected}{error}"


def _in_turn(tasks: Sequence[Task], do: Callable[..., None], order: StudyOrder, console: Console) -> Ended:
    for task in tasks:
        error: BaseException | None = None
        try:
            do(task, order.device, console)
        except (Exception, KeyboardInterrupt) as caught:
            error = caught
        yield task, error


_device: list[str] = []
"""That this process was given when it began."""


def _in_processes(tasks: Sequence[Task], do: Callable[..., None], order: StudyOrder) -> Ended:
    """Several at the same time, each process on a device of its own in turn; a stop reaches them all."""
    devices: SimpleQueue[str] = multiprocessing.get_context("spawn").SimpleQueue()
    for number in range(order.jobs):
        devices.put(order.devices[number % len(order.devices)])
    begin, share = partial(_begin, devices), max(1, torch.get_num_threads() // order.jobs)
    try:
        with closing(processes.in_processes(tasks, partial(_do_here, do), order.jobs, begin, share)) as ended:
            for task, future in ended:
                yield task, future.exception()
    except processes.WorkerKilledError as killed:
        names = ", ".join(task.name for task in killed.args)
        raise TrainingError(
            f"a process that trained {names} was killed, perhaps for want of memory; run the same command with "
            "fewer --jobs."
        ) from None


def _begin(devices: "SimpleQueue[str]") -> None:
    """What a process does first: take one of the devices."""
    _device[:] = [devices.get()]


def _do_here(do: Callable[..., None], task: Task) -> None:
    do(task, _device[0], Console(quiet=True))


def _do(
    order: StudyOrder, parent: str, store: str, tags: Mapping[str, str], task: Task, device: str, console: Console
) -> None:
    """Do one task of a study, whose MLflow run is ``parent``, from wherever it was left."""
    folder = order.folder / task.name
    begun = _begun_with(folder, task)
    own = None
    if task.parameters is not None:
        own = _tracked(order, task.name, task.parameters, {**tags, **task.tags}, begun, store, parent)
    with own or nullcontext() as tracker:
        run_id = tracker.id if tracker else None
        write_json(folder / IDENTITY, {"inputs": dict(task.inputs), "mlflow_run_id": run_id})
        rows = task.run(Context(folder, device, console, bool(begun), store, parent, tracker), *task.args)
        if isinstance(rows, pd.DataFrame):
            write_csv(folder / task.product, rows)


def content_hash(scans: Iterable[Study]) -> str:
    """SHA-256 over who is there, with which images and masks, in whatever order."""
    files = ((scan.subject, scan.image, scan.mask) for scan in scans)
    lines = sorted(" ".join([who, file_hash(image), file_hash(mask) if mask else ""]) for who, image, mask in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A record; nothing where there is none.

    Raises:
        DataError: It is damaged.
    """
    return read_record(path, "remove it, or put its folder away, and what it recorded is done anew.")
