"""Routes to bone: a study that has run; its folds, its bone, its table."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from medgan.config import from_overrides, load
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError, GeometryError, LeakageError, ModelError
from medgan.evaluation.bone import Bone
from medgan.studies import routes
from medgan.studies.engine import read_json
from medgan.studies.routes import (
    Routes,
    RoutesConfig,
    _bone_scores,
    _cleaned,
    _find_bone,
    _Finder,
    _routes_table,
    _thresholded,
)
from tables import printed, row_of


@pytest.fixture(scope="module")
def study(golden, ordered) -> Routes:
    """The golden study, which has run."""
    folder = golden.resumed("routes").folder
    return Routes(ordered("routes", folder.parents[1], name=folder.name), Console(quiet=True))


@pytest.fixture(scope="module")
def folder(study) -> Path:
    return study.order.folder


def test_every_route_is_judged_on_every_unseen_subject_and_the_folder_tells_all(study, folder, golden):
    rows, record = pd.read_csv(folder / "rows.csv"), read_json(folder / "routes.json")
    for fold in study.folds:
        own = rows[rows["fold"] == fold.number]
        tested = {pair.subject for pair in fold.tested}
        keys = [*itertools.product(("mr", "synthetic_ct"), (1, 2)), ("threshold", 0), ("lookup_threshold", 0)]
        judged = sorted(zip(own["route"], own["labelled"], own["subject"], strict=True))
        assert judged == sorted((*key, subject) for key in keys for subject in tested)
        assert not tested & set(fold.split.train)
    assert rows["dice"].between(0, 1).all()
    assert record["budget"] == {"iterations": 24, "batch_size": 2}
    assert [fold["translator_pairs"] for fold in record["folds"]] == [len(fold.training) for fold in study.folds]
    assert (record["labelled"], record["phantom"]) == ([1, 2], False)
    assert len(record["table"]) == len(pd.read_csv(folder / "table.csv"))
    assert "of 12 tasks: finished before" in golden.resumed("routes").output


def test_routes_without_labels_are_judged_once_and_the_others_for_each_number_and_seed(settled):
    stages = settled(Routes, seeds=(0, 1)).stages()
    assert [task.name for task in next(stages)] == ["fold=0", "fold=1"]
    tasks = stages.send(())
    keys = [(task.inputs["route"], task.inputs["labelled"], task.inputs["seed"]) for task in tasks[10:]]
    assert keys[:2] == [("threshold", 0, 0), ("lookup_threshold", 0, 0)]
    assert sorted(keys[2:]) == list(itertools.product(("mr", "synthetic_ct"), (1, 2), (0, 1)))
    assert len({task.name for task in tasks}) == len(tasks) == 20


def test_everybody_of_the_fold_has_the_bone_of_the_true_ct_and_test_subjects_alone_are_translated(study, folder):
    for fold in study.folds:
        for pair in (*fold.training, *fold.tested):
            ct, label = read_volume(pair.target.image), read_volume(folder / "labels" / pair.file)
            voxel_ml = float(np.prod(ct.grid.spacing_mm)) / 1000
            np.testing.assert_array_equal(label.voxels == 1, _cleaned(_thresholded(ct.voxels), voxel_ml))
            np.testing.assert_array_equal(label.grid.affine, ct.grid.affine)
            assert label.voxels.any()
        table = pd.read_csv(folder / f"fold={fold.number}" / "synthetic.csv")
        assert table["source"].tolist() == [str(pair.source.image) for pair in fold.tested]
        assert all(Path(path).is_file() for path in table["synthetic"])


@pytest.mark.parametrize(("route", "side", "shown"), [("mr", "source", 0), ("synthetic_ct", "target", 1)])
def test_a_segmenter_learns_from_the_drawn_scans_with_the_bone_of_their_true_ct_and_is_shown_what_its_route_is_about(
    study, folder, monkeypatch, route, side, shown
):
    (finder,) = study._task(study.folds[0], route, 2, 0).args
    config = finder.segmenter.config
    for pair, case in zip(study.folds[0].drawn(2, 0), finder.segmenter.train(config), strict=True):
        voxels = read_volume(getattr(pair, side).image).voxels
        assert case.subject == pair.subject
        own, expected = (
            np.sort(np.maximum(each, config.domain.air), axis=None) for each in (case.image.voxels, voxels)
        )
        np.testing.assert_allclose(own, expected)
        assert case.labels.sum() == read_volume(folder / "labels" / pair.file).voxels.sum() > 0
    scans = object(), object()
    monkeypatch.setattr(routes, "train", lambda *given: None)
    monkeypatch.setattr(routes, "read_model", lambda *given: None)
    monkeypatch.setattr(routes, "segment_study", lambda model, scan, fabric: np.array(scan is scans[shown]) * 1)
    assert finder.finds(SimpleNamespace(folder=Path(), device="cpu"))(*scans)


@pytest.fixture
def found_by(study, folder, tmp_path, monkeypatch):
    """The Dice of a route when synthetic CTs are the true ones, or the MR: ``found_by("threshold", of="source")``."""

    def find(route, fold=study.folds[0], of="target"):
        images = {str(pair.source.image): str(getattr(pair, of).image) for pair in fold.tested}
        monkeypatch.setattr(_Finder, "synthetic", images)
        finder = _Finder({"route": route, "labelled": 0, "fold": 0, "seed": 0}, fold, folder, None)
        rows = _find_bone(SimpleNamespace(folder=tmp_path, device="cpu", tracker=None), finder)
        return rows[["dice", "surface_dice"]].to_numpy().tolist()

    return find


def test_a_perfect_synthetic_ct_is_perfect_by_its_threshold(found_by, monkeypatch):
    assert found_by("threshold") == [[1.0, 1.0]] * 3
    # Everything that lies outside of both bodies does not count.
    monkeypatch.setattr(routes, "_thresholded", lambda hu: _thresholded(hu) | (hu < -900))
    assert found_by("threshold") == [[1.0, 1.0]] * 3
    monkeypatch.setattr(routes, "_thresholded", lambda hu: hu > np.inf)
    assert found_by("threshold") == [[0.0, 0.0]] * 3


def test_the_look_up_looks_at_mr_and_knows_no_test_subject(study, found_by, monkeypatch):
    learnt, add = [], routes.CrossingLookups.add
    monkeypatch.setattr(
        routes.CrossingLookups,
        "add",
        lambda self, subject, *scans: learnt.append(subject) or add(self, subject, *scans),
    )
    assert found_by("threshold", of="source") != [[1.0, 1.0]] * 3
    assert found_by("lookup_threshold", of="source") == [[1.0, 1.0]] * 3
    assert learnt == [pair.subject for pair in study.folds[0].training]


def test_scans_on_different_grids_are_refused(study, found_by, tmp_path):
    pair = study.folds[0].tested[0]
    moved = nib.Nifti1Image(nib.load(pair.source.image).get_fdata(), np.diag([9.0, 9.0, 30.0, 1.0]))
    moved.to_filename(tmp_path / "mr.nii.gz")
    fold = replace(study.folds[0], tested=(replace(pair, source=replace(pair.source, image=tmp_path / "mr.nii.gz")),))
    with pytest.raises(GeometryError, match="medgan data register"):
        found_by("threshold", fold)


def test_the_fewer_labelled_subjects_are_among_the_more_none_is_tested_and_another_seed_draws_others(study):
    fold = study.folds[0]
    leaky = replace(fold, training=(*fold.tested, *fold.training))
    with pytest.raises(LeakageError, match=fold.tested[0].subject):
        study._task(leaky, "mr", len(leaky.training), 0)
    for fold, seed in itertools.product(study.folds, range(3)):
        numbers = range(1, len(fold.training) + 1)
        drawn = [{pair.subject for pair in fold.drawn(number, seed)} for number in numbers]
        assert [len(each) for each in drawn] == list(numbers)
        assert all(fewer < more for fewer, more in itertools.pairwise(drawn))
        assert drawn[-1] == set(fold.split.train)
        assert not drawn[-1] & {pair.subject for pair in fold.tested}
    first = {tuple(pair.subject for pair in study.folds[0].drawn(2, seed)) for seed in range(8)}
    assert len(first) > 1


def test_each_segmenter_sees_its_own_domain_and_takes_the_same_steps(study):
    mr, ct = study._segmenter("mr"), study._segmenter("synthetic_ct")
    assert (mr.domain, mr.patch.intensity) == (study.pair.source, study.config.mr_intensity)
    assert ct.domain == study.pair.target.model_copy(update={"window": study.config.ct_window})
    assert ct.patch.intensity == study.config.ct_intensity
    assert mr.fit == ct.fit


@pytest.fixture
def altered(golden, tmp_path):
    """The model of the second fold in a run of its own, whose description ``change`` alters, with another split."""

    def make(change=lambda description: None, split=None):
        run = Path(shutil.copytree(golden.inputs.folds[1].parent, tmp_path / "run"))
        path = run / "model" / "model.json"
        description = json.loads(path.read_text())
        change(description)
        if split:
            split.save(run / "split.json")
            description["origin"] |= {"split_hash": split.hash, "trained_on": None}
        path.write_text(json.dumps(description))
        return run / "model"

    return make


def test_another_split_beside_the_model_and_a_fold_without_a_test_subject_are_refused(settled, study, golden, altered):
    model = altered()
    shutil.copy(golden.inputs.folds[0].parent / "split.json", model.parent)
    with pytest.raises(ModelError, match="not the split"):
        settled(Routes, models=(model,))
    (model.parent / "split.json").unlink()
    with pytest.raises(ModelError, match="there is no split"):
        settled(Routes, models=(model,))
    shutil.rmtree(model.parent)
    split = study.folds[1].split
    nobody = split.model_copy(update={"train": tuple(sorted((*split.train, *split.test))), "test": ()})
    with pytest.raises(ConfigError, match="no test subject"):
        settled(Routes, models=(altered(split=nobody),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(name="other"), "a model of 'other'"),
        (lambda it: it["pair"].update(source=it["pair"]["target"] | {"name": "mr"}), "CT made of MR only"),
        (lambda it: it["pair"]["target"]["window"].update(lower=-900.0), "see their scans differently"),
    ],
    ids=["name", "modality", "window"],
)
def test_models_that_cannot_be_compared_are_refused(settled, golden, altered, change, message):
    with pytest.raises(ConfigError, match=message):
        settled(Routes, models=(golden.inputs.folds[0], altered(change)))


@pytest.mark.parametrize(
    ("overrides", "changes", "error", "message"),
    [
        (["labelled=[2, 7]"], {}, ConfigError, r"trains on \d subjects"),
        ([], {"models": ()}, ConfigError, "--model"),
        ([], {"data": Path("/nowhere")}, DataError, "is empty or does not exist"),
        ([], {"data": None}, ConfigError, "--data"),
    ],
    ids=["labelled", "models", "cohort", "phantom"],
)
def test_what_is_missing_is_named(settled, overrides, changes, error, message):
    with pytest.raises(error, match=message):
        settled(Routes, *overrides, **changes)


def test_a_cohort_that_changed_is_refused(settled, own):
    table = own("mr")
    image = nib.load(table.with_name("s0_mr.nii.gz"))
    nib.Nifti1Image(image.get_fdata() + 1, image.affine).to_filename(image.get_filename())
    with pytest.raises(DataError, match="changed"):
        settled(Routes, data=table)


def test_what_is_overridden_leaves_the_rest_of_its_group_and_segmenters_learn_bone_alone_of_somebody():
    default, changed = RoutesConfig(), load(RoutesConfig, from_overrides(["segmenter.fit.epochs=9"]))
    assert changed.segmenter.fit == default.segmenter.fit.model_copy(update={"epochs": 9})
    assert changed.segmenter.labels == {"bone": (1,)}
    for setting in (
        "segmenter.fit.keep=best",
        "segmenter.labels={bone: 1, liver: 2}",
        "labelled=[]",
        "labelled=[0, 2]",
    ):
        with pytest.raises(ConfigError, match="labelled" if setting.startswith("labelled") else "bone alone"):
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
    hu = trunk(table_hu=900.0)
    assert _thresholded(hu).sum() == 27
    assert _thresholded(hu)[10:13, 10:13].all()
    hu[10, 10] = 200.0
    assert _thresholded(hu).sum() == 24


@pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])
def test_a_crack_is_closed_and_a_speck_goes(slices):
    mask = np.zeros((20, 20, slices), dtype=bool)
    mask[5:12, 5:12] = True
    whole = mask.copy()
    mask[8, 5:12] = False
    mask[16, 16, 0] = True
    # The ends of the crack open to the outside, where a cross of one voxel does not reach across it.
    np.testing.assert_array_equal(_cleaned(mask, ML)[:, 6:11], whole[:, 6:11])
    assert not _cleaned(mask, ML)[16, 16].any()


def test_a_part_of_a_tenth_of_a_millilitre_is_kept_and_bone_that_the_edge_of_the_image_cuts_stays_whole():
    for voxels in (9, 10):
        mask = np.zeros((20, 4, 1), dtype=bool)
        mask[2 : 2 + voxels, 2] = True
        assert _cleaned(mask, ML).any() == (voxels == 10)
    mask = np.zeros((12, 12, 2), dtype=bool)
    mask[:4, :4] = mask[8:, 3:] = True
    np.testing.assert_array_equal(_cleaned(mask, ML), mask)


@settings(max_examples=25, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)), elements=st.booleans()))
def test_what_is_clean_stays_as_it_is(mask):
    once = _cleaned(mask, 0.03)
    np.testing.assert_array_equal(_cleaned(once, 0.03), once)


def block(first, last, shape=(20, 20, 4)):
    mask = np.zeros(shape, dtype=bool)
    mask[first:last, 5:15] = True
    return Bone(mask, (1.0, 1.0, 3.0))


def test_dice_is_that_of_the_voxels_by_hand_only_the_region_counts_and_its_border_makes_no_surface():
    everywhere, where = np.ones((20, 20, 4), dtype=bool), np.zeros((20, 20, 4), dtype=bool)
    where[:9] = True
    assert _bone_scores(block(2, 10), block(2, 18), where) == {"dice": 1.0, "surface_dice": 1.0}
    # 8 of 10 and 8 of 8 rows are shared.
    assert _bone_scores(block(2, 12), block(4, 12), everywhere)["dice"] == pytest.approx(16 / 18)


@pytest.mark.parametrize(("found", "true", "expected"), [(0, 0, np.nan), (0, 8, 0.0), (8, 0, 0.0)])
def test_nothing_to_find_is_undefined_and_finding_nothing_is_zero(found, true, expected):
    scores = _bone_scores(block(0, found), block(0, true), np.ones((20, 20, 4), dtype=bool))
    np.testing.assert_equal(list(scores.values()), [expected, expected])


DICE = {
    ("mr", 2): [0.2, 0.4, 0.6],
    ("mr", 4): [0.5, 0.6, 0.7],
    ("synthetic_ct", 2): [0.5, 0.5, 0.5],
    ("synthetic_ct", 4): [0.5, 0.7, 0.6],
    ("threshold", 0): [0.4, 0.5, 0.7],
}


def rows():
    """Two seeds, whose mean is the value: they are no evidence of their own."""
    return pd.DataFrame(
        [
            {"route": route, "labelled": labelled, "fold": 0, "seed": seed, "subject": f"s{number}"}
            | {"dice": value + 0.1 * (2 * seed - 1) * bool(labelled), "surface_dice": value / 2}
            for (route, labelled), values in DICE.items()
            for seed in ((0, 1) if labelled else (0,))
            for number, value in enumerate(values)
        ]
    )


def cell(table, labelled, route, metric="dice"):
    return row_of(table, labelled=labelled, route=route, metric=metric)


def test_routes_are_compared_with_mr_of_as_many_labels_by_subject_and_a_threshold_with_each_number():
    table = _routes_table(rows(), [4, 2])
    for labelled, route in itertools.product((2, 4), ("synthetic_ct", "threshold")):
        own, row = DICE.get((route, labelled), DICE["threshold", 0]), cell(table, labelled, route)
        assert row["mean"] == pytest.approx(np.mean(own))
        assert row["difference"] == pytest.approx(np.mean(own) - np.mean(DICE["mr", labelled]))
        assert row["difference_lower"] <= row["difference"] <= row["difference_upper"]
        assert row["n"] == 3
    assert np.isnan(cell(table, 2, "mr")["difference"])
    assert cell(table, 2, "threshold", "surface_dice")["mean"] == pytest.approx(1.6 / 6)
    dice = table[table["metric"] == "dice"]
    lines = list(zip(dice["labelled"], dice["route"], strict=True))
    assert lines == list(itertools.product((2, 4), ("mr", "synthetic_ct", "threshold")))
    # A number without figures is left out, and without MR there is no difference.
    table = _routes_table(rows().query("route != 'mr'"), [2, 4, 8])
    assert set(table[table["labelled"] == 8]["route"]) == {"threshold"}
    assert table["difference"].isna().all()


def test_every_line_is_told_with_its_interval_in_80_columns(study):
    text = printed(study.summary(rows()).shown, 80)
    assert "Dice of bone" in text
    assert "Surface Dice of bone, 2 mm" in text
    line = next(line for line in text.splitlines() if "sCT segmenter" in line)
    assert "0.500 [0.500, 0.500]" in line
    assert "+0.100 [" in line
