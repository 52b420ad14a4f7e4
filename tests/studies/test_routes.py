"""Routes to bone: a study stopped in a segmenter and run again; its folds, its bone, its table."""

import io
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.config import from_overrides, load
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import find_cohort
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError, GeometryError, LeakageError
from medgan.evaluation.bone import Bone
from medgan.phantom.cohort import write_phantom
from medgan.studies import routes
from medgan.studies.base import Order
from medgan.studies.engine import Result, read_json, run_study
from medgan.studies.routes import (
    Finder,
    Routes,
    RoutesConfig,
    bone_scores,
    cleaned,
    find_bone,
    label_and_translate,
    routes_table,
    thresholded,
)  # fmt: skip
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription
from medgan.training.model_folder import Origin, write_model
from medgan.training.recorder import Recorder

QUIET = Console(quiet=True)
SUBJECTS = tuple(f"sub-{number:03}" for number in range(1, 7))
MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.5, upper=99.5, percentiles=True))
CT = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1000.0, upper=1500.0))
PAIR = DomainPair(source=MR, target=CT, paired=True)
SMALL = (
    "labelled=[1, 2]",
    "segmenter.patch={dimensions: 2, size_voxels: 16}",
    "segmenter.network={channels: 4, downs: 1}",
    "segmenter.fit={epochs: 2, iterations_per_epoch: 2, batch_size: 2}",
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """The CSV of six phantom subjects with both scans."""
    folder = tmp_path_factory.mktemp("routes")
    return write_phantom(folder, kind="abdomen_mr_ct", subjects=6, seed=0, shape=(40, 40, 3), lesions=0.0)


@pytest.fixture(scope="module")
def save_run(cohort) -> Callable[..., Path]:
    """Write a run with an untrained translator: ``save_run(folder, test=("sub-005",))`` gives its model folder."""

    def save(folder, test, *, data=cohort, pair=PAIR, **changed):
        studies = find_cohort(data, pair)
        train = tuple(subject for subject in studies.subjects() if subject not in test)
        split = Split(train=train, validation=(), test=tuple(test), files=studies.file_hashes())
        split.save(folder / "split.json")
        torch.manual_seed(0)
        patch = PatchConfig(dimensions="2", size_voxels=16)
        network = ResNetConfig(channels=4, downs=1, blocks=1, norm="group")
        generator = GeneratorConfig(network=network, change="none")
        description = {
            "name": "mr_to_ct",
            "pair": pair,
            "grid": GridConfig(spacing_mm=(None, None, None)),
            "patch": patch,
            "generator": generator,
            "intensities": {},
            "origin": Origin(split_hash=split.hash, phantom=True),
            "metrics": {},
            "epoch": 1,
        }
        networks = {"to_target": generator.build(pair, patch, "to_target")}
        write_model(folder / "model", networks, TranslationDescription, **description | changed)
        return folder / "model"

    return save


@pytest.fixture(scope="module")
def folds(save_run, tmp_path_factory) -> tuple[Path, Path]:
    """Two translators: one has not seen the last two subjects, the other the two before them."""
    folder = tmp_path_factory.mktemp("folds")
    return save_run(folder / "0", SUBJECTS[4:]), save_run(folder / "1", SUBJECTS[2:4])


@pytest.fixture(scope="module")
def asked(cohort, folds) -> Callable[..., Order]:
    """What a user asks: ``asked(tmp_path, "labelled=[3]", models=...)``, else two folds and one seed."""

    def make(out, *overrides, **changes):
        own = {"kind": "routes", "pipeline": "mr_to_ct", "models": folds, "data": cohort, "devices": ("cpu",)}
        return Order(out=out, overrides=(*SMALL, *overrides), **own | changes)

    return make


@pytest.fixture(scope="module")
def study(asked, tmp_path_factory) -> Routes:
    """A study that no test changes."""
    return Routes(asked(tmp_path_factory.mktemp("plan")), QUIET)


STOPPED = "synthetic_ct,labelled=2,fold=0,seed=0"


@dataclass
class Story:
    whole: Result
    stopped: str
    before: dict[str, int]
    resumed: Result
    output: str

    @property
    def folder(self):
        return self.whole.study.order.folder


def stamps(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("*labelled=1*/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def story(asked, work, folds):
    """Ctrl-C in the middle of a segmenter's second epoch, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == 3 and self.folder.name == STOPPED:
            os.kill(os.getpid(), signal.SIGINT)

    whole = run_study(Routes, asked(work / "whole"), QUIET)
    order = asked(work / "parts", models=folds[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "iteration", watched)
        with pytest.raises(KeyboardInterrupt) as stopped:
            run_study(Routes, order, QUIET)
    before, output = stamps(order.folder), io.StringIO()
    resumed = run_study(Routes, order, Console(file=output, width=140))
    return Story(whole, str(stopped.value), before, resumed, output.getvalue())


def test_every_route_is_judged_on_every_unseen_subject(story):
    rows = story.whole.rows
    assert story.whole.exit_code == 0
    assert set(rows["subject"]) == set(SUBJECTS[2:])
    # Two trained routes for each of two numbers, and two without labels, on two subjects in each of two folds.
    assert len(rows) == (2 * 2 + 2) * 2 * 2
    assert rows[rows["fold"] == 0]["subject"].isin(SUBJECTS[4:]).all()
    assert rows["dice"].between(0, 1).all()


def test_it_resumes_where_it_was_stopped(story):
    assert STOPPED in story.stopped
    assert stamps(story.resumed.study.order.folder) | story.before == stamps(story.resumed.study.order.folder)
    assert {path for path in story.before if "fold=0" in path}
    assert "of 6 tasks: finished before" in story.output
    pd.testing.assert_frame_equal(story.resumed.rows, story.whole.rows.query("fold == 0"))


def test_the_folder_tells_all(story):
    folder = story.folder
    record = json.loads((folder / "routes.json").read_text())
    assert record["budget"] == {"iterations": 4, "batch_size": 2}
    assert [fold["translator_pairs"] for fold in record["folds"]] == [4, 4]
    assert record["labelled"] == [1, 2]
    assert record["phantom"]
    assert (
        len(record["table"]) == len(story.whole.summary.tables["table.csv"]) == len(pd.read_csv(folder / "table.csv"))
    )
    assert len(pd.read_csv(folder / "rows.csv")) == len(story.whole.rows)
    assert "phantom" in story.output


def test_all_is_one_run_with_a_child_for_each_route(story):
    client, folder = (
        MlflowClient(read_json(story.resumed.study.order.folder / "study.json")["tracking_uri"]),
        story.resumed.study.order.folder,
    )
    parent = client.get_run(read_json(folder / "study.json")["mlflow_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 6
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    by_name = {run.info.run_name: run for run in children}
    own = story.resumed.rows.query("route == 'synthetic_ct' and labelled == 2 and fold == 0")
    assert by_name[STOPPED].data.metrics["test/dice"] == pytest.approx(own["dice"].mean(), abs=1e-5)
    assert by_name[STOPPED].data.params["labelled"] == "2"


def test_models_in_another_order_would_mix_who_was_learnt_from(story, asked, work, folds):
    with pytest.raises(LeakageError, match="another split"):
        run_study(Routes, asked(work / "whole", models=folds[::-1]), QUIET)


def test_finished_segmenters_of_other_settings_are_not_taken_over(story, asked, work):
    with pytest.raises(ConfigError, match=r"begun with other segmenter\.rate"):
        run_study(Routes, asked(work / "whole", "segmenter.rate=0.1"), QUIET)


def test_routes_without_labels_are_judged_once_and_the_others_for_each_number_and_seed(asked, tmp_path):
    stages = Routes(asked(tmp_path, seeds=(0, 1)), QUIET).stages()
    assert [task.name for task in next(stages)] == ["fold=0", "fold=1"]
    tasks = stages.send(())
    keys = [(task.inputs["route"], task.inputs["labelled"], task.inputs["seed"]) for task in tasks[10:]]
    assert keys[:2] == [("threshold", 0, 0), ("lookup_threshold", 0, 0)]
    assert sorted(keys[2:]) == sorted(
        (route, labelled, seed) for route in ("mr", "synthetic_ct") for labelled in (1, 2) for seed in (0, 1)
    )
    assert len({task.name for task in tasks}) == len(tasks) == 20


def test_leak_learning_from_a_test_subject(study):
    fold = study.folds[0]
    leaky = replace(fold, training=(*fold.tested, *fold.training))
    with pytest.raises(LeakageError, match=fold.tested[0].subject):
        study._task("mr", leaky, "mr", 6, 0)


@pytest.fixture(scope="module")
def labelled(study):
    """The folder of a fold whose labels and synthetic CTs are made, and its table."""
    context = SimpleNamespace(folder=study.order.folder / "fold=0", device="cpu")
    table = label_and_translate(context, study.data, study.folds[0], study.order.folder / "labels")
    table.to_csv(context.folder / "synthetic.csv", index=False)
    return study.order.folder / "labels", table


def test_everybody_of_the_fold_has_the_bone_of_the_true_ct_and_test_subjects_alone_are_translated(study, labelled):
    folder, table = labelled
    fold = study.folds[0]
    for pair in (*fold.training, *fold.tested):
        ct, label = read_volume(pair.target.image), read_volume(folder / pair.file)
        voxel_ml = float(np.prod(ct.grid.spacing_mm)) / 1000
        np.testing.assert_array_equal(label.voxels == 1, cleaned(thresholded(ct.voxels), voxel_ml))
        np.testing.assert_array_equal(label.grid.affine, ct.grid.affine)
        assert label.voxels.any()
    assert [Path(path).parent.name for path in table["synthetic"]] == [pair.subject for pair in fold.tested]


@pytest.mark.parametrize(("route", "domain"), [("mr", "mr"), ("synthetic_ct", "ct")])
def test_a_segmenter_learns_from_the_drawn_scans_with_the_bone_of_their_true_ct(study, labelled, route, domain):
    (finder,) = study._task("one", study.folds[0], route, 2, 0).args
    pairs = study.folds[0].drawn(2, 0)
    for pair, case in zip(pairs, finder.segmenter.train(finder.segmenter.config), strict=True):
        scan = read_volume((pair.source if domain == "mr" else pair.target).image)
        assert case.subject == pair.subject
        np.testing.assert_allclose(np.sort(case.image.voxels, axis=None), np.sort(scan.voxels, axis=None))
        assert case.labels.sum() == read_volume(labelled[0] / pair.file).voxels.sum() > 0


def found_by(study, tmp_path, route, fold=None):
    """The rows of a route of which only the test subjects are looked at."""
    finder = Finder(
        {"route": route, "labelled": 0, "fold": 0, "seed": 0}, fold or study.folds[0], study.order.folder, None
    )
    return find_bone(SimpleNamespace(folder=tmp_path, device="cpu", tracker=None), finder)


def test_a_perfect_synthetic_ct_is_perfect_by_its_threshold(study, labelled, tmp_path, monkeypatch):
    perfect = {str(pair.source.image): str(pair.target.image) for pair in study.folds[0].tested}
    monkeypatch.setattr(Finder, "synthetic", perfect)
    rows = found_by(study, tmp_path, "threshold")
    assert rows[["dice", "surface_dice"]].to_numpy().tolist() == [[1.0, 1.0]] * 2
    monkeypatch.setattr(routes, "thresholded", lambda hu: hu > np.inf)
    assert found_by(study, tmp_path, "threshold")["dice"].tolist() == [0.0, 0.0]
    # Everything that lies outside of both bodies does not count.
    outside = thresholded
    monkeypatch.setattr(routes, "thresholded", lambda hu: outside(hu) | (hu < -900))
    assert found_by(study, tmp_path, "threshold")["dice"].tolist() == [1.0, 1.0]


def test_the_look_up_looks_at_mr_and_knows_no_test_subject(study, labelled, tmp_path, monkeypatch):
    learnt = []
    add = routes.CrossingLookups.add
    monkeypatch.setattr(
        routes.CrossingLookups,
        "add",
        lambda self, subject, *scans: learnt.append(subject) or add(self, subject, *scans),
    )
    monkeypatch.setattr(
        Finder, "synthetic", {str(pair.source.image): str(pair.target.image) for pair in study.folds[0].tested}
    )
    rows = found_by(study, tmp_path, "lookup_threshold")
    assert learnt == [pair.subject for pair in study.folds[0].training]
    assert (rows["dice"] < 1).all()


@pytest.mark.parametrize(("route", "shown"), [("mr", "mr"), ("synthetic_ct", "synthetic")])
def test_a_segmenter_is_shown_what_its_route_is_about(study, monkeypatch, route, shown):
    scans = {"mr": object(), "synthetic": object()}
    monkeypatch.setattr(routes, "train", lambda *given: None)
    monkeypatch.setattr(routes, "read_model", lambda *given: None)
    monkeypatch.setattr(routes, "segment_study", lambda model, scan, fabric: np.array(scan is scans[shown]) * 1)
    (finder,) = study._task("one", study.folds[0], route, 2, 0).args
    assert finder.finds(SimpleNamespace(folder=Path(), device="cpu"))(scans["mr"], scans["synthetic"])


def test_scans_on_different_grids_are_refused(study, labelled, tmp_path):
    pair = study.folds[0].tested[0]
    moved = nib.Nifti1Image(nib.load(pair.source.image).get_fdata(), np.diag([9.0, 9.0, 30.0, 1.0]))
    moved.to_filename(tmp_path / "mr.nii.gz")
    fold = replace(study.folds[0], tested=(replace(pair, source=replace(pair.source, image=tmp_path / "mr.nii.gz")),))
    with pytest.raises(GeometryError, match="medgan data register"):
        found_by(study, tmp_path, "threshold", fold)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fewer_labelled_subjects_are_among_the_more_and_none_is_tested(study, seed):
    for fold in study.folds:
        drawn = [{pair.subject for pair in fold.drawn(number, seed)} for number in (1, 2, 3, 4)]
        assert [len(each) for each in drawn] == [1, 2, 3, 4]
        assert all(fewer < more for fewer, more in itertools.pairwise(drawn))
        assert drawn[-1] == set(fold.split.train)
        assert not drawn[-1] & {pair.subject for pair in fold.tested}


def test_another_seed_draws_other_subjects(study):
    first = {tuple(pair.subject for pair in study.folds[0].drawn(2, seed)) for seed in range(8)}
    assert len(first) > 1


def test_each_segmenter_sees_its_own_domain_and_takes_the_same_steps(study):
    mr, ct = study._segmenter("mr"), study._segmenter("synthetic_ct")
    assert (mr.domain, mr.patch.intensity) == (MR, study.config.mr_intensity)
    assert ct.domain == CT.model_copy(update={"window": study.config.ct_window})
    assert ct.patch.intensity == study.config.ct_intensity
    assert mr.fit == ct.fit


def test_another_split_beside_the_model_is_refused(asked, folds, tmp_path):
    shutil.copytree(folds[0].parent, tmp_path / "run")
    shutil.copy(folds[1].parent / "split.json", tmp_path / "run" / "split.json")
    with pytest.raises(ConfigError, match="not the split"):
        Routes(asked(tmp_path, models=(tmp_path / "run" / "model",)), QUIET)
    (tmp_path / "run" / "split.json").unlink()
    with pytest.raises(ConfigError, match="there is no split"):
        Routes(asked(tmp_path, models=(tmp_path / "run" / "model",)), QUIET)


def test_a_cohort_that_changed_is_refused(asked, cohort, tmp_path):
    shutil.copytree(cohort.parent, tmp_path / "data")
    image = tmp_path / "data" / SUBJECTS[0] / "mr.nii.gz"
    other = nib.load(image)
    nib.Nifti1Image(other.get_fdata() + 1, other.affine).to_filename(image)
    with pytest.raises(DataError, match="changed"):
        Routes(asked(tmp_path, data=tmp_path / "data"), QUIET)


def test_more_labelled_subjects_than_a_fold_trains_on_are_refused(asked, tmp_path):
    with pytest.raises(ConfigError, match="trains on 4 subjects"):
        Routes(asked(tmp_path, "labelled=[2, 5]"), QUIET)


def test_a_fold_without_a_test_subject_is_refused(asked, save_run, tmp_path):
    with pytest.raises(ConfigError, match="no test subject"):
        Routes(asked(tmp_path, models=(save_run(tmp_path / "run", ()),)), QUIET)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "other"}, "a model of 'other'"),
        ({"pair": PAIR.model_copy(update={"source": CT.model_copy(update={"name": "mr"})})}, "CT made of MR only"),
        (
            {"pair": PAIR.model_copy(update={"target": CT.model_copy(update={"window": Window()})})},
            "see their scans differently",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused(asked, folds, save_run, tmp_path, changed, message):
    model = save_run(tmp_path / "run", SUBJECTS[2:4], **changed)
    order = asked(tmp_path, models=(folds[0], model))
    with pytest.raises(ConfigError, match=message):
        Routes(order, QUIET)


def test_without_models_there_is_nothing_to_test(asked, tmp_path):
    with pytest.raises(ConfigError, match="--model"):
        Routes(asked(tmp_path, models=()), QUIET)


def test_a_cohort_must_be_there(asked, tmp_path):
    with pytest.raises(DataError, match="is empty or does not exist"):
        Routes(asked(tmp_path, data=tmp_path), QUIET)


def test_the_phantom_cannot_stand_in_for_the_cohort_of_finished_models(asked, tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        Routes(asked(tmp_path, data=None), QUIET)


def test_what_is_overridden_leaves_the_other_settings_of_its_group():
    default, changed = RoutesConfig(), load(RoutesConfig, from_overrides(["segmenter.fit.epochs=9"]))
    assert changed.segmenter.fit == default.segmenter.fit.model_copy(update={"epochs": 9})
    assert changed.segmenter.labels == {"bone": (1,)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("segmenter.fit.keep=best", "bone alone"), ("segmenter.labels={bone: 1, liver: 2}", "bone alone"),
        ("labelled=[]", "labelled"), ("labelled=[0, 2]", "labelled"),
    ],
)  # fmt: skip
def test_segmenters_learn_bone_of_somebody_and_have_nobody_to_choose_an_epoch(setting, message):
    with pytest.raises(ConfigError, match=message):
        load(RoutesConfig, from_overrides([setting]))


ML = 0.01
"""A part of ten voxels or more is kept."""


def trunk(table_hu=0.0):
    """A slab of soft tissue in air, (24, 24, 3), with bone in it and a table under it."""
    hu = np.full((24, 24, 3), -1000.0)
    hu[4:20, 6:20] = 40.0
    hu[10:13, 10:13] = 700.0
    hu[4:20, 0:2] = table_hu
    return hu


def test_what_is_above_200_hu_in_the_body_is_bone_and_a_table_is_none():
    mask = thresholded(trunk(table_hu=900.0))
    assert mask.sum() == 27
    assert mask[10:13, 10:13].all()


def test_200_hu_itself_is_no_bone():
    hu = trunk()
    hu[10, 10] = 200.0
    assert thresholded(hu).sum() == 24


@pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])
def test_a_crack_is_closed_and_a_speck_goes(slices):
    mask = np.zeros((20, 20, slices), dtype=bool)
    mask[5:12, 5:12] = True
    whole = mask.copy()
    mask[8, 5:12] = False
    mask[16, 16, 0] = True
    # The ends of the crack open to the outside, where a cross of one voxel does not reach across it.
    np.testing.assert_array_equal(cleaned(mask, ML)[:, 6:11], whole[:, 6:11])
    assert not cleaned(mask, ML)[16, 16].any()


@pytest.mark.parametrize(("voxels", "kept"), [(9, False), (10, True)])
def test_a_part_of_a_tenth_of_a_millilitre_is_kept(voxels, kept):
    mask = np.zeros((20, 4, 1), dtype=bool)
    mask[2 : 2 + voxels, 2] = True
    assert cleaned(mask, ML).any() == kept


def test_bone_that_the_edge_of_the_image_cuts_stays_whole():
    mask = np.zeros((12, 12, 2), dtype=bool)
    mask[:4, :4] = mask[8:, 3:] = True
    np.testing.assert_array_equal(cleaned(mask, ML), mask)


@settings(max_examples=25, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)), elements=st.booleans()))
def test_what_is_clean_stays_as_it_is(mask):
    once = cleaned(mask, 0.03)
    np.testing.assert_array_equal(cleaned(once, 0.03), once)


def block(first, last, shape=(20, 20, 4)):
    mask = np.zeros(shape, dtype=bool)
    mask[first:last, 5:15] = True
    return Bone(mask, (1.0, 1.0, 3.0))


def test_only_the_region_counts_and_its_border_makes_no_surface():
    where = np.zeros((20, 20, 4), dtype=bool)
    where[:9] = True
    scores = bone_scores(block(2, 10), block(2, 18), where)
    assert scores == {"dice": 1.0, "surface_dice": 1.0}


def test_dice_is_that_of_the_voxels_by_hand():
    everywhere = np.ones((20, 20, 4), dtype=bool)
    # 8 of 10 and 8 of 8 rows are shared.
    assert bone_scores(block(2, 12), block(4, 12), everywhere)["dice"] == pytest.approx(16 / 18)


@pytest.mark.parametrize(("found", "true", "expected"), [(0, 0, np.nan), (0, 8, 0.0), (8, 0, 0.0)])
def test_nothing_to_find_is_undefined_and_finding_nothing_is_zero(found, true, expected):
    scores = bone_scores(block(0, found), block(0, true), np.ones((20, 20, 4), dtype=bool))
    np.testing.assert_equal(list(scores.values()), [expected, expected])


DICE = {
    ("mr", 2): [0.2, 0.4, 0.6],
    ("mr", 4): [0.5, 0.6, 0.7],
    ("synthetic_ct", 2): [0.5, 0.5, 0.5],
    ("synthetic_ct", 4): [0.5, 0.7, 0.6],
    ("threshold", 0): [0.4, 0.5, 0.7],
}


def rows(seeds=(0, 1)):
    return pd.DataFrame(
        [
            {"route": route, "labelled": labelled, "fold": 0, "seed": seed, "subject": f"s{number}"}
            # Seeds differ, and their mean is the value: they are no evidence of their own.
            | {"dice": value + 0.1 * (2 * seed - 1) * bool(labelled), "surface_dice": value / 2}
            for (route, labelled), values in DICE.items()
            for seed in (seeds if labelled else (0,))
            for number, value in enumerate(values)
        ]
    )


def cell(table, labelled, route, metric="dice"):
    chosen = table[(table["labelled"] == labelled) & (table["route"] == route) & (table["metric"] == metric)]
    return chosen.iloc[0]


@pytest.fixture(scope="module")
def table():
    return routes_table(rows(), [4, 2])


@pytest.mark.parametrize("labelled", [2, 4])
@pytest.mark.parametrize("route", ["synthetic_ct", "threshold"])
def test_routes_are_compared_with_mr_of_as_many_labels_by_subject(table, labelled, route):
    own = DICE[route, labelled] if (route, labelled) in DICE else DICE[route, 0]
    row = cell(table, labelled, route)
    assert row["mean"] == pytest.approx(np.mean(own))
    assert row["difference"] == pytest.approx(np.mean(own) - np.mean(DICE["mr", labelled]))
    assert row["difference_lower"] <= row["difference"] <= row["difference_upper"]
    assert row["n"] == 3


def test_mr_is_the_reference_and_a_threshold_is_the_same_for_every_number(table):
    assert np.isnan(cell(table, 2, "mr")["difference"])
    assert cell(table, 2, "threshold")["mean"] == cell(table, 4, "threshold")["mean"]
    assert cell(table, 2, "threshold", "surface_dice")["mean"] == pytest.approx(1.6 / 6)


def test_the_numbers_rise_and_routes_keep_their_order(table):
    dice = table[table["metric"] == "dice"]
    assert list(zip(dice["labelled"], dice["route"], strict=True)) == [
        (number, route) for number in (2, 4) for route in ("mr", "synthetic_ct", "threshold")
    ]


def test_a_number_without_figures_is_left_out_and_without_mr_there_is_no_difference():
    frame = rows()
    table = routes_table(frame[frame["route"] != "mr"], [2, 4, 8])
    assert set(table[table["labelled"] == 8]["route"]) == {"threshold"}
    assert table["difference"].isna().all()


def test_every_line_is_told_with_its_interval_in_80_columns(study):
    output = io.StringIO()
    Console(file=output, width=80).print(*study.summary(rows()).shown)
    text = output.getvalue()
    assert "Dice of bone" in text
    assert "Surface Dice of bone, 2 mm" in text
    line = next(line for line in text.splitlines() if "sCT segmenter" in line)
    assert "0.500 [0.500, 0.500]" in line
    assert "+0.100 [" in line
