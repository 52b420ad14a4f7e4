"""The ratio is chosen by the mean of all seeds, on validation; nothing is trained here."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from medgan.benefit.augmentation import ratio as module
from medgan.benefit.augmentation.plan import make_plan
from medgan.benefit.augmentation.ratio import choose_ratios
from medgan.benefit.failures import Failure
from medgan.benefit.records import write_json
from medgan.benefit.segmenters import SCORE

QUIET = Console(quiet=True)
SCORES = {  # by arm, ratio and seed
    ("standard", 0): (0.9, 0.9),
    ("standard+copy-paste", 25): (0.8, 0.5),
    ("standard+copy-paste", 100): (0.6, 0.8),
    ("standard+carve-mix", 25): (0.7, 0.7),
    ("standard+carve-mix", 100): (0.7, 0.7),
}


@pytest.fixture
def swept(asked, tmp_path, monkeypatch):
    """Plans whose trainings score as ``SCORES`` says; those in ``fails`` do not end."""
    asks, fails = [], set()

    def run_tasks(tasks, run, jobs, console):
        asks.extend(tasks)
        for task in tasks:
            key = (task.child.arm.name, task.child.ratio_percent)
            if key not in fails:
                write_json(task.child.folder / SCORE, {"val_dice": SCORES[key][task.child.draw.seed]})
        return [
            Failure(task.child.name, "no") for task in tasks if (task.child.arm.name, task.child.ratio_percent) in fails
        ]

    monkeypatch.setattr(module, "run_tasks", run_tasks)
    arms = "arms=[real, standard, standard+copy-paste, standard+carve-mix]"

    def run(*overrides):
        plan = make_plan(asked(tmp_path, seeds=(0, 1), overrides=[arms, "ratios_percent=[0, 25, 100]", *overrides]))
        ready = {method: plan.of_size(2) for method in plan.config.methods}
        sweeps, found.lost = choose_ratios(plan, 2, ready, "parent", "uri", QUIET)
        return sweeps

    found = SimpleNamespace(run=run, asks=asks, fails=fails, lost=())
    return found


def test_the_best_mean_over_seeds_is_taken_for_each_method_and_zero_never(swept):
    found = {sweep.method: sweep for sweep in swept.run()}
    assert found["copy-paste"].ratio_percent == 100
    assert found["copy-paste"].val_dice == pytest.approx({0: 0.9, 25: 0.65, 100: 0.7})
    assert found["copy-paste"].arm == "standard+copy-paste"
    assert found["carve-mix"].ratio_percent == 25


def test_what_methods_share_is_trained_once_and_nobody_is_tested(swept):
    swept.run()
    names = [task.child.name for task in swept.asks]
    assert len(set(names)) == len(names) == 2 * (1 + 2 + 2)
    assert not any(task.test for task in swept.asks)


def test_a_ratio_that_failed_with_a_seed_is_no_choice(swept):
    swept.fails.add(("standard+copy-paste", 100))
    assert {sweep.method: sweep.ratio_percent for sweep in swept.run()} == {"copy-paste": 25, "carve-mix": 25}


def test_a_method_of_which_nothing_could_be_trained_is_named_and_stops_no_other(swept):
    swept.fails |= {("standard+carve-mix", 25), ("standard+carve-mix", 100)}
    assert [sweep.method for sweep in swept.run()] == ["copy-paste"]
    (lost,) = swept.lost
    assert lost.child == "carve-mix,n=2"
    assert lost.reason.startswith("none of its ratios could be trained: ")


def test_a_single_ratio_is_taken_as_it_is(swept):
    assert [(s.ratio_percent, s.arm) for s in swept.run("ratios_percent=[50]")] == [(50, None), (50, None)]
    assert swept.asks == []
