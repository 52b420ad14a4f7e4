import pytest
from rich.console import Console

from medgan.benefit.failures import Failure
from medgan.benefit.material import Material
from medgan.benefit.plan import make_plan
from medgan.benefit.ratio import best, choose_ratio
from medgan.benefit.records import write_json
from medgan.errors import TrainingError

QUIET = Console(quiet=True)
NOTHING = Material({}, (), (), None)


@pytest.fixture
def validation(monkeypatch):
    """Segmenters that are not trained: ``validation`` gives the Dice of each ratio; those without one fail."""
    scores, tasks = {}, []

    def run_tasks(asked, run, jobs, console):
        tasks.extend(asked)
        for task in asked:
            if task.child.ratio_percent in scores:
                write_json(task.child.folder / "validation.json", {"val_dice": scores[task.child.ratio_percent]})
        failed = [task.child.name for task in asked if task.child.ratio_percent not in scores]
        return tuple(Failure(name, "no") for name in failed)

    monkeypatch.setattr("medgan.benefit.ratio.run_tasks", run_tasks)
    return scores, tasks


def test_the_best_is_above_0_and_of_equals_the_lowest():
    assert best({0: 0.9, 25: 0.7, 50: 0.8, 100: 0.8, 200: 0.6}) == 50


def test_validation_chooses_and_no_test_subject_is_touched(asked, tmp_path, validation):
    scores, tasks = validation
    scores |= {0: 0.9, 50: 0.7, 100: 0.8}
    plan = make_plan(asked(tmp_path, overrides=["ratios_percent=[0, 100, 50]"], seeds=(4, 5)))
    sweep = choose_ratio(plan, NOTHING, "parent", "sqlite:///runs.db", QUIET)
    assert (sweep.ratio_percent, sweep.arm) == (100, "real+standard+synthetic")
    assert dict(sweep.val_dice) == scores
    assert not any(task.test for task in tasks)
    assert [task.child.name for task in tasks] == [
        "real+standard,seed=4,subset=0",
        "real+standard+synthetic,ratio=50,seed=4,subset=0",
        "real+standard+synthetic,ratio=100,seed=4,subset=0",
    ]


def test_a_ratio_that_fails_is_not_chosen(asked, tmp_path, validation):
    scores, _ = validation
    plan = make_plan(asked(tmp_path, overrides=["ratios_percent=[0, 50, 100]"]))
    scores |= {0: 0.9}
    with pytest.raises(TrainingError, match=r"no ratio could be trained: real\+standard\+synthetic,ratio=50.*: no"):
        choose_ratio(plan, NOTHING, "parent", "sqlite:///runs.db", QUIET)
    scores |= {50: 0.1}
    assert choose_ratio(plan, NOTHING, "parent", "sqlite:///runs.db", QUIET).ratio_percent == 50


def test_one_ratio_or_no_translation_is_nothing_to_choose(asked, tmp_path, validation):
    plan = make_plan(asked(tmp_path, overrides=["ratios_percent=[50]"]))
    assert choose_ratio(plan, NOTHING, "parent", "sqlite:///runs.db", QUIET).ratio_percent == 50
    several = make_plan(asked(tmp_path, name="b", overrides=["ratios_percent=[50, 100]", "arms=[real, oracle]"]))
    sweep = choose_ratio(several, NOTHING, "parent", "sqlite:///runs.db", QUIET)
    assert (sweep.ratio_percent, sweep.arm, dict(sweep.val_dice)) == (50, None, {})
    assert validation[1] == []


def test_without_translations_another_arm_with_extra_images_is_swept(asked, tmp_path, validation):
    scores, _ = validation
    scores |= {50: 0.1, 100: 0.2}
    plan = make_plan(asked(tmp_path, overrides=["ratios_percent=[50, 100]", "arms=[real, real+matched]"]))
    sweep = choose_ratio(plan, NOTHING, "parent", "sqlite:///runs.db", QUIET)
    assert (sweep.ratio_percent, sweep.arm) == (100, "real+matched")
