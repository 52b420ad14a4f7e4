"""Children in turn, and a leak in a process of its own; trainings in several processes are in test_study."""

import importlib
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from medgan.benefit.pool import run_tasks
from medgan.errors import LeakageError, TrainingError


def task(name, done=False):
    return SimpleNamespace(child=SimpleNamespace(name=name, outcome="validation Dice 0.500"), done=done)


@pytest.fixture
def running():
    """Children that end as ``ends`` says; the names of those that ran."""
    ends, ran = {}, []

    def run(task):
        ran.append(task.child.name)
        if task.child.name in ends:
            raise ends[task.child.name]

    return ends, ran, run


def told(tmp_path, tasks, run):
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as stream:
        failures = run_tasks(tasks, run, 1, Console(file=stream, width=200))
        stream.seek(0)
        return failures, stream.read().splitlines()


def test_what_is_finished_is_not_run_again(running, tmp_path):
    _, ran, run = running
    failures, lines = told(tmp_path, [task("a", done=True), task("b")], run)
    assert (failures, ran) == ((), ["b"])
    assert lines == ["1 of 2 segmenters: finished before", "2/2 b: validation Dice 0.500"]


def test_one_that_fails_is_named_and_stops_no_other(running, tmp_path):
    ends, ran, run = running
    ends |= {"a": TrainingError("broke down"), "b": ZeroDivisionError("by zero")}
    failures, _ = told(tmp_path, [task("a"), task("b"), task("c")], run)
    assert ran == ["a", "b", "c"]
    assert [(each.child, each.reason) for each in failures] == [
        ("a", "broke down"),
        ("b", "unexpected ZeroDivisionError: by zero"),
    ]


def test_a_leak_stops_everything(running, tmp_path):
    ends, ran, run = running
    ends["a"] = LeakageError("seen")
    with pytest.raises(LeakageError, match="seen"):
        told(tmp_path, [task("a"), task("b")], run)
    assert ran == ["a"]


LEAKING = """
import time
from dataclasses import dataclass
from medgan.errors import LeakageError

@dataclass(frozen=True)
class Child:
    name: str

@dataclass(frozen=True)
class Task:
    child: Child
    done: bool = False

def run(task):
    if task.child.name == "leaks":
        raise LeakageError("s5 was trained on")
    time.sleep(600)
"""


def test_a_leak_in_one_process_stops_everything_in_the_others(tmp_path, monkeypatch):
    (tmp_path / "leaking_children.py").write_text(LEAKING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("leaking_children")
    tasks = [made.Task(made.Child(name)) for name in ("trains", "leaks", "waits")]
    began = time.monotonic()
    with pytest.raises(LeakageError, match="s5 was trained on"):
        run_tasks(tasks, made.run, 2, Console(quiet=True))
    assert time.monotonic() - began < 300


def test_a_stop_between_children_says_how_to_go_on(running, tmp_path, monkeypatch):
    def stopped(tasks, run):
        raise KeyboardInterrupt
        yield

    _, _, run = running
    monkeypatch.setattr("medgan.benefit.pool.in_turn", stopped)
    with pytest.raises(KeyboardInterrupt, match="stopped; the same command goes on from there"):
        told(tmp_path, [task("a")], run)


def test_a_stop_says_where_and_how_to_go_on(running, tmp_path):
    ends, ran, run = running
    ends["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt, match="stopped in a; the same command goes on from there"):
        told(tmp_path, [task("a"), task("b")], run)
    assert ran == ["a"]
