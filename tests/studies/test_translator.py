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
from medgan.studies import translator as translators
from medgan.studies.base import Context
from medgan.studies.translator import Cell, Translators, check_translators, convert_test
from medgan.studies.translator import train_and_judge as judge
from medgan.training.run_folder import RunFolder
from tables import rewrite

CELLS = [Cell("pix2pix.l1=10", ("pix2pix.l1=10",)), Cell("pix2pix.l1=100", ("pix2pix.l1=100",))]
IMPOSSIBLE = ("discriminator.receptive_field=286",)


@pytest.fixture
def order(ordered, tmp_path):
    """An order of pix2pix: ``order("seed=3", data=...)``."""
    return lambda *overrides, **changes: ordered(
        "ablation", changes.pop("out", tmp_path / "runs"), "translator=pix2pix", *overrides, **changes
    )


def settled(order, cells=CELLS):
    return Translators(order, cells, order.overrides, order.folder, order.data)


def test_tasks_are_cells_times_seeds_and_all_cells_come_before_the_next_seed(order):
    own = settled(order()).tasks((3, 5))
    assert [(task.name, task.inputs["pix2pix.l1"], task.inputs["seed"]) for task in own] == [
        ("pix2pix.l1=10,seed=3", 10, 3), ("pix2pix.l1=100,seed=3", 100, 3),
        ("pix2pix.l1=10,seed=5", 10, 5), ("pix2pix.l1=100,seed=5", 100, 5),
    ]  # fmt: skip
    assert len({task.inputs["split_hash"] for task in own}) == 1


def test_the_split_is_frozen_once_and_shared_by_unpaired_cells_and_a_folder_with_its_table(order, own, tmp_path):
    table = own("contrast").rename(tmp_path / "contrast" / "cohort.csv")
    first = settled(order(data=table))
    written = first.split.stat().st_mtime_ns
    again = settled(order(data=table), [Cell("cyclegan", ("translator=cyclegan",)), *CELLS])
    assert (first.split_hash, first.split, first.data) == (again.split_hash, again.split, table)
    assert first.split.stat().st_mtime_ns == written
    assert Split.load(first.split).test == ("s5", "s6")
    assert settled(order(out=tmp_path / "other", data=table.parent)).split_hash == first.split_hash
    # One without hashes of images, as of earlier versions, is kept.
    old = Split.load(first.split).model_copy(update={"images": {}})
    old.save(first.split)
    assert settled(order(data=table)).split_hash == old.hash != first.split_hash


def test_equal_settings_are_trained_once_and_a_cell_that_cannot_be_may_be_left_out(order):
    further = [Cell("again", ("pix2pix.l1=10.0",)), Cell("large", IMPOSSIBLE, optional=True)]
    own = settled(order(), [*CELLS, *further])
    assert tuple(own.cells) == ("pix2pix.l1=10", "pix2pix.l1=100")
    assert own.left_out["again"] == "it has the settings of pix2pix.l1=10."
    assert "patches of 16 x 16 voxels do not fit discriminator" in own.left_out["large"]


@pytest.mark.parametrize(
    ("overrides", "changes", "cells", "message"),
    [
        ((), {}, [Cell("a"), Cell("b", ("split.seed=1",))], "the cells divide the subjects differently"),
        (("seed=3",), {}, CELLS, "give seeds as --seeds"),
        ((), {}, [Cell("a", ("pix2pix.l2=1",))], r"a: unknown setting 'pix2pix\.l2'"),
        ((), {"pipeline": "ct_contrats"}, CELLS, "did you mean 'ct_contrast'"),
        ((), {}, [*CELLS, Cell("large", IMPOSSIBLE)], r"^large: patches of 16 x 16 voxels do not fit discriminator"),
    ],
    ids=["split", "seed", "unknown", "pipeline", "impossible"],
)
def test_orders_that_cannot_be_are_refused_and_leave_nothing(order, tmp_path, overrides, changes, cells, message):
    with pytest.raises(ConfigError, match=message):
        settled(order(*overrides, **changes), cells)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_domains_are_a_cohort(order, golden, tmp_path):
    for study in read_table(golden.inputs.contrast).studies:
        place = tmp_path / "cohort" / study.domain / study.subject
        place.mkdir(parents=True)
        (place / study.image.name).symlink_to(study.image)
    assert len(Split.load(settled(order(data=tmp_path / "cohort")).split).files) > 2


@pytest.mark.parametrize(
    ("subjects", "before", "now", "error", "message"),
    [
        (6, "split.validation=0.15", "split.validation=0.5", ConfigError, "they would be divided differently now"),
        (5, "split.seed=0", "split.seed=1", LeakageError, "'s1' is in its train part"),
    ],
)
def test_another_division_of_the_cohort_is_refused(order, tmp_path, save_cohort, subjects, before, now, error, message):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=subjects)
    settled(order(before, data=table))
    with pytest.raises(error, match=rf"split\.json holds another split of the subjects.*{message}"):
        settled(order(now, data=table))


def test_a_cohort_that_changed_and_a_damaged_split_are_refused(order, own):
    table = own("contrast")
    split = settled(order(data=table)).split
    image = nib.load(table.with_name("s5_plain.nii.gz"))
    nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine).to_filename(image.get_filename())
    with pytest.raises(ConfigError, match=r"another split of the subjects .their files changed"):
        settled(order(data=table))
    split.write_text(split.read_text().replace('"s5"', '"s9"'))
    with pytest.raises(DataError, match="was altered after it was saved"):
        settled(order(data=table))


@pytest.mark.parametrize(("translator", "name"), [("pix2pix", "cohort.csv"), ("cyclegan", "cohort_unpaired.csv")])
def test_without_data_all_share_one_phantom_with_its_own_settings(order, small_phantom, translator, name):
    own = settled(order(f"translator={translator}", data=None), CELLS[:1])
    assert own.data.name == name
    assert own.data.is_relative_to(small_phantom)


@pytest.fixture
def begun(order):
    """A task, and a training in its folder that was killed at once."""
    own = settled(order())
    (task, _) = own.tasks((4,))
    folder = order().folder / task.name
    config = own.pipelines["pix2pix.l1=10"].config.model_copy(update={"seed": 4})
    RunFolder(folder).start(config, Split.load(own.split), {"split_hash": own.split_hash, "mlflow_run_id": "own"})
    return task, Context(folder, "cpu", Console(quiet=True), True, "sqlite:///runs.db", "parent", None)


@pytest.mark.parametrize("resume", [False, True], ids=["new", "begun"])
def test_a_training_has_its_own_settings_last_or_those_that_it_was_begun_with(begun, resume, monkeypatch):
    task, context = begun
    if not resume:
        shutil.rmtree(context.folder)
    orders = []
    monkeypatch.setattr(translators, "train", lambda order, console: orders.append(order))
    translator = task.args[0]
    translators.train_translator(context, replace(translator, order=replace(translator.order, data=None)))
    (order,) = orders
    assert (order.resume, order.parent, order.tracking, order.phantom) == (resume, "parent", "sqlite:///runs.db", True)
    assert order.out / order.pipeline / order.name == context.folder
    assert order.overrides[-2:] == (() if resume else ("pix2pix.l1=10", "seed=4"))


@pytest.fixture
def converted(begun, golden, monkeypatch):
    """A training whose translations are target images: ``converted("s5")``."""
    task, context = begun

    def translate(*subjects):
        monkeypatch.setattr(translators, "train", lambda order, console: None)
        monkeypatch.setattr(translators, "convert_test", lambda *given: None)
        (context.folder / "test").mkdir(parents=True)
        for subject in subjects:
            image = golden.inputs.slabs / f"{subject}_plain.nii.gz"
            shutil.copy(image, context.folder / "test" / f"{subject}_contrast.nii.gz")
        return task, context

    return translate


def test_leak_a_training_of_another_split_and_outputs_that_say_whom_the_model_was_trained_on(converted):
    task, context = converted("s5")
    said = {"Training": {"ThisImage": "train", "SplitSHA256": ""}}
    (context.folder / "test" / "s5_contrast.json").write_text(json.dumps(said))
    with pytest.raises(LeakageError, match=r"l1=10,seed=4 has seen who is tested: s5"):
        judge(context, *task.args)
    path = context.folder / "split.json"
    split = Split.load(path)
    split.model_copy(update={"train": split.test, "test": split.train}).save(path)
    with pytest.raises(LeakageError, match="was begun under another split"):
        judge(context, *task.args)


def test_without_a_target_image_of_its_own_a_subject_is_judged_unpaired(converted, own, monkeypatch):
    recorded = []
    monkeypatch.setattr(translators, "add_metrics", lambda *given: recorded.append(given))
    table = rewrite(
        own("contrast"), lambda row: None if row["image"] in ("s5_plain.nii.gz", "s6_contrast.nii.gz") else row
    )
    task, context = converted("s5")
    rows = judge(context, replace(task.args[0], data=table))
    assert "soft_tissue_distance_hu" in rows
    assert "mae_hu" not in rows
    assert (rows["cell"].unique().tolist(), rows["seed"].unique().tolist()) == (["pix2pix.l1=10"], [4])
    ((tracking, run, means),) = recorded
    assert (tracking, run) == ("sqlite:///runs.db", "own")
    assert "test/soft_tissue_distance_hu" in means


def test_a_test_subject_that_cannot_be_converted_or_judged_is_named(converted, golden, own, tmp_path):
    model = golden.resumed("sweep").folder / "pix2pix.l1=10,seed=0" / "model"
    task, context = converted()
    (context.folder / "test" / "s5_contrast.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match="s5_contrast"):
        judge(context, *task.args)
    table = own("contrast")
    table.with_name("s6_contrast.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^1 of 2 test images were not converted: s6_contrast.nii.gz"):
        convert_test(table, tmp_path / "out", model, "cpu")


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
