"""A study run once in one go, and once stopped in its third child and run again: what is left, told and compared."""

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.data.splits import Split
from medgan.errors import DataError
from medgan.phantom.kinds import KINDS
from medgan.study.children import is_finished
from medgan.study.grid import Cell
from medgan.study.plan import make_plan
from medgan.study.records import read_json
from medgan.study.study import Study, run_study
from medgan.tracking import resolve_uri
from medgan.training.recorder import Recorder

CELLS = [
    Cell("l1=10", ("pix2pix.l1=10",)),
    Cell("broken", ("pix2pix.l1=1e39",)),
    Cell("regression", ("pix2pix.adversarial=none",)),
]
STOPPED_AT = 6
"""Of the 8 iterations of a child, in the middle of its second epoch."""


@dataclass
class Story:
    whole: Study
    stopped: str
    before: dict[str, int]
    resumed: Study
    told: str


def stamps(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def stop_third_child(patch):
    """Ctrl-C in the middle of the third child, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == STOPPED_AT and "regression" in self.folder.name:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Recorder, "iteration", watched)


@pytest.fixture(scope="module")
def story(asked, work):
    whole = run_study(asked(work, name="whole"), CELLS, Console(quiet=True), lambda rows: {"rows": str(len(rows))})
    order = asked(work, name="in_parts")
    with pytest.MonkeyPatch.context() as patch:
        stop_third_child(patch)
        with pytest.raises(KeyboardInterrupt) as stop:
            run_study(order, CELLS, Console(quiet=True))
    before = stamps(order.folder / "l1=10,seed=0")
    with (work / "told.txt").open("w+", encoding="utf-8") as told:
        resumed = run_study(order, CELLS, Console(file=told, width=120))
        told.seek(0)
        return Story(whole, str(stop.value), before, resumed, told.read())


def child(study, cell):
    return study.folder / f"{cell},seed=0"


def runs_of(study):
    client = MlflowClient(resolve_uri())
    (parent_id,) = {read_json(study.folder / "study.json")["mlflow_run_id"]}
    experiment = client.get_experiment_by_name("ct_contrast").experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    return client, client.get_run(parent_id), {run.info.run_name: run for run in children}


def test_a_stopped_study_says_where_and_how_to_go_on(story):
    assert story.stopped == "stopped in regression, seed 0; the same command goes on from there."


def test_what_was_finished_is_not_touched_again(story):
    assert stamps(child(story.resumed, "l1=10")) == story.before
    assert "1/3 l1=10, seed 0: finished before\n" in story.told


def test_what_was_half_trained_goes_on_to_the_same_weights_and_figures(story):
    assert "3/3 regression, seed 0: goes on\n" in story.told
    for name in ("model/weights.safetensors", "metrics.csv", "evaluation/evaluation.csv"):
        one, other = (child(study, "regression") / name for study in (story.whole, story.resumed))
        assert one.read_bytes() == other.read_bytes(), name
    pd.testing.assert_frame_equal(story.whole.table, story.resumed.table)


def test_a_child_that_fails_is_named_and_stops_no_other(story):
    for study in (story.whole, story.resumed):
        (failure,) = study.failures
        assert failure.child == "broken, seed 0"
        assert "became" in failure.reason
        assert study.exit_code == 1
        assert list(dict.fromkeys(study.rows["cell"])) == ["l1=10", "regression"]
        assert not (child(study, "broken") / "evaluation").exists()
    assert "failed: broken, seed 0: the loss term" in story.told.replace("\n", " ")


def test_every_child_has_the_studys_split(story):
    frozen = Split.load(story.whole.folder / "split.json")
    assert {Split.load(child(story.whole, cell.name) / "split.json").hash for cell in CELLS} == {frozen.hash}
    assert frozen.hash == json.loads((story.whole.folder / "study.json").read_text())["split_hash"]


def test_only_test_subjects_are_judged_each_in_every_cell(story):
    own = story.whole.rows[story.whole.rows["arm"] == "synthetic"]
    assert {cell: set(rows["subject"]) for cell, rows in own.groupby("cell")} == {
        "l1=10": {"s4", "s5"},
        "regression": {"s4", "s5"},
    }


def test_the_files_hold_the_figures(story):
    folder = story.whole.folder
    rows = pd.read_csv(folder / "study.csv")
    assert list(rows.columns[:5]) == ["cell", "seed", "subject", "image", "arm"]
    by_hand = rows[rows["arm"] == "synthetic"].groupby(["cell", "subject"])["mae_hu"].mean().unstack("cell")
    expected = (by_hand["regression"] - by_hand["l1=10"]).mean()
    table = pd.read_csv(folder / "table.csv").set_index(["cell", "metric"])
    assert table.loc[("regression", "mae_hu"), "difference"] == pytest.approx(expected, abs=1e-3)
    record = json.loads((folder / "study.json").read_text())
    assert (record["kind"], record["reference"], record["seeds"]) == ("sweep", "l1=10", [0])
    assert record["cells"]["regression"] == ["pix2pix.adversarial=none"]
    assert record["findings"] == {"rows": str(len(rows))}
    assert [failure["child"] for failure in record["failures"]] == ["broken, seed 0"]
    assert len(record["table"]) == len(table)


def test_the_parent_has_the_table_and_its_children_their_figures(story):
    client, parent, children = runs_of(story.resumed)
    assert parent.info.status == "FINISHED"
    facts = {"pipeline": "ct_contrast", "study": "sweep", "failed_children": "1 of 3"}
    assert facts.items() <= parent.data.tags.items()
    assert parent.data.tags["split_hash"] == Split.load(story.resumed.folder / "split.json").hash
    assert parent.data.params["reference"] == "l1=10"
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["table.csv"]
    assert {name: run.info.status for name, run in children.items()} == {
        "l1=10,seed=0": "FINISHED",
        "broken,seed=0": "FAILED",
        "regression,seed=0": "FINISHED",
    }
    table = story.resumed.table.set_index(["cell", "metric"])["mean"]
    for cell in ("l1=10", "regression"):
        told = children[f"{cell},seed=0"].data.metrics
        figures = {key: value for key, value in told.items() if key.startswith("test/")}
        assert figures == pytest.approx(
            {f"test/{metric}": mean for metric, mean in table.loc[cell].items() if np.isfinite(mean)}, rel=1e-4
        )
        assert "test/mae_hu" in figures


def test_mlflow_learns_no_subject_and_no_path(story, cohort, work):
    client, parent, _ = runs_of(story.resumed)
    told = json.dumps(parent.data.to_dictionary())
    told += Path(client.download_artifacts(parent.info.run_id, "table.csv")).read_text()
    assert not [secret for secret in (str(cohort.parent), str(work), "s4", "nii.gz") if secret in told]


def test_the_same_command_again_changes_no_figures_and_adds_no_run(story, asked, work):
    _, parent, children = runs_of(story.whole)
    order = asked(work, name="whole")
    before = stamps(child(story.whole, "regression"))
    again = run_study(order, [CELLS[0], CELLS[2]], Console(quiet=True))
    assert again.exit_code == 0
    _, parent_again, children_again = runs_of(again)
    assert parent_again.info.run_id == parent.info.run_id
    assert children_again.keys() == children.keys()
    assert stamps(child(again, "regression")) == before
    pd.testing.assert_frame_equal(again.table, story.whole.table)


def test_another_seed_adds_to_the_study_and_is_averaged_in(story, asked, work):
    order = asked(work, name="in_parts", seeds=(0, 1))
    before = stamps(child(story.resumed, "regression"))
    study = run_study(order, [CELLS[0], CELLS[2]], Console(quiet=True))
    assert stamps(child(study, "regression")) == before
    own = study.table[study.table["metric"] == "mae_hu"].set_index("cell")
    assert own["seeds"].to_dict() == {"l1=10": 2, "regression": 2, "do_nothing": 0, "intensity_lookup": 0}
    rows = study.rows[(study.rows["arm"] == "synthetic") & (study.rows["cell"] == "regression")]
    assert own.loc["regression", "mean"] == pytest.approx(rows["mae_hu"].mean())
    splits = {Split.load(path).hash for path in study.folder.glob("*/split.json")}
    assert splits == {Split.load(study.folder / "split.json").hash}


def test_an_unpaired_pipeline_is_judged_unpaired(asked, unpaired, tmp_path):
    order = asked(tmp_path, data=unpaired, overrides=["translator=cyclegan", "fit.epochs=1"])
    study = run_study(order, [Cell("as_configured")], Console(quiet=True))
    assert study.exit_code == 0, study.failures
    assert "soft_tissue_distance_hu" in set(study.table["metric"])
    assert "mae_hu" not in set(study.table["metric"])


def test_a_phantom_stays_one_in_its_model_though_the_study_shares_its_files(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    order = asked(tmp_path / "runs", data=None, overrides=["fit.epochs=1"])
    study = run_study(order, [CELLS[2]], Console(quiet=True))
    assert study.exit_code == 0, study.failures
    assert json.loads((child(study, "regression") / "model" / "model.json").read_text())["phantom"] is True
    assert read_json(study.folder / "study.json")["phantom"] is True


def test_a_test_subject_that_cannot_be_converted_fails_its_child_by_name(asked, tmp_path, save_cohort, monkeypatch):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=6, split=True)
    (tmp_path / "cohort" / "s5_contrast.nii.gz").write_bytes(b"no image")
    order = asked(tmp_path / "runs", data=table, overrides=["fit.epochs=1"])
    study = run_study(order, [CELLS[2]], Console(quiet=True))
    (failure,) = study.failures
    assert failure.reason.startswith("1 of 2 test images were not converted: s5_contrast.nii.gz")
    assert study.table.empty
    assert not any(map(is_finished, make_plan(order, [CELLS[2]]).children))


def test_a_damaged_record_says_what_to_do(asked, tmp_path):
    order = replace(asked(tmp_path), tracking=f"sqlite:///{tmp_path}/unused.db")
    order.folder.mkdir(parents=True)
    (order.folder / "study.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read \(.+\); remove it"):
        run_study(order, CELLS, Console(quiet=True))
