"""Arms: what each is trained and tested on, what is chosen, compared and told; settings, plan and leaks."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import get_args

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from medgan.config import load
from medgan.data.splits import Split
from medgan.data.streams import write_json
from medgan.errors import ConfigError, DataError, LeakageError, ModelError, TrainingError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.tissues import overlap
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.studies import arms as module
from medgan.studies.arms import ARMS, BY_NAME, FURTHER, ON_REQUEST, SWEPT, ArmName, Arms, BenefitConfig
from medgan.studies.base import StudyOrder, TaskFailure
from medgan.studies.engine import read_json
from medgan.studies.segmenter import _share_of, layered
from medgan.training.model_folder import read_model
from tables import printed, rewrite, row_of

DEFAULT = [BY_NAME[name] for name in BenefitConfig().arms]


@pytest.fixture(scope="module")
def story(golden):
    """A study that has run, what it recorded, and its rows."""
    folder = golden.resumed("arms").folder
    return folder, read_json(folder / "benefit.json"), pd.read_csv(folder / "benefit.csv")


def child(folder, arm):
    (own,) = folder.glob(f"{arm}[,]*seed=0,subset=0")
    return own


def test_every_arm_is_tested_on_both_sets_and_on_test_subjects_alone(story):
    folder, record, rows = story
    assert list(rows.columns) == [
        *("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ"),
        *("dice", "hd95_mm", "surface_dice", "volume_error_percent", "lesion_f1", "false_lesions"),
    ]
    assert list(dict.fromkeys(rows["arm"])) == [arm.name for arm in DEFAULT]
    for name, own in rows.groupby("arm"):
        judged = sorted(zip(own["subject"], own["test_set"], own["organ"], strict=True))
        assert judged == list(product(("s5", "s6"), ("in", "out"), ("bone", "vessel")))
        assert set(own["ratio_percent"]) == {record["ratio_percent"] if BY_NAME[name].extra else 0}
    # A figure is that of the label map that is kept.
    places = [child(folder, "oracle") / name for name in ("test", "truth")]
    maps = [np.asarray(nib.load(place / "plain_0001.nii.gz").dataobj) for place in places]
    for number, organ in ((1, "bone"), (2, "vessel")):
        row = row_of(rows, arm="oracle", subject="s6", test_set="out", organ=organ)
        assert row["dice"] == pytest.approx(overlap(maps[0] == number, maps[1] == number), abs=1e-5)


def test_all_segmenters_take_equally_many_steps_on_what_their_arm_says(story):
    folder, record, _ = story
    for arm in DEFAULT:
        model = read_model(child(folder, arm.name) / "model", SegmenterDescription).description
        fit = model.config.fit
        assert fit.epochs * fit.iterations_per_epoch == record["budget"]["iterations"] == 24
        assert model.config.augmentation == ("standard" if arm.standard else "none")
        assert model.extra_share == pytest.approx(_share_of(record["ratio_percent"]) if arm.extra else 0)
        assert (model.trained, model.validated) == (3, 2 if arm.name == "oracle" else 4)


def test_the_result_says_what_was_done_and_found(story, golden):
    folder, record, rows = story
    facts = {"pipeline": "ct_contrast", "phantom": False, "seeds": [0], "subsets": 1, "learning_curves": "curves.csv"}
    assert facts.items() <= record.items()
    assert record["split_hash"] == Split.load(folder / "split.json").hash
    assert (record["sweep"]["arm"], record["ratio_percent"]) == ("real+standard+synthetic", 100)
    assert list(record["sweep"]["val_dice"]) == ["0", "100"]
    assert record["rejected"] == {arm.name: [0, 3] for arm in DEFAULT if arm.translates}
    wanted = {"arm": "real+standard+synthetic", "reference": "real+standard", "test_set": "out", "organ": "vessel"}
    comparison = row_of(pd.DataFrame(record["comparisons"]), **wanted, metric="dice")
    assert {"lower", "upper", "n", "p_value", "p_holm"} <= comparison.keys()
    own = rows.query("test_set == 'out' and organ == 'vessel'").set_index(["arm", "subject"])["dice"].sort_index()
    by_hand = own[wanted["arm"]] - own[wanted["reference"]]
    assert comparison["mean"] == pytest.approx(by_hand.mean(), abs=1e-5)
    curves = pd.read_csv(folder / "curves.csv")
    assert list(curves.columns) == ["arm", "seed", "subset", "epoch", "val_dice"]
    assert curves.groupby("arm")["epoch"].apply(list).to_dict() == {arm.name: [2] for arm in DEFAULT}
    for case in record["worst"]:
        shapes = [nib.load(folder / case[key]).shape for key in ("image", "truth", "label_map")]
        assert len(set(shapes)) == 1
    for words in ("Dice of vessel", "Difference in Dice of bone", "ratio: 100 %", "tasks: finished before"):
        assert words in golden.resumed("arms").output
    assert "Does it help out of distribution" in (folder / "benefit.html").read_text(encoding="utf-8")


def test_a_plan_has_every_arm_the_cohorts_own_split_and_a_set_and_a_file_for_each_test_image(settled):
    study = settled(Arms, "translator.cyclegan.cycle=7", "segmenter.rate=0.5")
    assert (len(study.arms), study.left_out, study.subsets) == (8, {}, [("s0", "s1", "s2")])
    assert Split.load(study.order.folder / "split.json").test == ("s5", "s6")
    assert dict(study.segmenter.labels) == {"bone": (1,), "vessel": (2,)}
    assert study.description["labelled"] == [3]
    assert (study.translator.config.cyclegan.cycle, study.segmenter.rate) == (7, 0.5)
    assert Arms(study.order, study.console).subjects == study.subjects
    images = list(study._test_images())
    sets = [(image.scan.subject, image.scan.domain, image.keys["test_set"]) for image in images]
    assert sets == [(who, *where) for where in (("contrast", "in"), ("plain", "out")) for who in ("s5", "s6")]
    assert len({image.file for image in images}) == 4


def test_without_target_labels_the_oracle_is_left_out_and_cases_that_augment_made_are_refused(settled, own):
    table = own("contrast")
    bare = {f"s{number}_plain.nii.gz" for number in range(5)}
    rewrite(table, lambda row: row | ({"mask": ""} if row["image"] in bare else {}))
    study = settled(Arms, data=table)
    assert study.left_out == {"oracle": "no labelled plain image to train or validate on"}
    assert "oracle" not in [arm.name for arm in study.arms]
    table.with_name("s0_contrast.json").write_text('{"Augmentation": {}}')
    with pytest.raises(DataError, match=r"1 of 14 images are synthetic cases of `medgan augment`"):
        settled(Arms, data=table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lesions=[cyst]"], "lesions names cyst, and the labels are bone, vessel"),
        (["keep_labels_above=0.7"], "go together"),
        (["source_segmenter=somewhere"], "go together"),
        (["strengths=[0.2, 1.3]"], "'strengths': give two of 0 to 1.2, the lower first"),
        (["strengths=[1, 0.5]"], "'strengths': give two of 0 to 1.2, the lower first"),
        (
            ["arms=[real+standard+strengths]", "translator.generator.change=signed"],
            "shares of a one-sided change, and the translator's generator.change is signed; leave the arm out",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settled, settings, message):
    with pytest.raises(ConfigError, match=message):
        settled(Arms, *settings)


def test_a_phantoms_translator_is_shown_one_scan_of_each(settled, monkeypatch, own):
    table = own("contrast")
    shutil.copy(table, table.with_name("cohort.csv"))
    one_scan = {f"s{number}_{'plain' if number % 2 else 'contrast'}.nii.gz" for number in range(7)}
    rewrite(table, lambda row: row if row["image"] in one_scan else None).rename(table.with_name("cohort_unpaired.csv"))
    sizes = []
    monkeypatch.setattr("medgan.pipeline.Pipeline.rendered", lambda self, *size: sizes.append(size) or table.parent)
    study = settled(Arms, "phantom_subjects=7", "segmenter.labels={bone: 1}", data=None)
    assert sizes[0][0] == 7
    assert study.phantom
    assert (len(study.subjects.labelled.studies), len(study.subjects.translated.studies)) == (14, 7)


def test_a_given_translator_that_saw_others_serves_and_is_not_trained_on_each_subset(settled, tmp_path, monkeypatch):
    split = Split(train=("s0",), validation=(), test=("s5",), files={})
    split.save(tmp_path / "run" / "split.json")
    description = SimpleNamespace(origin=SimpleNamespace(split_hash=split.hash), weights_sha256="")
    monkeypatch.setattr(module, "read_description", lambda *given: description)
    assert settled(Arms, models=(tmp_path / "run" / "model",)).model
    with pytest.raises(ConfigError, match="leave --model out"):
        settled(Arms, "retrain_translator=true", models=(tmp_path / "run" / "model",))


@pytest.fixture
def images(settled):
    """A study, and labelled images of each kind: real ones stand for those that are made."""

    def make(*overrides, seeds=(0,)):
        study = settled(Arms, *overrides, seeds=seeds)
        source, target = (study.subjects.with_labels("train", name) for name in study.pair.names)
        kinds = dict.fromkeys(("target", *{arm.extra for arm in ARMS if arm.extra}, "synthetic"), target) | {
            "source": source
        }
        return study, kinds | {"validation": source[:1], "target_validation": target[:1]}

    return make


def test_every_segmenter_has_a_folder_of_its_own_and_arms_differ_in_augmentation_alone(images):
    study, own = images()
    keys = list(product(ARMS, (0, 1), (0, 1), (50, 100)))
    tasks = {key: study._task(*key, own) for key in keys}
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


def test_leak_a_test_image_is_refused_wherever_it_would_be_learnt_from(images):
    study, own = images()
    (tested,) = (scan for scan in study.subjects.with_labels("test", "plain") if scan.subject == "s5")
    for place, name in product(("source", "synthetic", "validation"), ("s5", "stranger")):
        task = study._task(BY_NAME["real+synthetic"], 0, 0, 100, own | {place: (replace(tested, subject=name),)})
        with pytest.raises(LeakageError, match=r"real\+synthetic.* would see who is tested"):
            study.guard.admit(task.scans, task.name)


def chosen(study, own, scores):
    """What becomes of a study whose swept segmenters have these validation Dice."""
    choosing = study._choose_ratio(own)
    tasks = list(next(choosing))
    assert {task.product for task in tasks} == {"validation.json"}
    ratios = (0, 50, 100)
    for task, ratio in zip(tasks, ratios, strict=True):
        write_json(study.order.folder / task.name / "validation.json", {"val_dice": scores.get(ratio)})
    with suppress(StopIteration):
        choosing.send(
            [TaskFailure(task.name, "no") for task, ratio in zip(tasks, ratios, strict=True) if ratio not in scores]
        )
    return study, [task.name for task in tasks]


def test_validation_chooses_the_ratio_with_the_first_seed_and_none_that_failed(images):
    study, own = images("ratios_percent=[0, 100, 50]", seeds=(4, 5))
    found, names = chosen(study, own, {0: 0.9, 50: 0.7, 100: 0.8})
    assert (found.ratio_percent, found.swept) == (100, "real+standard+synthetic")
    assert found.val_dice == {0: 0.9, 50: 0.7, 100: 0.8}
    assert names == [
        "real+standard,seed=4,subset=0",
        "real+standard+synthetic,ratio=50,seed=4,subset=0",
        "real+standard+synthetic,ratio=100,seed=4,subset=0",
    ]
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
    assert bool(next(study._choose_ratio(own), None)) == bool(swept)
    assert (study.ratio_percent, study.swept) == (50, swept)


@pytest.fixture
def frozen(segmenters, tmp_path):
    """The model folder of a segmenter whose run says whom it was trained on: ``frozen("s0")``."""

    def make(*trained):
        run = tmp_path / "".join(trained)
        shutil.copytree(segmenters(), run / "model")
        split = Split(train=trained, validation=(), test=(), files={})
        split.save(run / "split.json")
        path = run / "model" / "model.json"
        description = json.loads(path.read_text())
        description["origin"]["split_hash"] = split.hash
        path.write_text(json.dumps(description))
        return run / "model"

    return make


def test_a_frozen_segmenter_judges_translations_and_has_seen_no_test_subject(settled, frozen, segmenters):
    def kept(model):
        return settled(Arms, "keep_labels_above=0.7", f"source_segmenter={model}")

    study = kept(frozen("s0"))
    image = study.subjects.with_labels("train", "contrast")[0]
    assert study.label_rule.keeper("cpu")(image, image) == 1.0
    assert settled(Arms).label_rule.keeper("cpu") is None
    with pytest.raises(LeakageError, match=r"the segmenter of .* cannot serve this study"):
        kept(frozen("s0", "s5"))
    with pytest.raises(ModelError, match=r"no split\.json beside it"):
        kept(segmenters())


def test_a_translator_is_trained_with_its_settings_on_the_studys_split(settled):
    study = settled(Arms, "translator.cyclegan.cycle=7", "subsets=2", "labelled=2")
    task = study._translator_task((0, 1))
    (translator,) = task.args
    assert (task.name, task.inputs["cyclegan"]["cycle"]) == ("translator", 7)
    assert "cyclegan.cycle=7" in translator.settings
    assert Split.load(translator.split).train == ("s0", "s1", "s2")
    study.config = study.config.model_copy(update={"retrain_translator": True})
    for subset in (0, 1):
        task = study._translator_task((subset,))
        assert task.name == f"translator,subset={subset}"
        assert Split.load(task.args[0].split).train == study.subsets[subset]


def made_up(*values):
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
    summary = study.summary(made_up(*figures[:-1], (both[1], "s6", "out", 0.1)))
    text = printed(summary.shown)
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["real+standard", "0.500", "[0.500,", "0.500]", "0.500", "[0.500,", "0.500]"] in lines
    assert any(line[:5] == [both[1], both[0], "+0.200", "[+0.200,", "+0.200]"] for line in lines)
    assert "contrast in distribution, plain out of it" in text
    worst = summary.record["worst"][0]
    name = "real+standard+synthetic,ratio=100,seed=0,subset=0"
    assert (worst["subject"], worst["test_set"], worst["dice"], worst["value"]) == ("s6", "out", 0.1, 2)
    assert (worst["truth"], worst["label_map"]) == (f"{name}/truth/plain_0001.nii.gz", f"{name}/test/plain_0001.nii.gz")
    assert not any(worst[key].startswith("/") for key in ("image", "truth", "label_map"))


def test_an_arm_differs_from_its_reference_in_one_thing_and_its_name_says_what_is_in_it():
    assert [arm.name for arm in ARMS] == list(get_args(ArmName))
    assert [arm.name for arm in ARMS if arm.reference is None] == ["real"]
    for arm in ARMS[1:]:
        other = BY_NAME[arm.reference]
        assert sum(getattr(arm, key) != getattr(other, key) for key in ("images", "extra", "standard")) == 1, arm.name
        words = set(arm.name.split("+"))
        assert ("standard" in words) == arm.standard or arm.name == "oracle"
        kinds = {"synthetic", "strengths", "matched", "shuffled"}
        assert words & kinds == (set(arm.extra.split("+")) if arm.extra else set())
    translated = {"real+synthetic", "real+standard+synthetic", "synthetic-only", "real+shuffled", *ON_REQUEST}
    assert {arm.name for arm in ARMS if arm.translates} == translated
    assert {name for pair in FURTHER for name in pair} | set(SWEPT) <= BY_NAME.keys()
    assert all(BY_NAME[name].extra == "synthetic" for name in SWEPT)


def settings(on_phantom, quick, *overrides, pipeline="ct_contrast"):
    data = None if on_phantom else "cohort.csv"
    return layered(BenefitConfig, StudyOrder("arms", pipeline, data=data, quick=quick, overrides=overrides))


def test_shipped_forms_lie_over_each_other_the_user_over_all_and_a_quick_study_is_shorter():
    full, phantom, quick = (settings(*form) for form in ((False, False), (True, False), (True, True)))
    assert set(quick.arms) < set(full.arms) < set(phantom.arms)
    assert "labels" not in full.segmenter
    assert phantom.segmenter["labels"]["kidney"] == quick.segmenter["labels"]["kidney"] == [7, 8]
    assert settings(True, True, "segmenter.fit.epochs=2").segmenter["fit"]["epochs"] == 2
    fits = [load(SegmenterConfig, each.segmenter).fit for each in (phantom, quick)]
    assert fits[1].epochs * fits[1].iterations_per_epoch < fits[0].epochs * fits[0].iterations_per_epoch
    assert load(SegmenterConfig, phantom.segmenter).patch.size_voxels == 64
    assert len(quick.ratios_percent) == 1
    assert quick.phantom_subjects < phantom.phantom_subjects


def test_without_a_shipped_form_a_study_of_the_phantom_must_be_told_what_is_segmented():
    assert settings(False, False, pipeline="mr_contrast") == BenefitConfig()
    for pipeline in ("mr_contrast", "mr_to_ct"):
        match = rf"'{pipeline}' on the built-in phantom.* --data, or .*segmenter.labels="
        with pytest.raises(ConfigError, match=match):
            settings(True, False, pipeline=pipeline)
    own = settings(True, False, "segmenter.labels={lesion: [26]}", pipeline="mr_contrast")
    assert own.segmenter == {"labels": {"lesion": [26]}}


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


def test_comparisons_are_between_arms_that_are_trained_and_ratios_that_can_be_chosen_are_above_0():
    config = BenefitConfig(arms=("real+standard", "real+standard+synthetic", "oracle"))
    assert config.comparisons == (
        ("real+standard+synthetic", "real+standard"),
        ("oracle", "real+standard"),
        ("real+standard+synthetic", "oracle"),
    )
    assert BenefitConfig(ratios_percent=(200, 0, 25)).ratios == (25, 200)
