"""One segmenter: what it sees, what it leaves, and whom it may not see."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medgan.benefit.augmentation import children as module
from medgan.benefit.augmentation.arms import BY_NAME
from medgan.benefit.augmentation.children import KEYS, extra_cases, identity, run_child
from medgan.benefit.augmentation.material import cases_task, run_cases
from medgan.benefit.augmentation.plan import Draw
from medgan.benefit.augmentation.tasks import Task, child_of
from medgan.benefit.records import read_json
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.segmentation import METRICS
from medgan.segmentation.training import train_segmenter
from medgan.tracking import Tracker


@pytest.fixture
def task_of(plan):
    """Tasks below an MLflow run: ``task_of("real", test=False)``."""
    with Tracker.start(None, experiment="few", run_name="study", parameters={}, tags={}) as parent:
        yield lambda arm, draw=None, ratio=100, **more: Task(
            plan, child_of(plan, BY_NAME[arm], draw or plan.of_size(2)[0], ratio), parent.id, parent.uri, **more
        )


def test_it_is_trained_and_tested_once(task_of, monkeypatch):
    task = task_of("real")
    run_child(task)
    rows = pd.read_csv(task.child.folder / "rows.csv")
    assert list(rows.columns) == [*KEYS, *METRICS]
    assert set(rows["subject"]) == {"s6", "s7"}
    assert set(rows["organ"]) == {"front", "back"}
    assert rows[["lesion_f1", "false_lesions"]].isna().all(axis=None)
    assert task.done
    monkeypatch.setattr(module, "train_segmenter", lambda *given, **named: pytest.fail("trained twice"))
    run_child(task)
    rows.drop(columns="false_lesions").to_csv(task.child.folder / "rows.csv", index=False)  # of an earlier version
    run_child(task)
    pd.testing.assert_frame_equal(pd.read_csv(task.child.folder / "rows.csv"), rows)


def test_the_sweep_tests_nobody(task_of):
    task = task_of("real", test=False)
    run_child(task)
    assert task.done
    assert not task.child.finished
    assert 0 <= task.child.score <= 1
    assert not replace(task, test=True).done


def test_an_arm_sees_its_few_subjects_its_cases_and_its_share(task_of, plan, brightened, monkeypatch):
    seen = {}

    def watched(train, validation, config, **named):
        seen.update(named, train=train, validation=validation, augmentation=config.augmentation)
        return train_segmenter(train, validation, config, **named)

    monkeypatch.setattr(module, "train_segmenter", watched)
    run_cases(cases_task(plan, "copy-paste", plan.of_size(2)[0]))
    run_child(task_of("standard+copy-paste", ratio=25, test=False))
    assert [case.subject for case in seen["train"]] == list(plan.of_size(2)[0].subjects)
    assert [case.subject for case in seen["validation"]] == ["s5"]
    assert (len(seen["extra"]), seen["extra_share"], seen["augmentation"]) == (3, pytest.approx(0.2), "standard")
    run_child(task_of("real", test=False))
    assert (seen["extra"], seen["extra_share"], seen["augmentation"]) == ([], 0, "none")


def test_the_control_has_the_same_images_and_other_labels(task_of, plan, brightened, monkeypatch):
    learnt = SimpleNamespace(description=SimpleNamespace(weights_sha256="0"))
    monkeypatch.setattr("medgan.benefit.augmentation.material.trained_generator", lambda *_: learnt)
    run_cases(cases_task(plan, "generator", plan.of_size(2)[0]))
    own, mixed = (extra_cases(task_of(arm)) for arm in ("standard+generator", "standard+shuffled"))
    for a, b in zip(own, mixed, strict=True):
        np.testing.assert_array_equal(a.image.voxels, b.image.voxels)
        assert (a.labels != b.labels).any()


def test_a_test_subject_is_not_learnt_from(task_of):
    with pytest.raises(LeakageError, match="the training of real,n=2,seed=0 would see who is tested: 's7'"):
        run_child(task_of("real", draw=Draw(2, 0, ("s0", "s7"))))


def test_what_was_begun_otherwise_is_refused(task_of, plan):
    task = task_of("real", test=False)
    run_child(task)
    slower = plan.segmenter.model_copy(update={"rate": 0.1})
    with pytest.raises(ConfigError, match="begun with other segmenter"):
        run_child(replace(task, plan=replace(plan, segmenter=slower)))


def test_other_cases_are_another_child(task_of, plan, brightened):
    task = task_of("standard+copy-paste")
    assert identity(task)["synthetic"] is None
    run_cases(cases_task(plan, "copy-paste", plan.of_size(2)[0]))
    assert identity(task)["synthetic"] == read_json(task.extra / "cases.json")["sha256"]
