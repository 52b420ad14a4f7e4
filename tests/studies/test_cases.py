"""Synthetic cases: made of a draw's few subjects alone, kept, and read as they were."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from medgan.data.preparation import Prepared
from medgan.data.streams import write_json
from medgan.errors import ConfigError, DataError, InsertionError, LeakageError
from medgan.segmentation.labelled import Labelled
from medgan.studies import cases as module
from medgan.studies.augmentation import BY_NAME, Augmentation
from medgan.studies.cases import (
    CaseRecipe,
    Draw,
    SyntheticCases,
    _read_cases,
    _synthesised,
    _write_cases,
    make_cases,
    outcome_of,
    shuffled,
)  # fmt: skip
from medgan.studies.engine import read_json
from medgan.studies.segmenter import CaseReader
from medgan.synthesis.generators import GeneratorDescription
from medgan.synthesis.insertion import Synthetic
from medgan.synthesis.methods import Bent, Elastic
from medgan.training.model_folder import read_model

DRAW = Draw(2, 0, ("s1", "s2"))


def case(subject, number, shape=(4, 5, 3)):
    random = np.random.default_rng(number)
    image = Prepared(
        random.normal(size=shape).astype(np.float32), np.diag([1.0, 2.0, 3.0, 1.0]), ((0, 4), (1, 5), (0, 3)), (0.1, 7)
    )
    return Labelled(subject, image, random.integers(3, size=shape).astype(np.uint8))


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 1)], ids=["3d", "2d"])
def test_a_case_is_read_as_it_was_made(tmp_path, shape):
    whole = case("s1", 0, shape)
    _write_cases(tmp_path, [Synthetic(whole, ("s1", "s2"), {"size": 3})], {"method": "copy-paste"})
    (read,) = _read_cases(tmp_path)
    assert read.subject == "s1"
    np.testing.assert_array_equal(read.image.voxels, whole.image.voxels)
    np.testing.assert_array_equal(read.image.affine, whole.image.affine)
    np.testing.assert_array_equal(read.labels, whole.labels)
    assert (read.image.body, read.image.bounds) == (whole.image.body, whole.image.bounds)
    assert (read.image.voxels.dtype, read.labels.dtype) == (np.float32, np.uint8)


def test_the_record_says_whom_each_was_made_of_and_tells_other_voxels_apart(tmp_path):
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for folder, number in ((one, 0), (same, 0), (other, 1)):
        _write_cases(folder, [Synthetic(case("s1", number), ("s1", "s2"), {"size": 3})], {"refused": 0})
    one, same, other = (read_json(folder / "cases.json") for folder in (one, same, other))
    assert one == same
    assert one["cases"] == [{"subject": "s1", "parents": ["s1", "s2"], "how": {"size": 3}}]
    assert one["sha256"] != other["sha256"]


def test_cases_that_were_not_all_made_are_not_there_and_a_damaged_one_is_named(tmp_path):
    own = Synthetic(case("s1", 0), ("s1",), {})

    def broken():
        yield own
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _write_cases(tmp_path, broken(), {})
    assert SyntheticCases(tmp_path, DRAW).sha256 is None
    with pytest.raises(DataError, match="holds no synthetic cases"):
        _read_cases(tmp_path)
    _write_cases(tmp_path, [own], {})
    (tmp_path / "0000.npz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"0000.npz: cannot be read"):
        _read_cases(tmp_path)


def test_no_case_keeps_its_own_labels_nor_those_of_its_own_anatomy():
    cases = [case("s1", 0), case("s1", 1), case("s2", 2, (6, 5, 3))]
    mixed = shuffled(cases, ["s1", "s1", "s2"])
    for before, after in zip(cases, mixed, strict=True):
        np.testing.assert_array_equal(after.image.voxels, before.image.voxels)
        assert after.labels.shape == before.image.voxels.shape
    np.testing.assert_array_equal(mixed[2].labels[[0, 2, 3, 5]], cases[0].labels[[0, 1, 2, 3]])
    np.testing.assert_array_equal(mixed[0].labels, cases[2].labels[[0, 2, 3, 5]])
    np.testing.assert_array_equal(mixed[1].labels, mixed[0].labels)
    # Of one anatomy the next case's labels serve.
    np.testing.assert_array_equal(shuffled(cases[:2], ["s1", "s1"])[0].labels, cases[1].labels)
    with pytest.raises(DataError, match="cannot be exchanged"):
        shuffled(cases[:1], ["s1"])


def brightened(recipient, donors, rng):
    """A case of a recipient: its image and a number; the first donor is said to have given it."""
    voxels = np.asarray(recipient.image.voxels) + np.float32(rng.uniform(1, 9))
    case = Labelled(recipient.subject, replace(recipient.image, voxels=voxels), recipient.labels)
    return Synthetic(case, (recipient.subject, donors[0].subject), {})


def refuse(recipient, donors, rng):
    raise InsertionError("no room")


@pytest.fixture
def study(settled):
    return settled(Augmentation, "cases=3", "bend=false")


@pytest.fixture
def make(study, monkeypatch):
    """Make cases of the first draw by a function: ``make(synthesise)`` gives their folder and record."""

    def run(synthesise=brightened):
        own = SimpleNamespace(name="own", synthesise=synthesise)
        monkeypatch.setattr(CaseRecipe, "synthesiser", lambda self, device: own)
        task = study._cases_task("copy-paste", study.draws[0])
        folder = study.order.folder / task.name
        make_cases(SimpleNamespace(folder=folder, device="cpu"), *task.args)
        return folder, read_json(folder / "cases.json")

    return run


def test_the_wanted_cases_are_made_of_all_subjects_in_turn(study, make):
    folder, record = make()
    own = list(study.draws[0].subjects)
    assert [each["parents"] for each in record["cases"]] == [own, own[::-1], own]
    assert outcome_of(folder) == "3 made"
    as_made, mixed = (SyntheticCases(folder, study.draws[0], exchanged)(study.segmenter) for exchanged in (False, True))
    for a, b in zip(as_made, mixed, strict=True):
        np.testing.assert_array_equal(a.image.voxels, b.image.voxels)
        assert (a.labels != b.labels).any(), "exchanged labels are those of another recipient"


def test_a_case_is_a_function_of_its_number_alone(study):
    real = CaseReader(study._of(study.draws[1].labelled))(study.segmenter)
    fewer, more = (
        list(_synthesised(SimpleNamespace(name="own", synthesise=brightened), real, real, 5, wanted))
        for wanted in (2, 6)
    )
    for one, other in zip(fewer, more[:2], strict=True):
        np.testing.assert_array_equal(one.case.image.voxels, other.case.image.voxels)
    assert len({float(each.case.image.voxels[0, 0, 0]) for each in more}) == len(more)


def test_a_recipient_in_whom_nothing_can_be_placed_is_counted_and_nothing_at_all_is_an_error(study, make):
    def synthesise(recipient, donors, rng):
        if recipient.subject == study.draws[0].subjects[0]:
            refuse(recipient, donors, rng)
        return Synthetic(recipient, (recipient.subject,), {})

    with pytest.raises(DataError, match="nothing could be placed in any of 2 subjects: no room"):
        make(refuse)
    assert not list(study.order.folder.rglob("cases.json"))
    folder, record = make(synthesise)
    assert (record["refused"], record["reasons"], len(record["cases"])) == (3, ["no room"], 3)
    assert outcome_of(folder) == "3 made, 3 refused"


def test_leak_a_test_subject_is_no_recipient_no_donor_and_teaches_no_generator(study):
    drawn = Draw(2, 0, ("s0", "s6"))
    for task in (study._cases_task("copy-paste", drawn), study._generator_task(drawn)):
        with pytest.raises(LeakageError, match=r"would see who is tested: 's6'"):
            study.guard.admit(task.scans, task.name)


def test_leak_a_method_that_brings_in_somebody_else_and_cases_on_disk_of_such(study, make):
    with pytest.raises(LeakageError, match="is made of s7, who are not among the 2 subjects of n=2,seed=0"):
        make(lambda recipient, donors, rng: Synthetic(recipient, (recipient.subject, "s7"), {}))
    assert not list(study.order.folder.rglob("cases.json"))
    folder, record = make()
    record["cases"][1]["parents"][1] = "s6"
    write_json(folder / "cases.json", record)
    with pytest.raises(LeakageError, match="is made of s6"):
        SyntheticCases(folder, study.draws[0])(study.segmenter)


def test_healthy_scans_are_added_as_they_are(settled, tmp_path):
    added = ["insertion.placement=add", "generator_insertion={}", "healthy=1", "arms=[standard, standard+healthy]"]
    study = settled(Augmentation, "cases=3", *added)
    task = study._cases_task("healthy", study.draws[0])
    make_cases(SimpleNamespace(folder=tmp_path / "cases", device="cpu"), *task.args)
    (healthy,) = CaseReader(study._of(study.draws[0].healthy))(study.segmenter)
    cases = _read_cases(tmp_path / "cases")
    assert len(cases) == 3
    for each in cases:
        np.testing.assert_array_equal(each.image.voxels, healthy.image.voxels)
        assert not each.labels.any()


@pytest.fixture(scope="module")
def trained(golden, ordered):
    """The golden study, whose generator of two subjects is trained, and that generator."""
    folder = golden.resumed("augmentation").folder
    order = ordered("augmentation", folder.parents[1], name=folder.name)
    return Augmentation(order, Console(quiet=True)), folder / "generators" / "n=2,seed=0" / "model"


def recipe(study, method, **changes):
    (own,) = study._cases_task(method, study.draws[0]).args
    return replace(own, **changes)


def test_methods_insert_as_the_settings_say_and_bending_may_follow_every_other(trained):
    study, _ = trained
    for method in ("copy-paste", "carve-mix", "generator"):
        plain = recipe(study, method, bend=False).synthesiser("cpu")
        assert plain.config.placement == "replace"
        assert not isinstance(plain, Bent)
        bent = recipe(study, method, bend=True).synthesiser("cpu")
        assert isinstance(bent, Bent)
        assert bent.name == plain.name
        if method != "generator":
            assert plain.name == method
    assert isinstance(recipe(study, "elastic", bend=True).synthesiser("cpu"), Elastic)
    added = study.config.model_copy(update={"generator_insertion": {"placement": "add"}}).insertion_of("generator")
    assert recipe(study, "generator", insertion=added, bend=False).synthesiser("cpu").config.placement == "add"
    whole = study.config.insertion.model_copy(update={"placement": "whole"})
    with pytest.raises(ConfigError, match="whole"):
        recipe(study, "copy-paste", insertion=whole).synthesiser("cpu")


def test_a_generator_learns_from_the_few_alone_and_leak_one_that_has_learnt_from_somebody_else(trained, monkeypatch):
    study, path = trained
    known = read_model(path, GeneratorDescription)
    description, own = known.description, recipe(study, "generator")
    assert set(description.subjects) == set(study.draws[0].subjects)
    assert description.origin.split_hash == study.split.hash
    assert description.config.fit.keep == "last", "nobody chooses its epoch"
    more = description.model_copy(update={"subjects": (*description.subjects, "s7")})
    monkeypatch.setattr(module, "read_model", lambda *given: replace(known, description=more))
    with pytest.raises(LeakageError, match="has learnt from s7, who are not among the 2 subjects of n=2,seed=0"):
        own.synthesiser("cpu")


def test_other_cases_and_settings_are_other_inputs(make, study):
    task = study._task(BY_NAME["standard+copy-paste"], study.draws[0], 100)
    assert task.inputs["synthetic"] is None
    _, record = make()
    assert study._task(BY_NAME["standard+copy-paste"], study.draws[0], 100).inputs["synthetic"] == record["sha256"]
    before = study._cases_task("copy-paste", study.draws[0]).inputs
    for change in ({"cases": 4}, {"bend": True}):
        study.config = study.config.model_copy(update=change)
        assert study._cases_task("copy-paste", study.draws[0]).inputs != before
