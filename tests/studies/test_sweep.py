"""A sweep in one go, and once stopped in its third training and run again; its table against hand; its grid."""

import io
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
from scipy import stats

from medgan.config import from_overrides
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError
from medgan.evaluation.statistics import plain
from medgan.phantom.kinds import KINDS
from medgan.studies.engine import Result, read_json, run_study
from medgan.studies.sweep import Sweep, grid, headlines, higher_is_better, metrics_of, paired_table
from medgan.studies.translator import Cell
from medgan.tracking import resolve_uri
from medgan.training.recorder import Recorder

QUIET = Console(quiet=True)
CELLS = [
    Cell("l1=10", ("pix2pix.l1=10",)),
    Cell("broken", ("pix2pix.l1=1e39",)),
    Cell("regression", ("pix2pix.adversarial=none",)),
]
STOPPED_AT = 6
"""Of the 8 iterations of a training, in the middle of its second epoch."""


def of(*cells, finding=False):
    """A sweep of some cells."""

    class Own(Sweep):
        def cells(self):
            return self.order.overrides, cells

        def findings(self, rows):
            return {"rows": str(len(rows))} if finding else {}

    return Own


@dataclass
class Story:
    whole: Result
    stopped: str
    before: dict[str, int]
    resumed: Result
    output: str


def stamps(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def folder_of(result, *parts):
    return result.study.order.folder.joinpath(*parts)


def table_of(result):
    return result.summary.tables["table.csv"]


@pytest.fixture(scope="module")
def story(ordered, work):
    """Ctrl-C in the middle of the third training, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == STOPPED_AT and "regression" in self.folder.name:
            os.kill(os.getpid(), signal.SIGINT)

    whole = run_study(of(*CELLS, finding=True), ordered(work, name="whole"), QUIET)
    order = ordered(work, name="in_parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "iteration", watched)
        with pytest.raises(KeyboardInterrupt) as stop:
            run_study(of(*CELLS), order, QUIET)
    before = stamps(order.folder / "l1=10,seed=0")
    output = io.StringIO()
    resumed = run_study(of(*CELLS), order, Console(file=output, width=120))
    return Story(whole, str(stop.value), before, resumed, output.getvalue())


def runs_of(result):
    client = MlflowClient(resolve_uri())
    parent_id = read_json(folder_of(result, "study.json"))["mlflow_run_id"]
    experiment = client.get_experiment_by_name("ct_contrast").experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    return client, client.get_run(parent_id), {run.info.run_name: run for run in children}


def test_a_stopped_study_says_where_and_resumes_to_the_same_weights_and_figures(story):
    assert story.stopped == "stopped in regression,seed=0; the same command goes on from there."
    assert stamps(folder_of(story.resumed, "l1=10,seed=0")) == story.before
    assert "1 of 3 tasks: finished before\n" in story.output
    for name in ("model/weights.safetensors", "metrics.csv", "evaluation/evaluation.csv", "rows.csv"):
        one, other = (folder_of(result, "regression,seed=0", name) for result in (story.whole, story.resumed))
        assert one.read_bytes() == other.read_bytes(), name
    pd.testing.assert_frame_equal(table_of(story.whole), table_of(story.resumed))


def test_a_training_that_fails_is_named_and_stops_no_other(story):
    for result in (story.whole, story.resumed):
        (failure,) = result.failures
        assert failure.child == "broken,seed=0"
        assert "became" in failure.reason
        assert result.exit_code == 1
        assert list(dict.fromkeys(result.rows["cell"])) == ["l1=10", "regression"]
        assert not folder_of(result, "broken,seed=0", "rows.csv").exists()
    assert "failed: broken,seed=0: the loss term" in story.output.replace("\n", " ")


def test_every_training_has_the_studys_split_and_only_test_subjects_are_judged(story):
    frozen = Split.load(folder_of(story.whole, "split.json"))
    splits = {Split.load(folder_of(story.whole, f"{cell.name},seed=0", "split.json")).hash for cell in CELLS}
    assert splits == {frozen.hash} == {read_json(folder_of(story.whole, "study.json"))["split_hash"]}
    own = story.whole.rows[story.whole.rows["arm"] == "synthetic"]
    judged = {cell: set(rows["subject"]) for cell, rows in own.groupby("cell")}
    assert judged == {"l1=10": {"s4", "s5"}, "regression": {"s4", "s5"}}


def test_the_files_hold_the_figures(story):
    rows = pd.read_csv(folder_of(story.whole, "study.csv"))
    assert list(rows.columns[:5]) == ["cell", "seed", "subject", "image", "arm"]
    by_hand = rows[rows["arm"] == "synthetic"].groupby(["cell", "subject"])["mae_hu"].mean().unstack("cell")
    expected = (by_hand["regression"] - by_hand["l1=10"]).mean()
    table = pd.read_csv(folder_of(story.whole, "table.csv")).set_index(["cell", "metric"])
    assert table.loc[("regression", "mae_hu"), "difference"] == pytest.approx(expected, abs=1e-3)
    record = read_json(folder_of(story.whole, "study.json"))
    assert (record["kind"], record["reference"], record["seeds"]) == ("sweep", "l1=10", [0])
    assert record["cells"]["regression"] == ["pix2pix.adversarial=none"]
    assert record["findings"] == {"rows": str(len(rows))}
    assert [failure["child"] for failure in record["failures"]] == ["broken,seed=0"]
    assert len(record["table"]) == len(table)


def test_the_parent_has_the_table_its_children_their_figures_and_neither_a_subject_or_path(story, cohort, work):
    client, parent, children = runs_of(story.resumed)
    assert parent.info.status == "FINISHED"
    facts = {"pipeline": "ct_contrast", "study": "sweep", "failed_children": "1 of 3"}
    assert facts.items() <= parent.data.tags.items()
    assert parent.data.tags["split_hash"] == Split.load(folder_of(story.resumed, "split.json")).hash
    assert parent.data.params["reference"] == "l1=10"
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["table.csv"]
    assert {name: run.info.status for name, run in children.items()} == {
        "l1=10,seed=0": "FINISHED", "broken,seed=0": "FAILED", "regression,seed=0": "FINISHED",
    }  # fmt: skip
    table = table_of(story.resumed).set_index(["cell", "metric"])["mean"]
    for cell in ("l1=10", "regression"):
        metrics = children[f"{cell},seed=0"].data.metrics
        figures = {key: value for key, value in metrics.items() if key.startswith("test/")}
        means = {f"test/{metric}": mean for metric, mean in table.loc[cell].items() if np.isfinite(mean)}
        assert figures == pytest.approx(means, rel=1e-4)
        assert "test/mae_hu" in figures
    text = json.dumps(parent.data.to_dictionary())
    text += Path(client.download_artifacts(parent.info.run_id, "table.csv")).read_text()
    assert not [secret for secret in (str(cohort.parent), str(work), "s4", "nii.gz") if secret in text]


def test_the_same_command_again_changes_no_figures_and_another_seed_adds_to_them(story, ordered, work):
    _, parent, children = runs_of(story.whole)
    before = stamps(folder_of(story.whole, "regression,seed=0"))
    again = run_study(of(CELLS[0], CELLS[2]), ordered(work, name="whole"), QUIET)
    assert again.exit_code == 0
    _, parent_again, children_again = runs_of(again)
    assert (parent_again.info.run_id, children_again.keys()) == (parent.info.run_id, children.keys())
    assert stamps(folder_of(again, "regression,seed=0")) == before
    pd.testing.assert_frame_equal(table_of(again), table_of(story.whole))
    more = run_study(of(CELLS[0], CELLS[2]), ordered(work, name="whole", seeds=(0, 1), jobs=2), QUIET)
    assert stamps(folder_of(more, "regression,seed=0")) == before
    own = table_of(more)[table_of(more)["metric"] == "mae_hu"].set_index("cell")
    assert own["seeds"].to_dict() == {"l1=10": 2, "regression": 2, "do_nothing": 0, "intensity_lookup": 0}
    rows = more.rows[(more.rows["arm"] == "synthetic") & (more.rows["cell"] == "regression")]
    assert own.loc["regression", "mean"] == pytest.approx(rows["mae_hu"].mean())


def test_an_unpaired_pipeline_is_judged_unpaired(ordered, unpaired, tmp_path):
    result = run_study(
        of(Cell("as_configured")), ordered(tmp_path, "translator=cyclegan", "fit.epochs=1", data=unpaired), QUIET
    )
    assert result.exit_code == 0, result.failures
    metrics = set(table_of(result)["metric"])
    assert "soft_tissue_distance_hu" in metrics
    assert "mae_hu" not in metrics


def test_a_phantom_stays_one_in_its_model_though_the_study_shares_its_files(ordered, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    result = run_study(of(CELLS[2]), ordered(tmp_path / "runs", "fit.epochs=1", data=None), QUIET)
    assert result.exit_code == 0, result.failures
    model = json.loads(folder_of(result, "regression,seed=0", "model", "model.json").read_text())
    assert model["origin"]["phantom"] is read_json(folder_of(result, "study.json"))["phantom"] is True


def test_a_test_subject_that_cannot_be_converted_fails_its_training_by_name(ordered, tmp_path, save_cohort):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=6, split=True)
    (tmp_path / "cohort" / "s5_contrast.nii.gz").write_bytes(b"no image")
    result = run_study(of(CELLS[2]), ordered(tmp_path / "runs", "fit.epochs=1", data=table), QUIET)
    (failure,) = result.failures
    assert failure.reason.startswith("1 of 2 test images were not converted: s5_contrast.nii.gz")
    assert table_of(result).empty


def test_a_damaged_record_says_what_to_do(ordered, tmp_path):
    order = ordered(tmp_path, tracking=f"sqlite:///{tmp_path}/unused.db")
    order.folder.mkdir(parents=True)
    (order.folder / "study.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read \(.+\); remove it"):
        run_study(Sweep, order, QUIET)


def figures():
    """Two cells, two seeds, three subjects; s1 has two images."""
    rows = []
    for cell, seed, values in (
        ("a", 0, {"s1": [10, 20], "s2": [30], "s3": [40]}),
        ("a", 1, {"s1": [14, 16], "s2": [34], "s3": [44]}),
        ("b", 0, {"s1": [11, 17], "s2": [20], "s3": [41]}),
        ("b", 1, {"s1": [12, 12], "s2": [24], "s3": [49]}),
    ):
        for subject, images in values.items():
            for number, value in enumerate(images):
                rows.append((cell, seed, subject, f"{subject}_{number}", "synthetic", float(value), 0.5))
                rows.append((cell, seed, subject, f"{subject}_{number}", "do_nothing", 100.0, 0.25))
                rows.append((cell, seed, "other", "real", "real", np.nan, np.nan))
    return pd.DataFrame(rows, columns=["cell", "seed", "subject", "image", "arm", "mae_hu", "ssim"])


def line(table, cell, metric="mae_hu"):
    (row,) = table[(table["cell"] == cell) & (table["metric"] == metric)].to_dict("records")
    return row


def test_means_and_differences_are_those_of_subjects_with_images_and_seeds_averaged():
    table = paired_table(figures(), "a")
    a, b = [15.0, 32.0, 42.0], [13.0, 22.0, 45.0]
    assert line(table, "a")["mean"] == pytest.approx(np.mean(a))
    row = line(table, "b")
    assert row["mean"] == pytest.approx(np.mean(b))
    bounds = stats.ttest_rel(b, a).confidence_interval()
    assert row["difference"] == pytest.approx((-2 - 10 + 3) / 3)
    assert (row["difference_lower"], row["difference_upper"]) == pytest.approx((bounds.low, bounds.high))
    assert (row["n"], row["seeds"]) == (3, 2)
    assert np.isnan(line(table, "a")["difference"])
    same = line(table, "b", "ssim")
    assert (same["difference"], same["difference_lower"], same["difference_upper"], same["p_value"]) == (0, 0, 0, 1)


def test_baselines_follow_the_cells_and_real_images_are_no_baseline():
    table = paired_table(figures(), "a")
    assert list(dict.fromkeys(table["cell"])) == ["a", "b", "do_nothing"]
    nothing = line(table, "do_nothing")
    assert (nothing["mean"], nothing["seeds"]) == (100, 0)
    assert nothing["difference"] == pytest.approx(100 - 89 / 3)


def test_what_is_missing_is_said_and_not_made_up():
    rows = figures()
    fewer = paired_table(rows[(rows["cell"] == "a") | (rows["seed"] == 0)], "a")
    assert (line(fewer, "a")["seeds"], line(fewer, "b")["seeds"]) == (2, 1)
    alone = paired_table(rows[rows["cell"] == "b"], "a")
    assert line(alone, "b")["mean"] == pytest.approx(80 / 3)
    assert alone["difference"].isna().all()
    assert set(paired_table(rows.assign(dice=np.nan), "a")["metric"]) == {"mae_hu", "ssim"}


def test_the_table_names_the_reference_and_holds_every_cell(ordered, tmp_path):
    study = of(Cell("a"))(replace(ordered(tmp_path)), QUIET)
    study.reference = "a"
    output = io.StringIO()
    Console(file=output, width=120).print(*study.summary(figures()).shown)
    text = output.getvalue()
    assert "difference to a" in text
    low, high = stats.ttest_1samp([13, 22, 45], 0).confidence_interval()
    assert f"26.67 [{low:.2f}, {high:.2f}]" in text
    assert "+0.000 [+0.000, +0.000]" in text
    assert text.index("mae_hu") < text.index("ssim")
    assert text.count("do_nothing") == 2


def test_the_rows_can_be_json():
    rows = json.loads(json.dumps(plain(paired_table(figures().assign(psnr_db=np.inf), "a")), allow_nan=False))
    assert rows[0]["difference"] is None
    assert next(row for row in rows if row["metric"] == "psnr_db")["mean"] == "inf"


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["bias_hu", "ssim", "mae_hu", "core_mae_hu"], ["core_mae_hu", "mae_hu", "ssim"]),
        (["a", "b", "c", "d"], ["a", "b", "c"]),
    ],
)
def test_the_printed_metrics_are_the_main_ones_or_the_first(metrics, expected):
    assert headlines(metrics) == expected
    assert metrics_of(pd.DataFrame(columns=["cell", "seed", "subject", "image", "arm", *metrics])) == metrics


@pytest.mark.parametrize(("metric", "higher"), [("core_mae_hu", False), ("core_bone_dice", True), ("psnr_db", True)])
def test_it_is_known_which_way_is_better(metric, higher):
    assert higher_is_better(metric) is higher


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("1e-4, 2e-4", ["1e-4", "2e-4"]),
        ("[1,1,null],[2,2,null]", ["[1,1,null]", "[2,2,null]"]),
        ("{kind: unet, downs: 3},{kind: resnet}", ["{kind: unet, downs: 3}", "{kind: resnet}"]),
        ("[[0,1],[2,3]],[]", ["[[0,1],[2,3]]", "[]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["a,]",b],c', ['["a,]",b]', "c"]),
        ("it's,its", ["it's", "its"]),
    ],
)
def test_values_end_at_commas_outside_brackets_and_quotes(text, expected):
    assert [cell.settings for cell in grid([f"key={text}"]).cells] == [(f"key={value}",) for value in expected]


@pytest.mark.parametrize("text", ["1", "[1,1,null]", ""])
def test_one_value_is_shared(text):
    assert grid([f"key={text}"]).shared == (f"key={text}",)
    assert grid([f"key={text}"]).cells == (Cell("as_configured"),)


def test_a_grid_is_every_combination_with_the_first_key_slowest():
    asked = grid(["pix2pix.l1=10,100", "size=small", "fit.epochs=1,2,3", "grid.spacing_mm=[1,1,null]"])
    assert asked.shared == ("size=small", "grid.spacing_mm=[1,1,null]")
    assert asked.keys == ("pix2pix.l1", "fit.epochs")
    assert [cell.settings for cell in asked.cells] == [
        (f"pix2pix.l1={weight}", f"fit.epochs={epochs}") for weight in (10, 100) for epochs in (1, 2, 3)
    ]
    assert asked.cells[0].name == "pix2pix.l1=10,fit.epochs=1"
    (_, cell) = grid(["grid.spacing_mm=[1,1,null],[2,2,null]"]).cells
    assert from_overrides(cell.settings) == {"grid": {"spacing_mm": [2, 2, None]}}
    assert grid(["fit.epochs=3,4", "fit.epochs=5"]).shared == ("fit.epochs=5",)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fit.epochs", "is not a setting"), ("=3", "is not a setting"), ("seed=1,2", "give them as --seeds"),
        *((f"k={text}", "without its end") for text in ("[1,2", "{a: 1", "1,2]]", "'a,b")),
        *((f"k={text}", "no value between two commas") for text in ("1,", ",1", "1,,2")),
    ],
)  # fmt: skip
def test_what_is_no_axis_is_refused(argument, message):
    with pytest.raises(ConfigError, match=message):
        grid([argument])
