"""Synthetic cases: made once, of the few alone."""

from dataclasses import replace

import numpy as np
import pytest

from medgan.benefit.augmentation.cases import read_cases, read_record
from medgan.benefit.augmentation.generators import real_cases
from medgan.benefit.augmentation.material import cases_task, run_cases, synthesised, synthetic_cases
from medgan.benefit.augmentation.plan import Draw
from medgan.benefit.records import write_json
from medgan.errors import ConfigError, DataError, InsertionError, LeakageError
from medgan.synthesis.insertion import Synthetic


@pytest.fixture
def task(plan):
    return cases_task(plan, "copy-paste", plan.of_size(2)[0])


def with_method(monkeypatch, synthesise):
    made = type("Made", (), {"name": "made", "synthesise": lambda self, *given: synthesise(*given)})()
    monkeypatch.setattr("medgan.benefit.augmentation.material.synthesiser_of", lambda *_: made)


def test_the_wanted_cases_are_made_of_all_subjects_in_turn(task, brightened):
    run_cases(task)
    record = read_record(task.child.folder)
    own = list(task.child.draw.subjects)
    assert [each["parents"] for each in record["cases"]] == [own, own[::-1], own]
    assert task.child.outcome == "3 made"


def test_what_is_there_is_not_made_again(task, brightened, monkeypatch):
    run_cases(task)
    stamps = {path: path.stat().st_mtime_ns for path in task.child.folder.iterdir()}
    run_cases(task)
    assert {path: path.stat().st_mtime_ns for path in task.child.folder.iterdir()} == stamps


def test_a_case_is_a_function_of_its_number_alone(plan, brightened):
    real = real_cases(plan, plan.studies(plan.of_size(3)[0]))
    few, many = (list(synthesised(brightened(), real, real, 5, wanted)) for wanted in (2, 6))
    for one, other in zip(few, many[:2], strict=True):
        np.testing.assert_array_equal(one.case.image.voxels, other.case.image.voxels)
    levels = {float(each.case.image.voxels[0, 0, 0]) for each in many}
    assert len(levels) == len(many)


def test_a_recipient_in_whom_nothing_can_be_placed_is_counted(task, brightened, monkeypatch):
    first = task.child.draw.subjects[0]

    def synthesise(recipient, donors, rng):
        if recipient.subject == first:
            raise InsertionError("no room")
        return Synthetic(recipient, (recipient.subject,), {})

    with_method(monkeypatch, synthesise)
    run_cases(task)
    record = read_record(task.child.folder)
    assert (record["refused"], record["reasons"], len(record["cases"])) == (3, ["no room"], 3)
    assert task.child.outcome == "3 made, 3 refused"


def test_it_fails_where_nothing_can_be_placed_in_anybody(task, monkeypatch):
    def synthesise(recipient, donors, rng):
        raise InsertionError("no room")

    with_method(monkeypatch, synthesise)
    with pytest.raises(DataError, match="nothing could be placed in any of 2 subjects: no room"):
        run_cases(task)
    assert read_record(task.child.folder) == {}


def test_a_test_subject_is_no_recipient_and_no_donor(plan, brightened):
    drawn = Draw(2, 0, ("s0", "s6"))
    with pytest.raises(LeakageError, match=r"cases of copy-paste,n=2,seed=0 would see who is tested: 's6'"):
        run_cases(cases_task(plan, "copy-paste", drawn))


def test_a_method_that_brings_in_somebody_else_is_refused(task, monkeypatch):
    with_method(monkeypatch, lambda recipient, donors, rng: Synthetic(recipient, (recipient.subject, "s7"), {}))
    with pytest.raises(LeakageError, match="is made of s7, who are not among the 2 subjects of n=2,seed=0"):
        run_cases(task)
    assert read_record(task.child.folder) == {}


def test_cases_on_disk_of_somebody_else_are_refused(task, brightened):
    run_cases(task)
    record = read_record(task.child.folder)
    record["cases"][1]["parents"][1] = "s6"
    write_json(task.child.folder / "cases.json", record)
    for again in (
        lambda: run_cases(task),
        lambda: synthetic_cases(task.plan, "copy-paste", task.child.draw, exchanged=False),
    ):
        with pytest.raises(LeakageError, match="is made of s6"):
            again()


def test_cases_of_another_split_are_refused(task, brightened):
    run_cases(task)
    record = read_record(task.child.folder)
    write_json(task.child.folder / "cases.json", record | {"split_hash": "other"})
    with pytest.raises(LeakageError, match="another split"):
        run_cases(task)


@pytest.mark.parametrize(("setting", "value", "told"), [("cases", 4, "wanted"), ("bend", False, "bend")])
def test_cases_that_were_made_otherwise_are_refused(task, brightened, setting, value, told):
    run_cases(task)
    assert getattr(task.plan.config, setting) != value
    other = replace(task.plan, config=task.plan.config.model_copy(update={setting: value}))
    with pytest.raises(ConfigError, match=f"other {told}"):
        run_cases(replace(task, plan=other))


def test_exchanged_labels_are_those_of_another_recipient(task, brightened):
    run_cases(task)
    own, mixed = (
        synthetic_cases(task.plan, "copy-paste", task.child.draw, exchanged=exchanged) for exchanged in (False, True)
    )
    assert all((a.labels != b.labels).any() for a, b in zip(own, mixed, strict=True))
    for a, b in zip(read_cases(task.child.folder), own, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
