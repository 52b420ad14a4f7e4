"""Arms in one go, and stopped in the second segmenter and resumed; settings, plan and leaks."""

import csv
import io
import json
import os
import shutil
import signal
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import get_args

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.config import load
from medgan.data.layouts import stem
from medgan.data.splits import Split
from medgan.data.streams import write_json
from medgan.errors import ConfigError, DataError, LeakageError, ModelError, TrainingError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.tissues import overlap
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.studies import arms as module
from medgan.studies.arms import ARMS, BY_NAME, FURTHER, SWEPT, ArmName, Arms, BenefitConfig, configured
from medgan.studies.base import Failure, Order
from medgan.studies.engine import Result, read_json, run_study
from medgan.studies.images import Keeping
from medgan.studies.segmenter import share_of
from medgan.tracking import resolve_uri
from medgan.training.model_folder import read_model
from medgan.training.recorder import Recorder
from medgan.training.run_folder import RunFolder

QUIET = Console(quiet=True)
SHORT = ("arms=[real+standard, real+standard+synthetic]",)
STOPPED_AT = 4
"""Of the 6 iterations of a segmenter, in its second epoch."""


@dataclass
class Story:
    whole: Result
    output: str
    stopped: str
    resumed: Result
    output_again: str


class Kept(Keeping):
    """Label-keeping that is bad in one training subject."""

    def keeper(self, device):
        return lambda scan, translation: 0.25 if scan.subject == "s1" else 0.75


class Judged(Arms):
    """Arms whose translations are judged by label-keeping as it is told."""

    keeping = Kept(0.5, None, None, ())


def told(order):
    output = io.StringIO()
    return run_study(Judged, order, Console(file=output, width=160)), output.getvalue()


@pytest.fixture(scope="module")
def story(arms_order, work):
    """Ctrl-C in the middle of the second segmenter, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == STOPPED_AT and self.folder.name.startswith("real+standard+synthetic"):
            os.kill(os.getpid(), signal.SIGINT)

    whole, first = told(arms_order(work, "ratios_percent=[0, 100]", name="whole"))
    order = arms_order(work, *SHORT, name="in_parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "iteration", watched)
        with pytest.raises(KeyboardInterrupt) as stop:
            run_study(Judged, order, QUIET)
    resumed, second = told(order)
    return Story(whole, first, str(stop.value), resumed, second)


def folder_of(result):
    return result.study.order.folder


def record_of(result):
    return json.loads((folder_of(result) / "benefit.json").read_text())


def child(result, arm, seed=0):
    (folder,) = folder_of(result).glob(f"{arm}[,]*seed={seed},subset=0")
    return folder


def headline(comparisons, test_set, organ):
    """What the arm with all that translation gives has more of Dice than the same without."""
    wanted = ("real+standard+synthetic", "real+standard", test_set, organ, "dice")
    keys = ("arm", "reference", "test_set", "organ", "metric")
    (mean,) = [each["mean"] for each in comparisons if tuple(each[key] for key in keys) == wanted]
    return mean


def test_every_arm_is_tested_on_both_sets_and_on_test_subjects_alone(story):
    rows = pd.read_csv(folder_of(story.whole) / "benefit.csv")
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
    rows = pd.read_csv(folder_of(story.whole) / "benefit.csv")
    assert list(rows.columns) == [
        *("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ"),
        *("dice", "hd95_mm", "surface_dice", "volume_error_percent", "lesion_f1", "false_lesions"),
    ]
    chosen = record_of(story.whole)["ratio_percent"]
    ratios = rows.groupby("arm")["ratio_percent"].unique().map(list).to_dict()
    assert ratios == {arm.name: [chosen if arm.extra else 0] for arm in ARMS}


def test_a_figure_is_that_of_the_label_map_that_is_kept(story):
    rows = pd.read_csv(folder_of(story.whole) / "benefit.csv").set_index(["arm", "subject", "test_set", "organ"])
    places = [child(story.whole, "oracle") / name for name in ("test", "truth")]
    maps = [np.asarray(nib.load(place / "plain_0001.nii.gz").dataobj) for place in places]
    for number, organ in ((1, "bone"), (2, "vessel")):
        expected = overlap(maps[0] == number, maps[1] == number)
        assert rows.loc[("oracle", "s6", "out", organ), "dice"] == pytest.approx(expected, abs=1e-5)


def test_all_segmenters_take_equally_many_steps_on_what_their_arm_says(story):
    chosen = record_of(story.whole)["ratio_percent"]
    for arm in ARMS:
        model = read_model(child(story.whole, arm.name) / "model", SegmenterDescription).description
        fit = model.config.fit
        assert fit.epochs * fit.iterations_per_epoch == record_of(story.whole)["budget"]["iterations"] == 6
        assert model.config.augmentation == ("standard" if arm.standard else "none")
        assert model.extra_share == pytest.approx(share_of(chosen) if arm.extra else 0)
        assert model.validated == (2 if arm.name == "oracle" else 4)


def test_what_lost_its_labels_is_counted_and_not_trained_on(story):
    counts = {arm.name: [1, 3] for arm in ARMS if arm.translates}
    assert record_of(story.whole)["rejected"] == counts
    assert read_model(child(story.whole, "synthetic-only") / "model", SegmenterDescription).description.trained == 2
    assert "left out: the translation of s1_contrast.nii.gz: label-keeping 0.25 is below 0.5" in story.output


def test_the_result_says_what_was_done_and_found(story):
    record = record_of(story.whole)
    facts = {"pipeline": "ct_contrast", "phantom": False, "seeds": [0], "subsets": 1, "learning_curves": "curves.csv"}
    assert facts.items() <= record.items()
    assert record["split_hash"] == Split.load(folder_of(story.whole) / "split.json").hash
    assert record["sweep"]["arm"] == "real+standard+synthetic"
    assert list(record["sweep"]["val_dice"]) == ["0", "100"]
    assert record["ratio_percent"] == 100
    keys = {"arm", "reference", "test_set", "organ", "metric", "mean", "lower", "upper", "n", "p_value", "p_holm"}
    assert all(keys <= comparison.keys() for comparison in record["comparisons"])
    rows = (
        pd.read_csv(folder_of(story.whole) / "benefit.csv")
        .set_index(["arm", "test_set", "organ", "subject"])["dice"]
        .sort_index()
    )
    by_hand = [rows[(arm, "out", "vessel")] for arm in ("real+standard+synthetic", "real+standard")]
    expected = (by_hand[0] - by_hand[1]).mean()
    assert headline(record["comparisons"], "out", "vessel") == pytest.approx(expected, abs=1e-5)


def test_worst_cases_can_be_looked_at(story):
    worst = record_of(story.whole)["worst"]
    assert worst
    for case in worst:
        shapes = [nib.load(folder_of(story.whole) / case[key]).shape for key in ("image", "truth", "label_map")]
        assert len(set(shapes)) == 1


def test_learning_curves_have_every_epoch_of_every_arm(story):
    curves = pd.read_csv(folder_of(story.whole) / "curves.csv")
    assert list(curves.columns) == ["arm", "seed", "subset", "epoch", "val_dice"]
    assert curves.groupby("arm")["epoch"].apply(list).to_dict() == {arm.name: [1, 2] for arm in ARMS}


def test_the_tables_are_printed(story):
    assert "Dice of vessel" in story.output
    assert "Difference in Dice of bone" in story.output
    assert "ratio: " in story.output


def test_mlflow_has_one_parent_and_a_child_for_each_segmenter(story):
    client = MlflowClient(resolve_uri())
    experiment = client.get_experiment_by_name("ct_contrast").experiment_id
    parent_id = json.loads((folder_of(story.whole) / "study.json").read_text())["mlflow_run_id"]
    parent = client.get_run(parent_id)
    assert parent.info.status == "FINISHED"
    assert {"study": "arms", "failed_children": "0 of 12"}.items() <= parent.data.tags.items()
    assert sorted(file.path for file in client.list_artifacts(parent_id)) == ["comparisons.csv", "curves.csv"]
    comparisons = record_of(story.whole)["comparisons"]
    assert parent.data.metrics["gain/out/vessel_dice"] == pytest.approx(headline(comparisons, "out", "vessel"))
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_id}'")
    arms = [run.data.tags["arm"] for run in runs if "arm" in run.data.tags]
    assert set(arms) == {arm.name for arm in ARMS}
    assert len(arms) == 8
    (real,) = [run for run in runs if run.data.tags.get("arm") == "real"]
    assert "test/out/vessel_dice" in real.data.metrics
    assert "val/dice" in real.data.metrics
    secrets = (str(folder_of(story.whole).parent), "s5", "nii.gz")
    recorded = " ".join(json.dumps(run.data.to_dictionary()) for run in (parent, *runs))
    assert not [secret for secret in secrets if secret in recorded]


def test_a_stopped_study_says_where_and_resumes_to_the_same_weights(story):
    assert story.stopped.startswith("stopped in real+standard+synthetic,ratio=100,seed=0,subset=0; the same command")
    assert "1 of 2 tasks: finished before" in story.output_again
    names = ["real+standard,seed=0,subset=0", "real+standard+synthetic,ratio=100,seed=0,subset=0"]
    for name in names:
        one, other = (
            folder_of(result) / name / "model" / "weights.safetensors" for result in (story.whole, story.resumed)
        )
        assert one.read_bytes() == other.read_bytes(), name
    assert story.resumed.failures == ()


def test_the_page_is_written_with_its_answer(story):
    assert story.whole.page == folder_of(story.whole) / "benefit.html"
    assert "Does it help out of distribution" in story.whole.page.read_text(encoding="utf-8")


def test_the_same_command_again_trains_nothing_and_finds_the_same(story, arms_order, work):
    weights = child(story.resumed, "real+standard+synthetic") / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again, output = told(arms_order(work, *SHORT, name="in_parts"))
    assert weights.stat().st_mtime_ns == before
    assert "2 of 2 tasks: finished before" in output
    pd.testing.assert_frame_equal(again.summary.comparisons, story.resumed.summary.comparisons)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"split_hash": "other"}, LeakageError, "was begun under another split"),
        ({"images": {"train": "other"}}, ConfigError, r"begun with other images\.train"),
    ],
)
def test_a_segmenter_begun_otherwise_is_refused(story, arms_order, work, changed, error, message):
    identity = child(story.resumed, "real+standard") / "task.json"
    before = read_json(identity)
    write_json(identity, before | {"inputs": before["inputs"] | changed})
    try:
        with pytest.raises(error, match=message):
            told(arms_order(work, *SHORT, name="in_parts"))
    finally:
        write_json(identity, before)


def test_each_subset_has_its_own_translator_and_segmenters(arms_order, work):
    settings = ["arms=[real+synthetic]", "subsets=2", "labelled=2", "retrain_translator=true"]
    result = run_study(Arms, arms_order(work, *settings, name="subsets"), QUIET)
    assert result.failures == ()
    splits = [Split.load(folder_of(result) / f"translator,subset={subset}" / "split.json") for subset in (0, 1)]
    assert [split.train for split in splits] == result.study.subsets
    assert result.rows.groupby("subset").size().to_dict() == {0: 8, 1: 8}
    assert record_of(result)["subsets"] == 2
    assert record_of(result)["rejected"] == {"real+synthetic": [0, 4]}
    weights = [path.read_bytes() for path in folder_of(result).glob("real+synthetic*/model/weights.safetensors")]
    assert weights[0] != weights[1]


@pytest.fixture
def own(save_labelled, tmp_path):
    """A cohort that a test may change."""
    return save_labelled(tmp_path / "own")


def changed(table, change):
    """The table with every row as ``change`` gives it."""
    rows = list(csv.DictReader(table.open()))
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(map(change, rows))
    return table


def in_part(**parts):
    return lambda row: row | {"split": parts.get(row["subject"], row["split"])}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A finished run with a split: ``trained(train=("s0",), files={...})`` gives its model folder."""

    def make(**split):
        whole = Split(**({"validation": (), "test": (), "files": {}} | split))
        whole.save(tmp_path / "run" / "split.json")
        description = SimpleNamespace(origin=SimpleNamespace(split_hash=whole.hash), weights_sha256="")
        monkeypatch.setattr(module, "read_description", lambda *given: description)
        return tmp_path / "run" / "model"

    return make


def test_a_plan_has_every_arm_and_the_cohorts_own_split(arms_order, tmp_path):
    order = arms_order(tmp_path)
    study = Arms(order, QUIET)
    assert len(study.arms) == 8
    assert not study.left_out
    assert study.subsets == [("s0", "s1", "s2")]
    assert Split.load(order.folder / "split.json").test == ("s5", "s6")
    assert dict(study.segmenter.labels) == {"bone": (1,), "vessel": (2,)}
    assert study.description["labelled"] == [3]
    assert Arms(order, QUIET).subjects == study.subjects


def test_an_order_says_how_to_repeat_it_and_not_where_its_data_lie(tmp_path):
    order = Order("arms", "ct_contrast", data=tmp_path / "a.csv", overrides=["arms=[real, oracle]"], seeds=(3, 4))
    assert order.command == (
        "medgan study arms --pipeline ct_contrast --name arms --seeds 3,4, --data COHORT 'arms=[real, oracle]'"
    )
    assert Order("arms", "ct_contrast", quick=True, seeds=(0,)).command.endswith("--seeds 0, --quick")


def test_settings_reach_translator_and_segmenter(arms_order, tmp_path):
    study = Arms(arms_order(tmp_path, "translator.cyclegan.cycle=7", "segmenter.rate=0.5"), QUIET)
    assert study.translator.config.cyclegan.cycle == 7
    assert study.segmenter.rate == 0.5


def test_a_label_to_count_must_be_one(arms_order, tmp_path):
    with pytest.raises(ConfigError, match="lesions names cyst, and the labels are bone, vessel"):
        Arms(arms_order(tmp_path, "lesions=[cyst]"), QUIET)


def test_without_target_labels_the_oracle_is_left_out(arms_order, tmp_path, own):
    bare = changed(own, lambda row: row | {"mask": ""} if row["domain"] == "plain" and row["split"] != "test" else row)
    study = Arms(arms_order(tmp_path, data=bare), QUIET)
    assert study.left_out == {"oracle": "no labelled plain image to train or validate on"}
    assert "oracle" not in [arm.name for arm in study.arms]


def test_cases_that_augment_made_are_refused_since_every_arm_would_take_them_for_real(arms_order, tmp_path, own):
    with own.open(newline="") as stream:
        image = own.parent / next(csv.DictReader(stream))["image"]
    image.with_name(f"{stem(image)}.json").write_text('{"Augmentation": {}}')
    with pytest.raises(DataError, match=r"1 of \d+ images are synthetic cases of `medgan augment`"):
        Arms(arms_order(tmp_path, data=own), QUIET)


def test_a_folder_in_no_layout_is_refused(arms_order, tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="none of the layouts"):
        Arms(arms_order(tmp_path, data=tmp_path), QUIET)


def test_a_phantoms_translator_is_shown_one_scan_of_each(arms_order, tmp_path, monkeypatch, own):
    changed(own, lambda row: row).rename(own.with_name("cohort.csv"))
    shutil.copy(own, own.with_name("cohort_unpaired.csv"))
    rows = [row for number, row in enumerate(csv.DictReader(own.open())) if number % 4 in (0, 3)]
    with own.with_name("cohort_unpaired.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    asked_for = []
    monkeypatch.setattr("medgan.pipeline.Pipeline.rendered", lambda self, *size: asked_for.append(size) or own.parent)
    study = Arms(arms_order(tmp_path, "phantom_subjects=7", "segmenter.labels={bone: 1}", data=None), QUIET)
    assert asked_for[0][0] == 7
    assert study.phantom
    assert len(study.subjects.labelled.studies) == 14
    assert len(study.subjects.translated.studies) == 7


def test_leak_a_given_translator_was_validated_on_a_test_subject(arms_order, tmp_path, trained):
    with pytest.raises(LeakageError, match="'s6' is in its validation part"):
        Arms(arms_order(tmp_path, models=(trained(train=("s0",), validation=("s6",)),)), QUIET)


def test_leak_a_given_translator_saw_a_test_subjects_unpaired_target_under_another_name(arms_order, tmp_path, trained):
    hashes = Arms(arms_order(tmp_path / "first"), QUIET).subjects.labelled.file_hashes()
    model = trained(train=("x",), files={"x": {"x.nii.gz": hashes["s6"]["s6_plain.nii.gz"]}})
    with pytest.raises(LeakageError, match=r"'s6' has the image s6_plain.nii.gz of its train subject 'x'"):
        Arms(arms_order(tmp_path, models=(model,)), QUIET)


def test_leak_a_test_subjects_target_is_an_unpaired_target_of_the_training(arms_order, tmp_path, own):
    shutil.copy(own.parent / "s6_plain.nii.gz", own.parent / "other.nii.gz")
    with own.open("a") as stream:
        stream.write("x,plain,other.nii.gz,,train\n")
    with pytest.raises(LeakageError, match=r"'s6' \(test\), 'x' \(train\): other"):
        Arms(arms_order(tmp_path, data=own), QUIET)


def test_another_split_that_leaks_nothing_is_refused_too(arms_order, tmp_path, own):
    order = arms_order(tmp_path, data=own)
    Arms(order, QUIET)
    changed(own, in_part(s0="validation"))
    with pytest.raises(ConfigError, match="holds another split of the subjects"):
        Arms(order, QUIET)


def test_a_given_translator_that_saw_others_serves(arms_order, tmp_path, trained):
    assert Arms(arms_order(tmp_path, models=(trained(train=("s0",), test=("s5",)),)), QUIET).model


def test_a_given_translator_cannot_be_trained_on_each_subset(arms_order, tmp_path, trained):
    with pytest.raises(ConfigError, match="leave --model out"):
        Arms(arms_order(tmp_path, "retrain_translator=true", models=(trained(train=("s0",)),)), QUIET)


def test_a_model_whose_split_is_not_there_or_not_its_own_is_refused(trained):
    model = trained(train=("s0",))
    (model.parent / "split.json").unlink()
    with pytest.raises(ModelError, match=r"no split\.json beside it"):
        module._split_of_translator(model)
    Split(train=("s1",), validation=(), test=(), files={}).save(model.parent / "split.json")
    with pytest.raises(ModelError, match="is not the split that"):
        module._split_of_translator(model)


@pytest.fixture
def images(arms_order, tmp_path):
    """A study, and labelled images of each kind: real ones stand for those that are made."""

    def make(*overrides, seeds=(0,)):
        study = Arms(arms_order(tmp_path, *overrides, seeds=seeds), QUIET)
        source, target = (study.subjects.with_labels("train", name) for name in study.pair.names)
        kinds = dict.fromkeys(("target", "synthetic", "matched", "shuffled"), target) | {"source": source}
        parts = {"validation": source[:1], "target_validation": target[:1]}
        return study, kinds | parts

    return make


def test_every_segmenter_has_a_folder_of_its_own_and_arms_differ_in_augmentation_alone(images):
    study, own = images()
    keys = [(arm, seed, subset, ratio) for arm in ARMS for seed in (0, 1) for subset in (0, 1) for ratio in (50, 100)]
    tasks = {key: study._task(*key[:3], key[3], own) for key in keys}
    without = [key for key in keys if not key[0].extra]
    assert len({task.name for task in tasks.values()}) == len(keys) - len(without) // 2
    assert {tasks[key].inputs["ratio_percent"] for key in without} == {0}
    settings = [task.inputs["segmenter"] for task in tasks.values()]
    assert len({json.dumps(each | {"augmentation": ""}) for each in settings}) == 1
    assert all(
        (task.inputs["segmenter"]["augmentation"] == "standard") == arm.standard for (arm, *_), task in tasks.items()
    )


def test_an_arm_takes_its_images_its_extra_and_its_validation_and_shows_the_guard_all_of_them(images):
    study, own = images()
    for name, train, extra, validation in (
        ("real+matched", "source", "matched", "validation"), ("oracle", "target", None, "target_validation")
    ):  # fmt: skip
        task = study._task(BY_NAME[name], 0, 0, 50, own)
        (segmenter,) = task.args
        assert (segmenter.train.scans, segmenter.validation.scans) == (own[train], own[validation])
        assert (segmenter.extra.scans if segmenter.extra else None) == (own[extra] if extra else None)
        seen = [*own[train], *(own[extra] if extra else ()), *own[validation]]
        assert sorted(task.scans, key=str) == sorted(seen, key=str)


@pytest.mark.parametrize("place", ["source", "synthetic", "validation"])
@pytest.mark.parametrize("name", ["s5", "stranger"])
def test_leak_a_test_image_is_refused_wherever_it_would_be_learnt_from(images, place, name):
    study, own = images()
    (tested,) = (scan for scan in study.subjects.with_labels("test", "plain") if scan.subject == "s5")
    task = study._task(BY_NAME["real+synthetic"], 0, 0, 100, own | {place: (replace(tested, subject=name),)})
    with pytest.raises(LeakageError, match=r"real\+synthetic.* would see who is tested"):
        study.guard.admit(task.scans, task.name)


def test_test_images_of_both_domains_have_a_set_and_a_file_each(images):
    study, _ = images()
    tested = [(image.scan.subject, image.scan.domain, image.keys["test_set"]) for image in study._test_images()]
    assert tested == [
        ("s5", "contrast", "in"),
        ("s6", "contrast", "in"),
        ("s5", "plain", "out"),
        ("s6", "plain", "out"),
    ]
    assert len({image.file for image in study._test_images()}) == 4


def chosen(study, own, scores):
    """What becomes of a study whose swept segmenters have these validation Dice."""
    tried = study._tried(own)
    assert not any(task.product == "rows.csv" for task in tried.values())
    failures = [Failure(task.name, "no") for ratio, task in tried.items() if ratio not in scores]
    study._choose({ratio: scores.get(ratio) for ratio in tried}, failures)
    return study, [task.name for _, task in sorted(tried.items())]


def test_validation_chooses_the_ratio_with_the_first_seed(images):
    study, own = images("ratios_percent=[0, 100, 50]", seeds=(4, 5))
    study, names = chosen(study, own, {0: 0.9, 50: 0.7, 100: 0.8})
    assert (study.ratio_percent, study.swept, study.val_dice) == (
        100,
        "real+standard+synthetic",
        {0: 0.9, 50: 0.7, 100: 0.8},
    )
    assert names == [
        "real+standard,seed=4,subset=0",
        "real+standard+synthetic,ratio=50,seed=4,subset=0",
        "real+standard+synthetic,ratio=100,seed=4,subset=0",
    ]


def test_a_ratio_that_fails_is_not_chosen(images):
    study, own = images("ratios_percent=[0, 50, 100]")
    assert chosen(study, own, {0: 0.9, 50: 0.1})[0].ratio_percent == 50
    with pytest.raises(TrainingError, match=r"no ratio could be trained: real\+standard\+synthetic,ratio=50.*: no"):
        chosen(study, own, {0: 0.9})


@pytest.mark.parametrize(
    ("settings", "swept"),
    [
        (("ratios_percent=[50]",), None),
        (("ratios_percent=[50, 100]", "arms=[real, oracle]"), None),
        (("ratios_percent=[50, 100]", "arms=[real, real+matched]"), "real+matched"),
    ],
)
def test_what_is_swept_is_an_arm_with_extra_images_where_there_is_something_to_choose(images, settings, swept):
    study, own = images(*settings)
    assert bool(study._tried(own)) == bool(swept)
    assert (study.ratio_percent, study.swept) == (50, swept)


@pytest.fixture
def frozen(segmenters, tmp_path):
    """The model folder of a segmenter whose run says whom it was trained on: ``frozen("s0")``."""

    def make(*trained):
        run = tmp_path / "frozen"
        shutil.copytree(segmenters(), run / "model")
        split = Split(train=trained, validation=(), test=(), files={})
        split.save(run / "split.json")
        path = run / "model" / "model.json"
        description = json.loads(path.read_text())
        description["origin"]["split_hash"] = split.hash
        path.write_text(json.dumps(description))
        return run / "model"

    return make


def test_one_frozen_segmenter_judges_images_and_translations(arms_order, tmp_path, frozen):
    study = Arms(arms_order(tmp_path, "keep_labels_above=0.7", f"source_segmenter={frozen('s0')}"), QUIET)
    keeper = study.keeping.keeper("cpu")
    image = study.subjects.with_labels("train", "contrast")[0]
    assert keeper(image, image) == 1.0
    assert Arms(arms_order(tmp_path / "other"), QUIET).keeping.keeper("cpu") is None


@pytest.mark.parametrize("half", ["keep_labels_above=0.7", "source_segmenter=somewhere"])
def test_a_threshold_and_a_segmenter_go_together(arms_order, tmp_path, half):
    with pytest.raises(ConfigError, match="go together"):
        Arms(arms_order(tmp_path, half), QUIET)


def test_leak_a_frozen_segmenter_that_has_seen_a_test_subject_or_of_whom_nobody_knows(
    arms_order, tmp_path, frozen, segmenters
):
    with pytest.raises(LeakageError, match=r"the segmenter of .* cannot serve this study"):
        Arms(arms_order(tmp_path, "keep_labels_above=0.7", f"source_segmenter={frozen('s0', 's5')}"), QUIET)
    with pytest.raises(ModelError, match=r"no split\.json beside it"):
        Arms(arms_order(tmp_path, "keep_labels_above=0.7", f"source_segmenter={segmenters()}"), QUIET)


def test_a_translator_is_trained_with_its_settings_on_the_studys_split(arms_order, tmp_path):
    study = Arms(arms_order(tmp_path, "translator.cyclegan.cycle=7", "subsets=2", "labelled=2"), QUIET)
    task = study._translator_task((0, 1))
    (translator,) = task.args
    assert (task.name, task.inputs["cyclegan"]["cycle"]) == ("translator", 7)
    assert "cyclegan.cycle=7" in translator.shared
    assert Split.load(translator.split).train == ("s0", "s1", "s2")
    study.config = study.config.model_copy(update={"retrain_translator": True})
    for subset in (0, 1):
        task = study._translator_task((subset,))
        assert task.name == f"translator,subset={subset}"
        assert Split.load(task.args[0].split).train == study.subsets[subset]


def test_leak_a_translator_in_the_studys_folder_saw_a_test_subject(arms_order, tmp_path):
    order = arms_order(tmp_path, "arms=[real, real+synthetic]")
    study = Arms(order, QUIET)
    own = study.subjects.translator_split(("s0", "s1", "s2"))
    leaking = own.model_copy(update={"train": ("s5",), "test": ("s0", "s6")})
    RunFolder(order.folder / "translator").start(study.translator.config, leaking, {})
    with pytest.raises(LeakageError, match="was begun under another split"):
        run_study(Arms, order, QUIET)


def rows(*values):
    """(arm, subject, test set, dice), organ vessel, one training."""
    frame = pd.DataFrame(values, columns=["arm", "subject", "test_set", "dice"]).assign(organ="vessel")
    frame = frame.assign(seed=0, subset=0, ratio_percent=[100 * bool(BY_NAME[arm].extra) for arm in frame["arm"]])
    return frame.assign(**{metric: np.nan for metric in METRICS if metric != "dice"})


def test_every_arm_and_difference_is_shown_with_its_interval_and_worst_cases_have_files(images):
    study, own = images("arms=[real+standard, real+standard+synthetic]")
    for arm in study.arms:
        study._task(arm, 0, 0, 100, own)
    both = "real+standard", "real+standard+synthetic"
    figures = [
        (arm, who, where, dice)
        for arm, dice in zip(both, (0.5, 0.7), strict=True)
        for where in ("in", "out")
        for who in ("s5", "s6")
    ]
    summary = study.summary(rows(*figures[:-1], (both[1], "s6", "out", 0.1)))
    output = io.StringIO()
    Console(file=output, width=160).print(*summary.shown)
    lines = [line.replace("│", " ").split() for line in output.getvalue().splitlines()]
    assert ["real+standard", "0.500", "[0.500,", "0.500]", "0.500", "[0.500,", "0.500]"] in lines
    assert any(line[:5] == [both[1], both[0], "+0.200", "[+0.200,", "+0.200]"] for line in lines)
    assert "contrast in distribution, plain out of it" in output.getvalue()
    worst = summary.record["worst"][0]
    name = "real+standard+synthetic,ratio=100,seed=0,subset=0"
    assert (worst["subject"], worst["test_set"], worst["dice"], worst["value"]) == ("s6", "out", 0.1, 2)
    assert (worst["truth"], worst["label_map"]) == (f"{name}/truth/plain_0001.nii.gz", f"{name}/test/plain_0001.nii.gz")
    assert not any(worst[key].startswith("/") for key in ("image", "truth", "label_map"))


def test_the_table_has_every_arm_once_and_no_other():
    assert [arm.name for arm in ARMS] == list(get_args(ArmName))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_differs_from_its_reference_in_one_thing(arm):
    if arm.reference is None:
        assert arm.name == "real"
        return
    other = BY_NAME[arm.reference]
    differing = [key for key in ("images", "extra", "standard") if getattr(arm, key) != getattr(other, key)]
    assert len(differing) == 1


def test_names_say_what_is_in_an_arm():
    for arm in ARMS:
        words = set(arm.name.split("+"))
        assert ("standard" in words) == arm.standard or arm.name == "oracle"
        assert (arm.extra in words) if arm.extra else not words & {"synthetic", "matched", "shuffled"}


def test_only_arms_with_drawn_images_need_a_translator():
    assert {arm.name for arm in ARMS if arm.translates} == {
        "real+synthetic",
        "real+standard+synthetic",
        "synthetic-only",
        "real+shuffled",
    }


def test_what_is_swept_and_compared_further_is_in_the_table():
    assert {name for pair in FURTHER for name in pair} | set(SWEPT) <= BY_NAME.keys()
    assert all(BY_NAME[name].extra == "synthetic" for name in SWEPT)


def settings(on_phantom, quick, *overrides, pipeline="ct_contrast"):
    data = None if on_phantom else "cohort.csv"
    return configured(Order("arms", pipeline, data=data, quick=quick, overrides=overrides))


def test_shipped_forms_lie_over_each_other_and_the_user_over_all():
    full = settings(False, False)
    phantom = settings(True, False)
    quick = settings(True, True, "segmenter.fit.epochs=2")
    assert len(full.arms) == len(phantom.arms) == 8 > len(quick.arms)
    assert "labels" not in full.segmenter
    assert phantom.segmenter["labels"]["kidney"] == quick.segmenter["labels"]["kidney"] == [7, 8]
    assert quick.segmenter["fit"]["epochs"] == 2
    assert load(SegmenterConfig, phantom.segmenter).patch.size_voxels == 64


def test_a_quick_study_trains_fewer_and_shorter_and_sweeps_nothing():
    full, quick = (settings(True, quick) for quick in (False, True))
    fits = [load(SegmenterConfig, each.segmenter).fit for each in (full, quick)]
    steps = [fit.epochs * fit.iterations_per_epoch for fit in fits]
    assert steps[1] < steps[0]
    assert len(quick.ratios_percent) == 1
    assert quick.phantom_subjects < full.phantom_subjects


def test_a_pipeline_without_a_file_has_the_defaults():
    assert settings(False, False, pipeline="mr_contrast") == BenefitConfig()


def test_without_a_shipped_form_a_study_of_the_phantom_must_be_told_what_is_segmented():
    for pipeline in ("mr_contrast", "mr_to_ct"):
        with pytest.raises(
            ConfigError, match=rf"'{pipeline}' on the built-in phantom.* --data, or .*segmenter.labels="
        ):
            settings(True, False, pipeline=pipeline)
    own = settings(True, False, "segmenter.labels={lesion: [26]}", pipeline="mr_contrast")
    assert own.segmenter == {"labels": {"lesion": [26]}}


@pytest.mark.parametrize("on_phantom", [True, False])
def test_a_study_that_has_no_short_form_is_not_run_at_full_length_under_that_name(on_phantom):
    with pytest.raises(ConfigError, match=r"no short form of a study of 'mr_contrast' is shipped; leave --quick out"):
        settings(on_phantom, True, pipeline="mr_contrast")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("ratios_percent=[0]", "needs a ratio above 0"),
        ("arms=[real, real]", "each once"),
        ("arms=[reel]", "setting 'arms.0'"),
        ("arm=[real]", "unknown setting 'arm' .did you mean 'arms'"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        settings(True, False, setting)


def test_comparisons_are_between_arms_that_are_trained():
    config = BenefitConfig(arms=("real+standard", "real+standard+synthetic", "oracle"))
    assert config.comparisons == (
        ("real+standard+synthetic", "real+standard"),
        ("oracle", "real+standard"),
        ("real+standard+synthetic", "oracle"),
    )


def test_ratios_that_can_be_chosen_are_above_0_and_rise():
    assert BenefitConfig(ratios_percent=(200, 0, 25)).ratios == (25, 200)


def test_a_study_of_which_every_segmenter_failed_says_nothing_and_goes_to_its_end(arms_order, tmp_path):
    study = Arms(arms_order(tmp_path), QUIET)
    summary = study.summary(pd.DataFrame(columns=[*study.keys, *study.metrics]))
    assert summary.comparisons.empty
    assert summary.record["means"] == []
