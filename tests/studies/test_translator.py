"""What is settled before a translator is trained: settings, one cohort, one split; and how it is judged."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.data.splits import Split
from medgan.data.tables import read_table
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.phantom.kinds import KINDS
from medgan.studies import translator as translators
from medgan.studies.base import Context
from medgan.studies.translator import Cell, Translators, adversarial_game, check_translators, train_and_judge
from medgan.training.run_folder import RunFolder

CELLS = [Cell("pix2pix.l1=10", ("pix2pix.l1=10",)), Cell("pix2pix.l1=100", ("pix2pix.l1=100",))]


def settled(order, cells=CELLS):
    return Translators.of(order, cells, order.overrides, order.folder, order.data)


def tasks(order, cells=CELLS, seeds=(0,)):
    return settled(order, cells).tasks(order, seeds, order.overrides, phantom=False)


def test_tasks_are_cells_times_seeds_and_all_cells_come_before_the_next_seed(ordered, tmp_path):
    own = tasks(ordered(tmp_path), seeds=(3, 5))
    assert [(task.name, task.inputs["pix2pix.l1"], task.inputs["seed"]) for task in own] == [
        ("pix2pix.l1=10,seed=3", 10, 3), ("pix2pix.l1=100,seed=3", 100, 3),
        ("pix2pix.l1=10,seed=5", 10, 5), ("pix2pix.l1=100,seed=5", 100, 5),
    ]  # fmt: skip
    assert len({task.inputs["split_hash"] for task in own}) == 1


def test_the_split_is_frozen_once_and_shared_by_unpaired_cells_and_a_folder_with_its_table(ordered, tmp_path, cohort):
    first = settled(ordered(tmp_path))
    written = first.split.stat().st_mtime_ns
    again = settled(ordered(tmp_path), [Cell("cyclegan", ("translator=cyclegan",)), *CELLS])
    assert (first.split_hash, first.split) == (again.split_hash, again.split)
    assert first.split.stat().st_mtime_ns == written
    assert Split.load(first.split).test == ("s4", "s5")
    assert first.data == cohort
    assert settled(ordered(tmp_path / "other", data=cohort.parent)).split_hash == first.split_hash


def test_a_split_without_hashes_of_images_is_kept(ordered, tmp_path):
    first = settled(ordered(tmp_path))
    old = Split.load(first.split).model_copy(update={"images": {}})
    old.save(first.split)
    assert settled(ordered(tmp_path)).split_hash == old.hash != first.split_hash


def test_equal_settings_are_trained_once(ordered, tmp_path):
    own = settled(ordered(tmp_path), [*CELLS, Cell("again", ("pix2pix.l1=10.0",))])
    assert tuple(own.cells) == ("pix2pix.l1=10", "pix2pix.l1=100")
    assert own.left_out == {"again": "it has the settings of pix2pix.l1=10."}


IMPOSSIBLE = ("discriminator.receptive_field=286",)


def test_a_cell_that_cannot_be_is_an_error_or_left_out_with_its_reason(ordered, tmp_path):
    with pytest.raises(ConfigError, match=r"^large: patches of 16 x 16 voxels do not fit discriminator"):
        settled(ordered(tmp_path), [*CELLS, Cell("large", IMPOSSIBLE)])
    assert list(tmp_path.iterdir()) == []
    own = settled(ordered(tmp_path), [*CELLS, Cell("large", IMPOSSIBLE, optional=True)])
    assert "patches of 16 x 16 voxels do not fit discriminator" in own.left_out["large"]
    assert "large" not in own.cells


@pytest.mark.parametrize(
    ("overrides", "changes", "cells", "message"),
    [
        ((), {}, [Cell("a"), Cell("b", ("split.seed=1",))], "the cells divide the subjects differently"),
        (("seed=3",), {}, CELLS, "give seeds as --seeds"),
        ((), {}, [Cell("a", ("pix2pix.l2=1",))], r"a: unknown setting 'pix2pix\.l2'"),
        ((), {"pipeline": "ct_contrats"}, CELLS, "did you mean 'ct_contrast'"),
    ],
    ids=["split", "seed", "unknown", "pipeline"],
)
def test_orders_that_cannot_be_are_refused_and_leave_nothing(ordered, tmp_path, overrides, changes, cells, message):
    with pytest.raises(ConfigError, match=message):
        settled(ordered(tmp_path, *overrides, **changes), cells)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_domains_are_a_cohort(ordered, tmp_path, cohort):
    for study in read_table(cohort).studies:
        place = tmp_path / study.domain / study.subject
        place.mkdir(parents=True)
        (place / study.image.name).symlink_to(study.image)
    assert len(Split.load(settled(ordered(tmp_path / "runs", data=tmp_path)).split).files) > 2


def test_another_division_of_the_cohort_is_refused(ordered, tmp_path, save_cohort):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=6)
    settled(ordered(tmp_path / "runs", "split.validation=0.15", data=table))
    with pytest.raises(ConfigError, match=r"split\.json holds another split of the subjects .they would be divided"):
        settled(ordered(tmp_path / "runs", "split.validation=0.5", data=table))


def test_leak_a_cohort_whose_trained_subjects_would_be_tested_now(ordered, tmp_path, save_cohort):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=5)
    settled(ordered(tmp_path / "runs", data=table))
    with pytest.raises(LeakageError, match=r"split\.json holds another split .* 's1' is in its train part"):
        settled(ordered(tmp_path / "runs", "split.seed=1", data=table))


def test_a_cohort_that_changed_is_refused(ordered, tmp_path, cohort):
    shutil.copytree(cohort.parent, tmp_path / "cohort")
    order = ordered(tmp_path / "runs", data=tmp_path / "cohort" / "cohort.csv")
    settled(order)
    image = tmp_path / "cohort" / "s4_plain.nii.gz"
    nib.Nifti1Image(np.zeros((32, 32, 3), np.int16), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(image)
    with pytest.raises(ConfigError, match=r"another split of the subjects .their files changed"):
        settled(order)


def test_a_damaged_split_is_refused(ordered, tmp_path):
    own = settled(ordered(tmp_path))
    own.split.write_text(own.split.read_text().replace('"s4"', '"s9"'))
    with pytest.raises(DataError, match="was altered after it was saved"):
        settled(ordered(tmp_path))


@pytest.mark.parametrize(("translator", "name"), [("pix2pix", "cohort.csv"), ("cyclegan", "cohort_unpaired.csv")])
def test_without_data_all_share_one_phantom_with_its_own_settings(ordered, tmp_path, monkeypatch, translator, name):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 6)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    own = settled(ordered(tmp_path / "runs", f"translator={translator}", data=None), CELLS[:1])
    assert own.data.name == name
    assert own.data.is_relative_to(tmp_path / "cache")


@pytest.fixture
def begun(ordered, tmp_path):
    """A task, and a training in its folder that was killed at once."""
    order = ordered(tmp_path)
    own = settled(order)
    (task, _) = own.tasks(order, (4,), order.overrides, phantom=False)
    folder = order.folder / task.name
    config = own.pipelines["pix2pix.l1=10"].config.model_copy(update={"seed": 4})
    RunFolder(folder).start(config, Split.load(own.split), {"split_hash": own.split_hash})
    return task, Context(folder, "cpu", Console(quiet=True), True, "sqlite:///runs.db", "parent", None)


@pytest.mark.parametrize("resume", [False, True], ids=["new", "begun"])
def test_a_training_has_its_own_settings_last_or_those_that_it_was_begun_with(begun, resume, monkeypatch):
    task, context = begun
    if not resume:
        shutil.rmtree(context.folder)
    orders = []
    monkeypatch.setattr(translators, "train", lambda order, console: orders.append(order))
    task.args[0].run(context.folder, context)
    (order,) = orders
    assert (order.resume, order.parent, order.tracking) == (resume, "parent", "sqlite:///runs.db")
    assert order.out / order.pipeline / order.name == context.folder
    assert order.overrides[-2:] == (() if resume else ("pix2pix.l1=10", "seed=4"))


def test_leak_a_training_of_another_split(begun):
    task, context = begun
    path = context.folder / "split.json"
    split = Split.load(path)
    split.model_copy(update={"train": split.test, "test": split.train}).save(path)
    with pytest.raises(LeakageError, match="was begun under another split"):
        train_and_judge(context, *task.args)


@pytest.fixture
def converted(begun, monkeypatch):
    """A training that left translations, as :func:`converted` is told."""
    task, context = begun
    monkeypatch.setattr(translators, "train", lambda order, console: None)
    monkeypatch.setattr(translators, "convert_test", lambda *given: None)
    (context.folder / "test").mkdir(parents=True)
    return task, context


def test_leak_outputs_that_say_that_the_model_was_trained_on_whom_it_translated(converted, cohort):
    task, context = converted
    shutil.copy(cohort.parent / "s4_plain.nii.gz", context.folder / "test" / "s4_contrast.nii.gz")
    said = {"Training": {"ThisImage": "train", "SplitSHA256": ""}}
    (context.folder / "test" / "s4_contrast.json").write_text(json.dumps(said))
    with pytest.raises(LeakageError, match=r"l1=10,seed=4 has seen who is tested: s4"):
        train_and_judge(context, *task.args)


def test_converted_images_that_cannot_be_judged_are_an_error(converted):
    task, context = converted
    (context.folder / "test" / "s4_contrast.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="s4_contrast"):
        train_and_judge(context, *task.args)


def test_folders_say_what_is_in_them_and_names_that_no_folder_can_have_stay_apart():
    assert Cell("pix2pix.l1=10,fit.epochs=1").folder(3) == "pix2pix.l1=10,fit.epochs=1,seed=3"
    names = ["a/b", "a\\b", "a:b", 'a"b', "a b", "x" * 300, "x" * 301, "../a"]
    folders = [Cell(name).folder(0) for name in names]
    assert len(set(folders)) == len(names)
    assert not [folder for folder in folders if set(folder) & set('/\\:*?"<>| ') or len(folder) > 130]


@pytest.mark.parametrize(
    ("pipeline", "wanted", "message"),
    [
        ("ct_contrast", ["cut"], "'ct_contrast' has no cut, .*it has cyclegan, pix2pix.*medgan sweep"),
        ("ct_contrast", ["cut", "pix2pix", "diffusion"], "has no cut and no diffusion"),
        ("ct_contrats", ["pix2pix"], "did you mean 'ct_contrast'"),
    ],
)
def test_a_pipeline_that_lacks_what_a_study_compares_is_refused_by_name(pipeline, wanted, message):
    check_translators("ct_contrast", ["pix2pix", "cyclegan"])
    with pytest.raises(ConfigError, match=message):
        check_translators(pipeline, wanted)


@pytest.mark.parametrize(("configured", "played"), [("none", "vanilla"), ("least_squares", "least_squares")])
def test_an_adversarial_arm_plays_some_game(configured, played):
    assert adversarial_game({"pix2pix": {"adversarial": configured}}) == played
