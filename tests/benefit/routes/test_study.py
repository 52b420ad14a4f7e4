"""A study run once in one go, and once stopped in a segmenter and run again: what is left, told and recorded."""

import json
import os
import signal
from dataclasses import dataclass

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.benefit.routes import study as module
from medgan.benefit.routes.study import Routes, run_routes
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.training.recorder import Recorder

from .conftest import SUBJECTS

QUIET = Console(quiet=True)
STOPPED = "synthetic_ct,labelled=2,fold=0,seed=0"


@dataclass
class Story:
    whole: Routes
    stopped: str
    before: dict[str, int]
    resumed: Routes
    told: str


def stamps(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("*labelled=1*/**/*") if path.is_file()}


def stop(patch):
    """Ctrl-C in the middle of a segmenter's second epoch, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == 3 and self.folder.name == STOPPED:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Recorder, "iteration", watched)


@pytest.fixture(scope="module")
def story(asked, work, folds):
    whole = run_routes(asked(work / "whole"), QUIET)
    order = asked(work / "parts", models=folds[:1])
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        with pytest.raises(KeyboardInterrupt) as stopped:
            run_routes(order, QUIET)
    before = stamps(order.folder)
    with (work / "told.txt").open("w+", encoding="utf-8") as told:
        resumed = run_routes(order, Console(file=told, width=140))
        told.seek(0)
        return Story(whole, str(stopped.value), before, resumed, told.read())


def test_every_route_is_judged_on_every_unseen_subject(story):
    rows = story.whole.rows
    assert story.whole.exit_code == 0
    assert set(rows["subject"]) == set(SUBJECTS[2:])
    # Two trained routes for each of two numbers, and two without labels, on two subjects in each of two folds.
    assert len(rows) == (2 * 2 + 2) * 2 * 2
    assert rows[rows["fold"] == 0]["subject"].isin(SUBJECTS[4:]).all()
    assert rows["dice"].between(0, 1).all()


def test_it_goes_on_where_it_was_stopped(story):
    assert STOPPED in story.stopped
    assert stamps(story.resumed.folder) | story.before == stamps(story.resumed.folder)
    assert {path for path in story.before if "fold=0" in path}
    assert "children: finished before" in story.told
    pd.testing.assert_frame_equal(story.resumed.rows, story.whole.rows.query("fold == 0"))


def test_the_folder_tells_all(story):
    folder = story.whole.folder
    record = json.loads((folder / "routes.json").read_text())
    assert record["budget"] == {"iterations": 4, "batch_size": 2}
    assert [fold["translator_pairs"] for fold in record["folds"]] == [4, 4]
    assert record["labelled"] == [1, 2]
    assert record["phantom"]
    assert len(record["table"]) == len(story.whole.table) == len(pd.read_csv(folder / "table.csv"))
    assert len(pd.read_csv(folder / "rows.csv")) == len(story.whole.rows)
    assert "phantom" in story.told


def test_all_is_one_run_with_a_child_for_each_route(story):
    client, folder = MlflowClient(tracking_uri(story)), story.resumed.folder
    parent = client.get_run(json.loads((folder / "routes.json").read_text())["mlflow_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 6
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    by_name = {run.info.run_name: run for run in children}
    own = story.resumed.rows.query("route == 'synthetic_ct' and labelled == 2 and fold == 0")
    assert by_name[STOPPED].data.metrics["test/dice"] == pytest.approx(own["dice"].mean(), abs=1e-5)
    assert by_name[STOPPED].data.params["labelled"] == "2"


def tracking_uri(story):
    return json.loads((story.resumed.folder / "routes.json").read_text())["tracking_uri"]


def test_models_in_another_order_would_mix_who_was_learnt_from(story, asked, work, folds):
    with pytest.raises(LeakageError, match="another split"):
        run_routes(asked(work / "whole", models=folds[::-1]), QUIET)


def test_finished_children_of_other_settings_are_not_taken_over(story, asked, work):
    with pytest.raises(ConfigError, match="segmenter"):
        run_routes(asked(work / "whole", overrides=["segmenter.rate=0.1"]), QUIET)


def test_a_child_that_fails_is_named_and_the_others_go_on(asked, tmp_path, monkeypatch, folds):
    def run_child(plan, child, material, parent):
        if child.route == "mr":
            raise DataError("no")

    monkeypatch.setattr(module, "run_child", run_child)
    monkeypatch.setattr(module, "gather", lambda plan, fold: None)
    monkeypatch.setattr(module, "read_rows", lambda children: pd.DataFrame({"dice": []}))
    found = run_routes(asked(tmp_path, models=folds[:1], overrides=["labelled=[1]"]), QUIET)
    assert [(failure.child, failure.reason) for failure in found.failures] == [("mr,labelled=1,fold=0,seed=0", "no")]
    assert found.exit_code == 1
