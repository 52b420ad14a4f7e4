"""A study of all arms run in one go, and one that is stopped in its second child and goes on in another process."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.benefit.arms import ARMS
from medgan.benefit.study import Benefit, run_benefit
from medgan.data.splits import Split
from medgan.errors import LeakageError
from medgan.evaluation.tissues import overlap
from medgan.segmentation.settings import SegmenterDescription
from medgan.tracking import resolve_uri
from medgan.training.model_folder import read_model
from medgan.training.recorder import Recorder

QUIET = Console(quiet=True)
RULE = ["keep_labels_above=0.5"]
SHORT = [*RULE, "arms=[real+standard, real+standard+synthetic]"]
STOPPED_AT = 4
"""Of the 6 iterations of a child, in its second epoch."""


@dataclass
class Story:
    whole: Benefit
    told: str
    stopped: str
    resumed: Benefit
    told_again: str


def keeping(source, drawn):
    """Label-keeping that is bad in one training subject."""
    return 0.25 if source.subject == "s1" else 0.75


def stop_second_child(patch):
    """Ctrl-C in the middle of the second child, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == STOPPED_AT and self.folder.name.startswith("real+standard+synthetic"):
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Recorder, "iteration", watched)


def told(path, order):
    with path.open("w+", encoding="utf-8") as stream:
        found = run_benefit(order, Console(file=stream, width=160), keeping)
        stream.seek(0)
        return found, stream.read()


@pytest.fixture(scope="module")
def story(asked, work):
    whole, first = told(work / "a.txt", asked(work, name="whole", overrides=[*RULE, "ratios_percent=[0, 100]"]))
    with pytest.MonkeyPatch.context() as patch:
        stop_second_child(patch)
        with pytest.raises(KeyboardInterrupt) as stop:
            run_benefit(asked(work, name="in_parts", overrides=SHORT), QUIET, keeping)
    resumed, second = told(work / "b.txt", asked(work, name="in_parts", overrides=SHORT, jobs=2))
    return Story(whole, first, str(stop.value), resumed, second)


def result(study):
    return json.loads((study.folder / "benefit.json").read_text())


def child(study, arm, seed=0):
    (folder,) = study.folder.glob(f"{arm}[,]*seed={seed},subset=0")
    return folder


def headline(comparisons, test_set, organ):
    """What the arm with all that translation gives has more of Dice than the same without."""
    wanted = ("real+standard+synthetic", "real+standard", test_set, organ, "dice")
    keys = ("arm", "reference", "test_set", "organ", "metric")
    (found,) = [each["mean"] for each in comparisons if tuple(each[key] for key in keys) == wanted]
    return found


def test_every_arm_is_tested_on_both_sets_and_on_test_subjects_alone(story):
    rows = pd.read_csv(story.whole.folder / "benefit.csv")
    assert story.whole.failures == ()
    assert list(dict.fromkeys(rows["arm"])) == [arm.name for arm in ARMS]
    for _, own in rows.groupby("arm"):
        assert sorted(zip(own["subject"], own["test_set"], own["organ"], strict=True)) == [
            (subject, where, organ)
            for subject in ("s5", "s6")
            for where in ("in", "out")
            for organ in ("bone", "vessel")
        ]


def test_the_table_has_the_columns_that_a_report_reads(story):
    rows = pd.read_csv(story.whole.folder / "benefit.csv")
    assert list(rows.columns) == [
        *("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ"),
        *("dice", "hd95_mm", "surface_dice", "volume_error_percent", "lesion_f1", "false_lesions"),
    ]
    chosen = result(story.whole)["ratio_percent"]
    ratios = rows.groupby("arm")["ratio_percent"].unique().map(list).to_dict()
    assert ratios == {arm.name: [chosen if arm.extra else 0] for arm in ARMS}


def test_a_figure_is_that_of_the_label_map_that_is_kept(story):
    folder = story.whole.folder
    rows = pd.read_csv(folder / "benefit.csv").set_index(["arm", "subject", "test_set", "organ"])
    places = (child(story.whole, "oracle") / "test", folder / "truth")
    maps = [np.asarray(nib.load(place / "plain_0001.nii.gz").dataobj) for place in places]
    for number, organ in ((1, "bone"), (2, "vessel")):
        expected = overlap(maps[0] == number, maps[1] == number)
        assert rows.loc[("oracle", "s6", "out", organ), "dice"] == pytest.approx(expected, abs=1e-5)


def test_all_segmenters_take_equally_many_steps_on_what_their_arm_says(story):
    chosen = result(story.whole)["ratio_percent"]
    for arm in ARMS:
        model = read_model(child(story.whole, arm.name) / "model", SegmenterDescription).description
        fit = model.config.fit
        assert fit.epochs * fit.iterations_per_epoch == result(story.whole)["budget"]["iterations"] == 6
        assert model.config.augmentation == ("standard" if arm.standard else "none")
        assert model.extra_share == pytest.approx(arm.share(chosen))
        assert model.validated == (2 if arm.name == "oracle" else 4)


def test_what_lost_its_labels_is_counted_and_not_trained_on(story):
    counts = {arm.name: [1, 3] for arm in ARMS if arm.translates}
    assert result(story.whole)["rejected"] == counts
    assert read_model(child(story.whole, "synthetic-only") / "model", SegmenterDescription).description.trained == 2
    assert "left out: the translation of s1_contrast.nii.gz: label-keeping 0.25 is below 0.5" in story.told


def test_the_result_says_what_was_done_and_found(story):
    found = result(story.whole)
    facts = {"pipeline": "ct_contrast", "phantom": False, "seeds": [0], "subsets": 1, "learning_curves": "curves.csv"}
    assert facts.items() <= found.items()
    assert found["split_hash"] == Split.load(story.whole.folder / "split.json").hash
    assert found["sweep"]["arm"] == "real+standard+synthetic"
    assert list(found["sweep"]["val_dice"]) == ["0", "100"]
    assert found["ratio_percent"] == 100
    keys = {"arm", "reference", "test_set", "organ", "metric", "mean", "lower", "upper", "n", "p_value", "p_holm"}
    assert all(keys <= comparison.keys() for comparison in found["comparisons"])
    rows = (
        pd.read_csv(story.whole.folder / "benefit.csv")
        .set_index(["arm", "test_set", "organ", "subject"])["dice"]
        .sort_index()
    )
    by_hand = [rows[(arm, "out", "vessel")] for arm in ("real+standard+synthetic", "real+standard")]
    expected = (by_hand[0] - by_hand[1]).mean()
    assert headline(found["comparisons"], "out", "vessel") == pytest.approx(expected, abs=1e-5)


def test_worst_cases_can_be_looked_at(story):
    worst = result(story.whole)["worst"]
    assert worst
    for case in worst:
        shapes = [nib.load(story.whole.folder / case[key]).shape for key in ("image", "truth", "label_map")]
        assert len(set(shapes)) == 1


def test_learning_curves_have_every_epoch_of_every_arm(story):
    curves = pd.read_csv(story.whole.folder / "curves.csv")
    assert list(curves.columns) == ["arm", "seed", "subset", "epoch", "val_dice"]
    assert curves.groupby("arm")["epoch"].apply(list).to_dict() == {arm.name: [1, 2] for arm in ARMS}


def test_the_tables_are_printed(story):
    assert "Dice of vessel" in story.told
    assert "Difference in Dice of bone" in story.told
    assert "ratio: " in story.told


def test_mlflow_has_one_parent_and_a_child_for_each_segmenter(story):
    client = MlflowClient(resolve_uri())
    experiment = client.get_experiment_by_name("ct_contrast").experiment_id
    parent_id = json.loads((story.whole.folder / "study.json").read_text())["mlflow_run_id"]
    parent = client.get_run(parent_id)
    assert parent.info.status == "FINISHED"
    assert {"study": "benefit", "failed_children": "0 of 8"}.items() <= parent.data.tags.items()
    assert sorted(file.path for file in client.list_artifacts(parent_id)) == ["comparisons.csv", "curves.csv"]
    comparisons = result(story.whole)["comparisons"]
    assert parent.data.metrics["gain/out/vessel_dice"] == pytest.approx(headline(comparisons, "out", "vessel"))
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    arms = [run.data.tags["arm"] for run in runs if "arm" in run.data.tags]
    assert set(arms) == {arm.name for arm in ARMS}
    assert len(arms) == 8
    (real,) = [run for run in runs if run.data.tags.get("arm") == "real"]
    assert "test/out/vessel_dice" in real.data.metrics
    assert "val/dice" in real.data.metrics
    secrets = (str(story.whole.folder.parent), "s5", "nii.gz")
    recorded = " ".join(json.dumps(run.data.to_dictionary()) for run in (parent, *runs))
    assert not [secret for secret in secrets if secret in recorded]


def test_a_stopped_study_says_where_and_goes_on_to_the_same_weights_in_another_process(story):
    assert story.stopped.startswith("stopped in real+standard+synthetic,ratio=100,seed=0,subset=0; the same command")
    assert "1 of 2 segmenters: finished before" in story.told_again
    names = ["real+standard,seed=0,subset=0", "real+standard+synthetic,ratio=100,seed=0,subset=0"]
    for name in names:
        one, other = (study.folder / name / "model" / "weights.safetensors" for study in (story.whole, story.resumed))
        assert one.read_bytes() == other.read_bytes(), name
    assert story.resumed.failures == ()


def test_the_same_command_again_trains_nothing_and_finds_the_same(story, asked, work):
    weights = child(story.resumed, "real+standard+synthetic") / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again, lines = told(work / "c.txt", asked(work, name="in_parts", overrides=SHORT))
    assert weights.stat().st_mtime_ns == before
    assert "2 of 2 segmenters: finished before" in lines
    pd.testing.assert_frame_equal(again.comparisons, story.resumed.comparisons)


def test_leak_a_child_that_was_begun_under_another_split(story, asked, work, monkeypatch):
    identity = child(story.resumed, "real+standard") / "child.json"
    kept = identity.read_text()
    monkeypatch.setattr(Path, "is_file", lambda self: self.name != "rows.csv" and Path.exists(self))
    identity.write_text(json.dumps(json.loads(kept) | {"split_hash": "other"}))
    try:
        with pytest.raises(LeakageError, match="was begun under another split"):
            run_benefit(asked(work, name="in_parts", overrides=SHORT), QUIET, keeping)
    finally:
        identity.write_text(kept)


def test_each_subset_has_its_own_translator_and_segmenters(asked, work):
    settings = ["arms=[real+synthetic]", "subsets=2", "labelled=2", "retrain_translator=true"]
    found = run_benefit(asked(work, name="subsets", overrides=settings), QUIET)
    assert found.failures == ()
    trained = [Split.load(found.folder / f"translator,subset={subset}" / "split.json").train for subset in (0, 1)]
    assert all(len(subjects) == 2 for subjects in trained)
    assert found.rows.groupby("subset").size().to_dict() == {0: 8, 1: 8}
    assert result(found)["subsets"] == 2
    assert result(found)["rejected"] == {"real+synthetic": [0, 4]}
    weights = [folder.read_bytes() for folder in found.folder.glob("real+synthetic*/model/weights.safetensors")]
    assert weights[0] != weights[1]
