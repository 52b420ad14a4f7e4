from dataclasses import replace

import pandas as pd
import pytest

from medgan.benefit.arms import ARMS, BY_NAME
from medgan.benefit.material import Material
from medgan.benefit.plan import make_plan
from medgan.benefit.tasks import Task, child_of
from medgan.evaluation.segmentation import METRICS


@pytest.fixture
def plan(asked, tmp_path):
    return make_plan(asked(tmp_path))


def test_every_child_has_a_folder_of_its_own(plan):
    children = [
        child_of(plan, arm, seed=seed, subset=subset, ratio_percent=ratio)
        for arm in ARMS
        for seed in (0, 1)
        for subset in (0, 1)
        for ratio in (50, 100)
    ]
    without = [child for child in children if not child.arm.extra]
    assert len({child.folder for child in children}) == len(children) - len(without) // 2
    assert {child.ratio_percent for child in without} == {0}


def test_a_child_is_trained_before_it_is_finished(plan):
    child = child_of(plan, BY_NAME["real"], seed=0, subset=0, ratio_percent=0)
    task = Task(plan, child, Material({}, (), (), None), "parent", "sqlite:///runs.db")
    child.folder.mkdir(parents=True)
    assert (child.trained, task.done) == (False, False)
    (child.folder / "validation.json").write_text('{"val_dice": 0.25}')
    assert (child.trained, child.score, task.done) == (True, 0.25, False)
    assert replace(task, test=False).done
    (child.folder / "rows.csv").write_text(",".join(METRICS) + "\n")
    assert task.done


def test_figures_of_before_there_was_a_metric_are_to_be_found_again(plan):
    child = child_of(plan, BY_NAME["real"], seed=0, subset=0, ratio_percent=0)
    child.folder.mkdir(parents=True)
    assert not child.finished
    table = pd.DataFrame(0.5, index=[0], columns=["subject", *METRICS])
    table.drop(columns="false_lesions").to_csv(child.folder / "rows.csv", index=False)
    assert not child.finished
    table.to_csv(child.folder / "rows.csv", index=False)
    assert child.finished


def test_arms_differ_in_augmentation_alone(plan):
    tasks = [
        Task(plan, child_of(plan, arm, seed=0, subset=0, ratio_percent=50), Material({}, (), (), None), "p", "t")
        for arm in ARMS
    ]
    settings = [task.config.model_dump(exclude={"augmentation"}) for task in tasks]
    assert all(each == settings[0] for each in settings)
    assert [task.config.augmentation == "standard" for task in tasks] == [arm.standard for arm in ARMS]


def test_an_arm_takes_its_images_its_extra_and_its_validation(plan):
    (source, target) = (plan.subjects.with_labels("train", name) for name in plan.pair.names)
    material = Material({"source": source, "target": target, "matched": target[:1]}, source[:1], target[:1], None)
    matched, oracle = (
        Task(plan, child_of(plan, BY_NAME[name], seed=0, subset=0, ratio_percent=50), material, "p", "t")
        for name in ("real+matched", "oracle")
    )
    assert (matched.studies, matched.extra, matched.validation) == (source, target[:1], source[:1])
    assert (oracle.studies, oracle.extra, oracle.validation) == (target, (), target[:1])
