"""How a child is ordered, when it is finished, and how figures are read; whole children are in test_study."""

import json
import shutil
from dataclasses import replace

import pytest

from medgan.data.splits import Split
from medgan.errors import DataError, LeakageError
from medgan.study.children import child_order, is_finished, judged, read_rows
from medgan.study.grid import Cell
from medgan.study.plan import make_plan

CELLS = [Cell("l1=10", ("pix2pix.l1=10",)), Cell("regression", ("pix2pix.adversarial=none",))]


@pytest.fixture
def order(asked, tmp_path):
    return asked(tmp_path, seeds=(4, 5))


@pytest.fixture
def plan(order):
    return make_plan(order, CELLS)


def finished(child, *lines):
    folder = child.run.path / "evaluation"
    folder.mkdir(parents=True)
    (folder / "evaluation.csv").write_text("\n".join(["subject,image,arm,mae_hu", *lines]) + "\n")


def test_a_new_child_trains_with_its_own_settings_last_on_the_studys_split(order, plan):
    asked = child_order(order, plan, plan.children[3], "parent", "sqlite:///runs.db")
    assert asked.overrides == [*order.overrides, "pix2pix.adversarial=none", "seed=5"]
    assert (asked.resume, asked.split, asked.parent, asked.data) == (False, plan.split, "parent", plan.table)
    assert asked.out / asked.pipeline / asked.name == plan.children[3].run.path


def test_a_child_that_was_begun_goes_on_as_it_was_configured(order, plan):
    child = plan.children[0]
    child.run.start(child.config, Split.load(plan.split), {"split_hash": plan.split_hash})
    asked = child_order(replace(order, config=plan.table), plan, child, "parent", "sqlite:///runs.db")
    assert (asked.resume, asked.overrides, asked.config) == (True, (), None)


def test_a_child_is_finished_when_its_figures_are_there(plan):
    child = plan.children[0]
    (child.run.path / ".evaluation.part").mkdir(parents=True)
    (child.run.path / ".evaluation.part" / "evaluation.csv").write_text("subject,image,arm\n")
    assert not is_finished(child)
    finished(child)
    assert is_finished(child)


def test_figures_of_finished_children_are_read_whatever_subjects_are_called(plan):
    finished(plan.children[0], "NA,a,synthetic,1.5", "007,b,synthetic,")
    finished(plan.children[3], "007,b,synthetic,inf")
    rows = read_rows(plan.children)
    assert rows[["cell", "seed", "subject"]].to_numpy().tolist() == [
        ["l1=10", 4, "NA"],
        ["l1=10", 4, "007"],
        ["regression", 5, "007"],
    ]
    assert rows["mae_hu"].tolist()[::2] == [1.5, float("inf")]
    assert rows["mae_hu"].isna().tolist() == [False, True, False]


def test_without_finished_children_there_are_no_rows(plan):
    rows = read_rows(plan.children)
    assert rows.empty
    assert list(rows.columns) == ["cell", "seed", "subject", "image", "arm"]


def test_leak_a_child_whose_outputs_say_that_it_was_trained_on_whom_it_translated(plan, cohort):
    child = plan.children[0]
    converted = child.run.path / "test"
    converted.mkdir(parents=True)
    shutil.copy(cohort.parent / "s4_plain.nii.gz", converted / "s4_contrast.nii.gz")
    (converted / "s4_contrast.json").write_text(json.dumps({"Training": {"ThisImage": "train", "SplitSHA256": ""}}))
    with pytest.raises(LeakageError, match=r"l1=10,seed=4 has seen who is tested: s4"):
        judged(plan, child)
    assert not is_finished(child)


def test_converted_images_that_cannot_be_judged_are_an_error(plan):
    child = plan.children[0]
    converted = child.run.path / "test"
    converted.mkdir(parents=True)
    (converted / "s4_contrast.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="s4_contrast"):
        judged(plan, child)
    assert not is_finished(child)
