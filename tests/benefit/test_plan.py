"""What a study will do, and every way in which a test subject could have reached it before anything runs."""

import csv
import shutil
from types import SimpleNamespace

import pytest

from medgan.benefit.plan import BenefitOrder, make_plan, translator_split
from medgan.data.layouts import stem
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, LeakageError, ModelError
from medgan.studies.base import seeds_of as read_seeds


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
        found = SimpleNamespace(split_hash=whole.hash)
        monkeypatch.setattr("medgan.benefit.plan.read_description", lambda model: found)
        return tmp_path / "run" / "model"

    return make


def test_a_plan_has_every_arm_and_the_cohorts_own_split(asked, tmp_path):
    order = asked(tmp_path)
    plan = make_plan(order)
    assert len(plan.arms) == 8
    assert not plan.left_out
    assert plan.subsets == (("s0", "s1", "s2"),)
    assert Split.load(plan.split).test == ("s5", "s6")
    assert dict(plan.segmenter.labels) == {"bone": (1,), "vessel": (2,)}
    assert plan.labelled_source(0) == 3
    assert make_plan(order).subjects == plan.subjects


def test_an_order_says_how_to_repeat_it_and_not_where_its_data_lie(tmp_path):
    order = BenefitOrder("ct_contrast", data=tmp_path / "a.csv", overrides=["arms=[real, oracle]"], seeds=(3, 4))
    assert order.command == (
        "medgan benefit --pipeline ct_contrast --name benefit --seeds 3,4, --data COHORT 'arms=[real, oracle]'"
    )
    assert BenefitOrder("ct_contrast", quick=True, seeds=(0,)).command.endswith("--seeds 0, --quick")
    assert read_seeds("3,4,") == (3, 4)
    assert read_seeds("0,") == (0,)


def test_settings_reach_translator_and_segmenter(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["translator.cyclegan.cycle=7", "segmenter.rate=0.5"]))
    assert plan.translator.config.cyclegan.cycle == 7
    assert plan.segmenter.rate == 0.5


def test_both_sides_of_one_unit_are_seen_through_one_window(asked, tmp_path):
    plan = make_plan(asked(tmp_path))
    assert plan.domain("contrast") == plan.domain("plain") == plan.segmenter.domain


def test_a_label_to_count_must_be_one(asked, tmp_path):
    with pytest.raises(ConfigError, match="lesions names cyst, and the labels are bone, vessel"):
        make_plan(asked(tmp_path, overrides=["lesions=[cyst]"]))


def test_without_target_labels_the_oracle_is_left_out(asked, tmp_path, own):
    bare = changed(own, lambda row: row | {"mask": ""} if row["domain"] == "plain" and row["split"] != "test" else row)
    plan = make_plan(asked(tmp_path, data=bare))
    assert plan.left_out == {"oracle": "no labelled plain image to train or validate on"}
    assert "oracle" not in [arm.name for arm in plan.arms]


def test_cases_that_augment_made_are_refused_since_every_arm_would_take_them_for_real(asked, tmp_path, own):
    with own.open(newline="") as stream:
        image = own.parent / next(csv.DictReader(stream))["image"]
    image.with_name(f"{stem(image)}.json").write_text('{"Augmentation": {}}')
    with pytest.raises(DataError, match=r"1 of \d+ images are synthetic cases of `medgan augment`"):
        make_plan(asked(tmp_path, data=own))


def test_a_folder_in_no_layout_is_refused(asked, tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="none of the layouts"):
        make_plan(asked(tmp_path, data=tmp_path))


def test_a_phantoms_translator_is_shown_one_scan_of_each(asked, tmp_path, monkeypatch, own):
    changed(own, lambda row: row).rename(own.with_name("cohort.csv"))
    shutil.copy(own, own.with_name("cohort_unpaired.csv"))
    rows = [row for number, row in enumerate(csv.DictReader(own.open())) if number % 4 in (0, 3)]
    with own.with_name("cohort_unpaired.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    asked_for = []
    monkeypatch.setattr("medgan.pipeline.Pipeline.rendered", lambda self, *size: asked_for.append(size) or own.parent)
    plan = make_plan(asked(tmp_path, data=None, overrides=["phantom_subjects=7", "segmenter.labels={bone: 1}"]))
    assert asked_for[0][0] == 7
    assert plan.phantom
    assert len(plan.subjects.labelled.studies) == 14
    assert len(plan.subjects.translated.studies) == 7


def test_leak_a_given_translator_was_validated_on_a_test_subject(asked, tmp_path, trained):
    with pytest.raises(LeakageError, match="'s6' is in its validation part"):
        make_plan(asked(tmp_path, model=trained(train=("s0",), validation=("s6",))))


def test_leak_a_given_translator_saw_a_test_subjects_unpaired_target_under_another_name(asked, tmp_path, trained):
    hashes = make_plan(asked(tmp_path / "first")).subjects.labelled.file_hashes()
    model = trained(train=("x",), files={"x": {"x.nii.gz": hashes["s6"]["s6_plain.nii.gz"]}})
    with pytest.raises(LeakageError, match=r"'s6' has the image s6_plain.nii.gz of its train subject 'x'"):
        make_plan(asked(tmp_path, model=model))


def test_leak_a_test_subjects_target_is_an_unpaired_target_of_the_training(asked, tmp_path, own):
    shutil.copy(own.parent / "s6_plain.nii.gz", own.parent / "other.nii.gz")
    with own.open("a") as stream:
        stream.write("x,plain,other.nii.gz,,train\n")
    with pytest.raises(LeakageError, match=r"'s6' \(test\), 'x' \(train\): other"):
        make_plan(asked(tmp_path, data=own))


def test_another_split_that_leaks_nothing_is_refused_too(asked, tmp_path, own):
    order = asked(tmp_path, data=own)
    make_plan(order)
    changed(own, in_part(s0="validation"))
    with pytest.raises(ConfigError, match="holds another split of the subjects"):
        make_plan(order)


def test_a_given_translator_that_saw_others_serves(asked, tmp_path, trained):
    assert make_plan(asked(tmp_path, model=trained(train=("s0",), test=("s5",)))).order.model


def test_a_given_translator_cannot_be_trained_on_each_subset(asked, tmp_path, trained):
    with pytest.raises(ConfigError, match="leave --model out"):
        make_plan(asked(tmp_path, model=trained(train=("s0",)), overrides=["retrain_translator=true"]))


def test_a_model_whose_split_is_not_there_or_not_its_own_is_refused(trained):
    model = trained(train=("s0",))
    (model.parent / "split.json").unlink()
    with pytest.raises(ModelError, match=r"no split\.json beside it"):
        translator_split(model)
    Split(train=("s1",), validation=(), test=(), files={}).save(model.parent / "split.json")
    with pytest.raises(ModelError, match="is not the split that"):
        translator_split(model)
