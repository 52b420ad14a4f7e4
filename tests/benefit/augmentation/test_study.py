"""A study run once in one go, and once stopped in a segmenter and run again: what is left, told and recorded."""

import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.benefit.augmentation import study as module
from medgan.benefit.augmentation.study import Augmentation, gains, run_augmentation
from medgan.errors import ConfigError, InsertionError, LeakageError
from medgan.training.recorder import Recorder

from .conftest import Brightened

QUIET = Console(quiet=True)
STOPPED = "standard+generator,ratio=100,n=2,seed=0"
ALL = (
    "arms=[standard, standard+generator, standard+shuffled]",
    "ratios_percent=[0, 50, 100]",
    "cases=2",
)


@dataclass
class Story:
    whole: Augmentation
    stopped: str
    before: dict[str, int]
    resumed: Augmentation
    told: str


def stamps(folder):
    """When each file of what was finished was written."""
    done = [path.parent for path in folder.rglob("validation.json")] + [folder / "generators", folder / "cases"]
    return {str(path): path.stat().st_mtime_ns for each in done for path in each.rglob("*") if path.is_file()}


def stop(patch):
    """Ctrl-C in the middle of a segmenter's second epoch, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == 3 and self.folder.name == STOPPED:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Recorder, "iteration", watched)


@pytest.fixture(scope="module")
def story(asked, tmp_path_factory):
    work = tmp_path_factory.mktemp("study")
    order = asked(work / "parts", overrides=[*ALL, "sizes=[2]"])
    with pytest.MonkeyPatch.context() as always:
        # The library behind it collects all garbage at each call, which takes longer than a training.
        always.setattr("medgan.evaluation.statistics.holm", np.asarray)
        whole = run_augmentation(asked(work / "whole", overrides=ALL), QUIET)
        with pytest.MonkeyPatch.context() as patch:
            stop(patch)
            with pytest.raises(KeyboardInterrupt) as stopped:
                run_augmentation(order, QUIET)
        before = stamps(order.folder)
        with (work / "told.txt").open("w+", encoding="utf-8") as told:
            resumed = run_augmentation(order, Console(file=told, width=200))
            told.seek(0)
            return Story(whole, str(stopped.value), before, resumed, told.read())


def test_every_arm_of_every_size_is_judged_on_every_test_subject(story):
    rows = story.whole.rows
    assert story.whole.exit_code == 0
    assert len(rows) == 3 * 2 * 2 * 2
    assert set(rows["subject"]) == {"s6", "s7"}
    assert set(rows["size"]) == {2, 3}
    chosen = {sweep.size: sweep.ratio_percent for sweep in story.whole.sweeps}
    for (size, arm), own in rows.groupby(["size", "arm"]):
        assert set(own["ratio_percent"]) == {0 if arm == "standard" else chosen[size]}


def test_it_goes_on_where_it_was_stopped_and_finds_the_same(story):
    assert STOPPED in story.stopped
    assert any("generators" in path for path in story.before)
    assert any("cases" in path for path in story.before)
    after = stamps(story.resumed.folder)
    trained = {path: stamp for path, stamp in story.before.items() if not path.endswith("rows.csv")}
    assert {path: after[path] for path in trained} == trained
    assert "finished before" in story.told
    pd.testing.assert_frame_equal(story.resumed.rows, story.whole.rows.query("size == 2"))


def test_the_folder_tells_all(story):
    folder = story.whole.folder
    record = json.loads((folder / "augmentation.json").read_text())
    assert record["budget"] == {"iterations": 4, "batch_size": 2}
    assert record["subjects"] == {"train": 5, "validation": 1, "test": 2}
    assert record["command"].startswith("medgan benefit --study augmentation")
    assert [(sweep["size"], sweep["method"]) for sweep in record["sweeps"]] == [(2, "generator"), (3, "generator")]
    assert set(record["sweeps"][0]["val_dice"]) == {"0", "50", "100"}
    assert len(record["comparisons"]) == len(pd.read_csv(folder / "comparisons.csv"))
    assert len(pd.read_csv(folder / "augmentation.csv")) == len(story.whole.rows)
    curves = pd.read_csv(folder / "curves.csv")
    assert set(curves["arm"]) == set(story.whole.rows["arm"])
    assert "Difference in Dice" in story.told


def test_all_is_one_run_with_a_child_for_each_network(story):
    folder = story.resumed.folder
    record = json.loads((folder / "study.json").read_text())
    client = MlflowClient(tracking_uri=record["tracking_uri"])
    parent = client.get_run(record["mlflow_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    segmenters = [path.name for path in (folder / "segmenters").iterdir()]
    assert {run.info.run_name for run in children} == {"generator,n=2,seed=0", *segmenters}
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert parent.data.metrics["gain/n2/mean_dice"] == pytest.approx(
        gains(story.resumed.comparisons)["gain/n2/mean_dice"]
    )


def test_the_parent_run_tells_what_the_generator_adds_in_lesions_too():
    key = {"arm": "standard+generator", "reference": "standard", "size": 5, "seed": "all", "organ": "lesion"}
    values = {"dice": 0.01, "hd95_mm": -1.0, "lesion_f1": 0.03, "false_lesions": -0.5}
    found = pd.DataFrame([key | {"metric": metric, "mean": mean} for metric, mean in values.items()])
    told = {name.removeprefix("gain/n5/lesion_"): mean for name, mean in gains(found).items()}
    assert told == {metric: values[metric] for metric in ("dice", "lesion_f1", "false_lesions")}


def test_a_finished_study_is_not_taken_for_one_of_other_settings(story, asked):
    out = story.whole.folder.parents[1]
    with pytest.raises(ConfigError, match="segmenter"):
        run_augmentation(asked(out, overrides=[*ALL, "segmenter.rate=0.1"]), QUIET)


def test_a_study_of_another_split_is_refused(story, asked, save_cohort, tmp_path):
    out = story.whole.folder.parents[1]
    parts = ("train", "train", "train", "test", "train", "validation", "test", "train")
    with pytest.raises(LeakageError, match="'s3' is in its train part"):
        run_augmentation(asked(out, overrides=ALL, data=save_cohort(tmp_path, parts)), QUIET)


def test_a_draw_whose_cases_fail_leaves_its_arms_out_and_the_others_go_on(asked, tmp_path, monkeypatch):
    class Refusing(Brightened):
        def synthesise(self, recipient, donors, rng):
            raise InsertionError("no room")

    monkeypatch.setattr(
        "medgan.benefit.augmentation.material.synthesiser_of",
        lambda plan, method, draw: Refusing() if draw.seed else Brightened(),
    )
    monkeypatch.setattr(module, "run_child", _nothing)
    found = run_augmentation(asked(tmp_path, seeds=(0, 1), overrides=["sizes=[2]"]), QUIET)
    (failure,) = found.failures
    assert failure.child == "cases of copy-paste,n=2,seed=1"
    assert "no room" in failure.reason
    assert found.exit_code == 1
    assert JUDGED == [
        "real,n=2,seed=0", "standard,n=2,seed=0", "standard+copy-paste,ratio=100,n=2,seed=0",
        "real,n=2,seed=1", "standard,n=2,seed=1",
    ]  # fmt: skip


JUDGED = []


def _nothing(task):
    JUDGED.append(task.child.name)
    task.child.folder.mkdir(parents=True)
    (task.child.folder / "validation.json").write_text('{"val_dice": 0.5}')
