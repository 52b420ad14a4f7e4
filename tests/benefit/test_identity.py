from dataclasses import replace

import pytest

from medgan.benefit.arms import BY_NAME
from medgan.benefit.identity import check_identity, identity
from medgan.benefit.material import Material
from medgan.benefit.plan import make_plan
from medgan.benefit.records import write_json
from medgan.benefit.tasks import Task, child_of
from medgan.errors import ConfigError, LeakageError


@pytest.fixture
def task(asked, tmp_path):
    """A child that learns from two subjects, and was begun."""
    plan = make_plan(asked(tmp_path))
    material = Material(
        {"source": plan.subjects.with_labels("train", "contrast")[:2]},
        plan.subjects.with_labels("validation", "contrast"),
        (),
        None,
    )
    child = child_of(plan, BY_NAME["real"], seed=3, subset=0, ratio_percent=100)
    made = Task(plan, child, material, "parent", "sqlite:///runs.db")
    write_json(child.folder / "child.json", identity(made) | {"mlflow_run_id": "1"})
    return made


def test_the_same_child_goes_on_with_its_run(task):
    assert check_identity(task)["mlflow_run_id"] == "1"


def test_a_child_that_was_not_begun_has_nothing(task):
    (task.child.folder / "child.json").unlink()
    assert check_identity(task) == {}


def test_it_is_told_by_what_it_learns_from_and_not_by_where_that_lies(task):
    one = identity(task)
    (first, second) = task.material.train["source"]
    swapped = replace(task, material=replace(task.material, train={"source": (second, first)}))
    assert identity(swapped) == one
    fewer = replace(task, material=replace(task.material, train={"source": (first,)}))
    assert identity(fewer)["images"] != one["images"]
    wrong = replace(task, material=replace(task.material, train={"source": (first, replace(second, mask=first.mask))}))
    assert identity(wrong)["images"] != one["images"]


def test_other_images_or_settings_are_refused(task):
    fewer = replace(task, material=replace(task.material, train={"source": task.material.train["source"][:1]}))
    with pytest.raises(ConfigError, match="was begun with other images; choose another --name"):
        check_identity(fewer)
    longer = task.plan.segmenter.model_copy(update={"rate": 0.5})
    with pytest.raises(ConfigError, match="was begun with other segmenter"):
        check_identity(replace(task, plan=replace(task.plan, segmenter=longer)))


def test_leak_a_child_begun_under_another_split(task):
    path = task.child.folder / "child.json"
    write_json(path, identity(task) | {"split_hash": "other"})
    with pytest.raises(LeakageError, match="may have seen who is tested now"):
        check_identity(task)
