"""What a child is told before it trains; whole children are in test_study."""

from dataclasses import replace

import pytest

from medgan.benefit.arms import BY_NAME
from medgan.benefit.children import run_child
from medgan.benefit.material import Material
from medgan.benefit.plan import make_plan
from medgan.benefit.tasks import Task, child_of
from medgan.errors import LeakageError


@pytest.fixture
def task(asked, tmp_path, monkeypatch):
    """A child that is not trained: it fails if it is."""
    monkeypatch.setattr("medgan.benefit.children.train_child", lambda task, begun: pytest.fail("trained"))
    plan = make_plan(asked(tmp_path))
    (source, target) = (plan.subjects.with_labels("train", name) for name in plan.pair.names)
    material = Material(
        {"source": source, "synthetic": target}, plan.subjects.with_labels("validation", "contrast"), (), None
    )
    child = child_of(plan, BY_NAME["real+synthetic"], seed=0, subset=0, ratio_percent=100)
    return Task(plan, child, material, "parent", "sqlite:///runs.db")


@pytest.mark.parametrize("place", ["source", "synthetic", "validation"])
@pytest.mark.parametrize("name", ["s5", "stranger"])
def test_leak_a_test_image_is_refused_wherever_it_would_be_learnt_from(task, place, name):
    (tested,) = (each for each in task.plan.subjects.with_labels("test", "plain") if each.subject == "s5")
    leak = replace(tested, subject=name)
    if place == "validation":
        material = replace(task.material, validation=(*task.material.validation, leak))
    else:
        material = replace(task.material, train={**task.material.train, place: (leak,)})
    with pytest.raises(LeakageError, match=r"the training of real\+synthetic,ratio=100,seed=0,subset=0 would see"):
        run_child(replace(task, material=material))


def test_without_a_leak_it_trains(task):
    with pytest.raises(pytest.fail.Exception, match="trained"):
        run_child(task)
