from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from medgan.benefit.records import write_json
from medgan.benefit.routes import children
from medgan.benefit.routes.children import (
    Child,
    check_identity,
    children_of,
    finder,
    identity,
    labelled_subjects,
    read_rows,
)
from medgan.benefit.routes.material import Exam, Material
from medgan.benefit.routes.plan import make_plan
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.bone import Bone


@pytest.fixture
def material(plan, tmp_path):
    from medgan.benefit.routes.material import write_label

    for case in plan.folds[0].training:
        write_label(case, tmp_path / case.file)
    return Material(plan.folds[0], tmp_path, tmp_path, ())


def child(plan, route, labelled=2):
    return next(c for c in children_of(plan, plan.folds[0]) if (c.route, c.labelled) == (route, labelled))


def test_routes_without_labels_are_judged_once_and_the_others_for_each_number_and_seed(asked, tmp_path):
    plan = make_plan(asked(tmp_path, seeds=(0, 1)))
    found = [(each.route, each.labelled, each.seed) for each in children_of(plan, plan.folds[1])]
    assert found[:2] == [("threshold", 0, 0), ("lookup_threshold", 0, 0)]
    assert sorted(found[2:]) == sorted(
        (route, labelled, seed) for route in ("mr", "synthetic_ct") for labelled in (1, 2) for seed in (0, 1)
    )
    names = [each.folder for fold in plan.folds for each in children_of(plan, fold)]
    assert len(set(names)) == len(names) == 20


@pytest.mark.parametrize(("route", "domain"), [("mr", "mr"), ("synthetic_ct", "ct")])
def test_a_segmenter_learns_from_the_drawn_scans_with_the_bone_of_their_true_ct(plan, material, route, domain):
    one = child(plan, route)
    cases = plan.folds[0].drawn(2, 0)
    for case, learnt in zip(cases, labelled_subjects(plan, one, material), strict=True):
        scan = read_volume((case.source if domain == "mr" else case.target).image)
        assert learnt.subject == case.subject
        np.testing.assert_allclose(np.sort(learnt.image.voxels, axis=None), np.sort(scan.voxels, axis=None))
        assert learnt.labels.sum() == read_volume(material.label(case)).voxels.sum() > 0


def test_learning_from_a_test_subject_is_a_leak(plan, material):
    one = child(plan, "mr")
    tested = one.fold.tested[0].subject
    leaky = replace(one.fold, training=(*one.fold.tested, *one.fold.training))
    with pytest.raises(LeakageError, match=tested):
        labelled_subjects(plan, replace(one, labelled=6, fold=leaky), material)


@pytest.mark.parametrize("changed", ["split_hash", "translator", "segmenter"])
def test_a_child_goes_on_only_as_it_was_begun(plan, tmp_path, changed):
    one = replace(child(plan, "mr"), folder=tmp_path / "child")
    assert check_identity(plan, one) == {}
    one.folder.mkdir()
    write_json(one.folder / "child.json", identity(plan, one) | {"mlflow_run_id": "1"})
    assert check_identity(plan, one)["mlflow_run_id"] == "1"
    write_json(one.folder / "child.json", identity(plan, one) | {changed: "other"})
    with pytest.raises(LeakageError if changed == "split_hash" else ConfigError, match="was begun"):
        check_identity(plan, one)


def found_by(plan, route, mr, synthetic, material=None):
    case = plan.folds[0].tested[0]
    shown = (SimpleNamespace(voxels=voxels, grid=None) for voxels in (mr, synthetic))
    seen = Exam(case, *shown, Bone(mr > 0, (1.0, 1.0, 1.0)), mr > 0)
    return finder(plan, child(plan, route, 0), material, None, resume=False)(seen)


def test_the_threshold_looks_at_the_synthetic_ct_and_the_look_up_at_mr(plan, monkeypatch):
    body = np.full((16, 16, 2), -1000.0)
    body[3:13, 3:13] = 50.0
    synthetic, mr = body.copy(), body + 1000
    synthetic[5:8, 5:8] = 300.0
    mr[9:12, 9:12] = 0.0
    np.testing.assert_array_equal(found_by(plan, "threshold", mr, synthetic), synthetic > 200)
    arms = lambda source, shape: {"intensity_lookup": np.where((source == 0) & (body > 0), 250.0, body)}  # noqa: E731
    monkeypatch.setattr(children, "fitted_lookup", lambda fold: SimpleNamespace(arms=arms))
    np.testing.assert_array_equal(found_by(plan, "lookup_threshold", mr, synthetic), (mr == 0) & (body > 0))


@pytest.mark.parametrize(("route", "shown"), [("mr", "mr"), ("synthetic_ct", "synthetic")])
def test_a_segmenter_is_shown_what_its_route_is_about(plan, monkeypatch, route, shown):
    scans = {"mr": object(), "synthetic": object()}
    monkeypatch.setattr(children, "trained", lambda *args, **kwargs: None)
    monkeypatch.setattr(children, "segment_study", lambda model, study, fabric: np.array(study is scans[shown]) * 1)
    find = finder(plan, child(plan, route), None, None, resume=False)
    assert find(SimpleNamespace(**scans))


def test_rows_of_finished_children_are_read_and_names_stay_text(plan, tmp_path):
    finished = Child("mr", 2, plan.folds[0], 0, tmp_path / "a")
    finished.folder.mkdir()
    (finished.folder / "rows.csv").write_text(
        "route,labelled,fold,seed,subject,dice,surface_dice\nmr,2,0,0,NA,0.5,\nmr,2,0,0,007,1,0.25\n"
    )
    rows = read_rows([finished, Child("mr", 1, plan.folds[0], 0, tmp_path / "b")])
    assert list(rows["subject"]) == ["NA", "007"]
    np.testing.assert_equal(rows["surface_dice"].tolist(), [np.nan, 0.25])
    assert read_rows([]).empty
