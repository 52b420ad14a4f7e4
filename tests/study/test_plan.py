"""What a study settles before anything runs: settings, one cohort, one split; and what it refuses."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medgan.data.splits import Split
from medgan.data.tables import read_table
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.phantom.kinds import KINDS
from medgan.study.grid import Cell
from medgan.study.plan import make_plan

CELLS = [Cell("pix2pix.l1=10", ("pix2pix.l1=10",)), Cell("pix2pix.l1=100", ("pix2pix.l1=100",))]


def begun(plan, number=0):
    """Leave a child as a training does that was killed at once."""
    child = plan.children[number]
    child.run.start(child.config, Split.load(plan.split), {"split_hash": plan.split_hash})
    return child


def test_children_are_cells_times_seeds_and_all_cells_come_before_the_next_seed(asked, tmp_path):
    plan = make_plan(asked(tmp_path, seeds=(3, 5)), CELLS)
    told = [(child.cell.name, child.seed, child.config.pix2pix.l1) for child in plan.children]
    assert told == [
        ("pix2pix.l1=10", 3, 10), ("pix2pix.l1=100", 3, 100), ("pix2pix.l1=10", 5, 10), ("pix2pix.l1=100", 5, 100)
    ]  # fmt: skip
    assert [child.config.seed for child in plan.children] == [3, 3, 5, 5]
    assert plan.children[0].run.path == tmp_path / "ct_contrast" / "study" / "pix2pix.l1=10,seed=3"
    assert plan.cells == ("pix2pix.l1=10", "pix2pix.l1=100")


def test_the_split_is_frozen_once_whatever_the_seeds(asked, tmp_path, cohort):
    first = make_plan(asked(tmp_path, seeds=(0,)), CELLS)
    written = first.split.stat().st_mtime_ns
    again = make_plan(asked(tmp_path, seeds=(7, 8)), CELLS)
    assert (first.split_hash, first.split) == (again.split_hash, again.split)
    assert first.split.stat().st_mtime_ns == written
    assert Split.load(first.split).test == ("s4", "s5")
    assert (first.table, first.phantom) == (cohort, False)


def test_a_study_that_an_earlier_medgan_began_goes_on_with_its_split(asked, tmp_path):
    first = make_plan(asked(tmp_path), CELLS)
    old = Split.load(first.split).model_copy(update={"images": {}})
    old.save(first.split)
    assert make_plan(asked(tmp_path), CELLS).split_hash == old.hash != first.split_hash


def test_an_unpaired_cell_shares_the_split_of_the_paired_ones(asked, tmp_path):
    unpaired = Cell("cyclegan", ("translator=cyclegan",))
    plan = make_plan(asked(tmp_path), [unpaired, *CELLS])
    assert plan.split_hash == make_plan(asked(tmp_path / "other"), CELLS).split_hash


def test_a_folder_with_its_table_is_a_cohort(asked, tmp_path, cohort):
    assert (
        make_plan(asked(tmp_path, data=cohort.parent), CELLS).split_hash == make_plan(asked(tmp_path), CELLS).split_hash
    )


def test_equal_settings_are_trained_once(asked, tmp_path):
    plan = make_plan(asked(tmp_path), [*CELLS, Cell("again", ("pix2pix.l1=10.0",))])
    assert plan.cells == ("pix2pix.l1=10", "pix2pix.l1=100")
    assert plan.left_out == {"again": "it has the settings of pix2pix.l1=10."}


IMPOSSIBLE = ("discriminator.receptive_field=286",)


def test_a_cell_that_cannot_be_is_an_error_or_left_out_with_its_reason(asked, tmp_path):
    with pytest.raises(ConfigError, match=r"^large: patches of 16 x 16 voxels do not fit discriminator"):
        make_plan(asked(tmp_path), [*CELLS, Cell("large", IMPOSSIBLE)])
    assert list(tmp_path.iterdir()) == []
    plan = make_plan(asked(tmp_path), [*CELLS, Cell("large", IMPOSSIBLE, optional=True)])
    assert "patches of 16 x 16 voxels do not fit discriminator" in plan.left_out["large"]
    assert "large" not in plan.cells


@pytest.mark.parametrize(
    ("changes", "cells", "message"),
    [
        ({}, [Cell("a"), Cell("b", ("split.seed=1",))], "the cells divide the subjects differently"),
        ({"overrides": ["seed=3"]}, CELLS, "give seeds as --seeds"),
        ({}, [Cell("a", ("pix2pix.l2=1",))], r"a: unknown setting 'pix2pix\.l2'"),
        ({"pipeline": "ct_contrats"}, CELLS, "did you mean 'ct_contrast'"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:20],
)
def test_orders_that_cannot_be_are_refused_and_leave_nothing(asked, tmp_path, changes, cells, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(asked(tmp_path, **changes), cells)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_domains_are_a_cohort(asked, tmp_path, cohort):
    for study in read_table(cohort).studies:
        place = tmp_path / study.domain / study.subject
        place.mkdir(parents=True)
        (place / study.image.name).symlink_to(study.image)
    assert len(Split.load(make_plan(asked(tmp_path / "runs", data=tmp_path), CELLS).split).files) > 2


def test_a_child_with_other_settings_is_refused_by_what_changed(asked, tmp_path):
    begun(make_plan(asked(tmp_path), CELLS))
    make_plan(asked(tmp_path), CELLS)
    with pytest.raises(ConfigError, match=r"l1=10,seed=0 was trained with other .* fit\.epochs was 2 and is now 3\. "):
        make_plan(asked(tmp_path, overrides=["fit.epochs=3"]), CELLS)


def test_a_cohort_that_is_divided_differently_is_refused(asked, tmp_path, save_cohort):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=6)
    make_plan(asked(tmp_path / "runs", data=table, overrides=["split.validation=0.15"]), CELLS)
    with pytest.raises(ConfigError, match=r"split\.json holds another split of the subjects .they would be divided"):
        make_plan(asked(tmp_path / "runs", data=table, overrides=["split.validation=0.5"]), CELLS)


def test_leak_a_cohort_whose_trained_subjects_would_be_tested_now(asked, tmp_path, save_cohort):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=5)
    make_plan(asked(tmp_path / "runs", data=table), CELLS)
    with pytest.raises(LeakageError, match=r"split\.json holds another split .* 's1' is in its train part"):
        make_plan(asked(tmp_path / "runs", data=table, overrides=["split.seed=1"]), CELLS)


def test_a_cohort_that_changed_is_refused(asked, tmp_path, cohort):
    shutil.copytree(cohort.parent, tmp_path / "cohort")
    table = tmp_path / "cohort" / "cohort.csv"
    make_plan(asked(tmp_path / "runs", data=table), CELLS)
    image = tmp_path / "cohort" / "s4_plain.nii.gz"
    nib.Nifti1Image(np.zeros((32, 32, 3), np.int16), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(image)
    with pytest.raises(ConfigError, match=r"another split of the subjects .their files changed"):
        make_plan(asked(tmp_path / "runs", data=table), CELLS)


def test_a_damaged_split_is_refused(asked, tmp_path):
    plan = make_plan(asked(tmp_path), CELLS)
    plan.split.write_text(plan.split.read_text().replace('"s4"', '"s9"'))
    with pytest.raises(DataError, match="was altered after it was saved"):
        make_plan(asked(tmp_path), CELLS)


def test_leak_a_child_of_another_split(asked, tmp_path):
    plan = make_plan(asked(tmp_path), CELLS)
    child = begun(plan)
    split = Split.load(plan.split)
    split.model_copy(update={"train": split.test, "test": split.train}).save(child.run.split)
    with pytest.raises(LeakageError, match=r"seed=0/split\.json holds another split"):
        make_plan(asked(tmp_path), CELLS)


@pytest.mark.parametrize(("translator", "name"), [("pix2pix", "cohort.csv"), ("cyclegan", "cohort_unpaired.csv")])
def test_without_data_all_children_share_one_phantom_with_its_own_settings(
    asked, tmp_path, monkeypatch, translator, name
):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 6)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    plan = make_plan(asked(tmp_path / "runs", data=None, overrides=[f"translator={translator}"]), CELLS[:1])
    assert plan.phantom
    assert plan.table.name == name
    assert plan.table.is_relative_to(tmp_path / "cache")
