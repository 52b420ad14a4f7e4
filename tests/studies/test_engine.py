"""The engine with toy studies: each task once, resumed, refused when begun otherwise, ended by a leak."""

import json
import multiprocessing
from dataclasses import replace
from typing import ClassVar

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan import errors
from medgan.errors import ConfigError, LeakageError, TrainingError
from medgan.studies.base import StudyKind, StudyOrder, StudySummary, Task
from medgan.studies.engine import IDENTITY, RECORD, run_study

QUIET = Console(quiet=True)


def figures(context, number):
    """A task's work: one row, and a mark in its folder for each time that it was done."""
    with (context.folder / "times").open("a") as stream:
        stream.write("x")
    if number < 0:
        raise {-1: DataError, -2: LeakageError, -3: KeyboardInterrupt, -4: ZeroDivisionError}[number]("broken")
    return pd.DataFrame([{"arm": f"arm{number}", "subject": "007", "dice": number / 10, "device": 1.0}])


class DataError(TrainingError):
    """Stands for what keeps a task from its end."""


def device_of(context, number):
    """A row that says on which device the task was done."""
    return pd.DataFrame([{"arm": context.device, "subject": f"{number}", "dice": 0.5}])


class Toy(StudyKind):
    """A task a number."""

    keys = ("arm", "subject")
    work: ClassVar = staticmethod(figures)
    numbers: ClassVar[tuple[tuple[int, ...], ...]] = ((1, 2),)
    extra: ClassVar[dict] = {}
    recorded: ClassVar[bool] = False
    """Whether tasks have MLflow runs of their own."""

    @property
    def description(self):
        return {"numbers": [list(stage) for stage in self.numbers]}

    @property
    def parameters(self):
        return {"kind": "toy"}

    def stages(self):
        self.failed = []
        for stage in self.numbers:
            tasks = [Task(f"task{n}", {"n": n, **self.extra}, self.work, (n,)) for n in stage]
            self.failed.append((yield [replace(each, parameters={} if self.recorded else None) for each in tasks]))

    def summary(self, rows):
        return StudySummary({"mean": float(rows["dice"].mean()) if len(rows) else None}, {"table.csv": rows})


@pytest.fixture
def order(tmp_path):
    return StudyOrder("toy", "ct_contrast", "toy", out=tmp_path)


def toy(**attributes):
    return type("Toy", (Toy,), attributes)


def times(order):
    return {path.parent.name: path.stat().st_size for path in order.folder.glob("*/times")}


def test_runs_each_task_once_and_gathers_rows_with_subjects_as_text(order):
    result = run_study(Toy, order, QUIET)
    assert list(result.rows["arm"]) == ["arm1", "arm2"]
    assert list(result.rows["subject"]) == ["007", "007"]
    assert result.exit_code == 0
    record = json.loads((order.folder / RECORD).read_text())
    assert record["mean"] == pytest.approx(0.15)
    assert record["kind"] == "toy"
    run_study(toy(numbers=((1, 2, 3),)), order, QUIET)
    assert times(order) == {"task1": 1, "task2": 1, "task3": 1}
    assert json.loads((order.folder / "task1" / IDENTITY).read_text()) == {"inputs": {"n": 1}, "mlflow_run_id": None}
    assert json.loads((order.folder / RECORD).read_text())["mlflow_run_id"] == record["mlflow_run_id"]


def test_a_failed_task_is_named_done_again_and_known_to_the_next_stage(order):
    study = toy(numbers=((-1, 1), (2, -4)), recorded=True)
    result = run_study(study, order, QUIET)
    assert [[each.child for each in stage] for stage in result.study.failed] == [["task-1"], ["task-4"]]
    assert result.failures[1].reason == "unexpected ZeroDivisionError: broken"
    assert result.exit_code == 1
    assert list(result.rows["arm"]) == ["arm1", "arm2"]
    run_study(study, order, QUIET)
    assert times(order) == {"task-1": 2, "task1": 1, "task2": 1, "task-4": 2}
    record = json.loads((order.folder / RECORD).read_text())
    client, parent_id = MlflowClient(record["tracking_uri"]), record["mlflow_run_id"]
    parent = client.get_run(parent_id)
    assert parent.data.tags["failed_children"] == "2 of 4"
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    ends = {"task-1": "FAILED", "task1": "FINISHED", "task2": "FINISHED", "task-4": "FAILED"}
    assert {run.info.run_name: run.info.status for run in runs} == ends


def test_where_every_task_failed_the_table_has_its_columns_and_no_row(order):
    result = run_study(toy(numbers=((-1,),), metrics=("dice",)), order, QUIET)
    assert (list(result.rows), len(result.rows), result.exit_code) == (["arm", "subject", "dice"], 0, 1)
    assert result.page is None


@pytest.mark.parametrize(("number", "error"), [(-2, LeakageError), (-3, KeyboardInterrupt)])
def test_a_leak_and_a_stop_end_all(order, number, error):
    with pytest.raises(error):
        run_study(toy(numbers=((1, number, 2),)), order, QUIET)
    assert "task2" not in times(order)
    assert not (order.folder / "rows.csv").exists()


@pytest.mark.parametrize(
    ("extra", "error", "text"),
    [({"grid": 2}, ConfigError, "begun with other grid"), ({"split_hash": "b"}, LeakageError, "another split")],
)
def test_other_inputs_are_refused_by_key_before_anything_is_done(order, extra, error, text):
    run_study(toy(extra={"grid": 1, "split_hash": "a"}), order, QUIET)
    with pytest.raises(error, match=text):
        run_study(toy(numbers=((3, 1),), extra={"grid": 1, "split_hash": "a", **extra}), order, QUIET)
    assert "task3" not in times(order)


@pytest.mark.parametrize(
    ("record", "error", "text"),
    [
        ('{"kind": "toy"}', ConfigError, "medgan 0.1 began"),
        ("{", errors.DataError, r"cannot be read \(.+\); remove it"),
    ],
)
def test_a_study_that_an_earlier_medgan_began_and_a_damaged_record_are_refused(order, record, error, text):
    order.folder.mkdir(parents=True)
    (order.folder / RECORD).write_text(record)
    with pytest.raises(error, match=text):
        run_study(Toy, order, QUIET)


def test_processes_take_devices_in_turn(order, monkeypatch):
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: forking)  # new ones would import all anew
    study = toy(work=staticmethod(device_of), numbers=((0, 1, 2, 3),))
    result = run_study(study, replace(order, jobs=2, devices=("cpu", "cpu:0")), QUIET)
    assert result.exit_code == 0
    assert set(result.rows["arm"]) <= {"cpu", "cpu:0"}
    assert sorted(result.rows["subject"]) == ["0", "1", "2", "3"]
