"""A generator for each draw: trained once, on its few subjects alone."""

import json
from dataclasses import replace

import pytest

from medgan.benefit.augmentation import generators as module
from medgan.benefit.augmentation.generators import generator_task, run_generator, trained_generator
from medgan.benefit.augmentation.methods import synthesiser_of
from medgan.benefit.augmentation.plan import Draw, make_plan
from medgan.benefit.records import read_json, write_json
from medgan.errors import ConfigError, LeakageError
from medgan.synthesis.methods import Bent, Elastic
from medgan.synthesis.training import GeneratorDescription
from medgan.tracking import Tracker
from medgan.training.model_folder import read_model


@pytest.fixture(scope="module")
def trained(asked, tmp_path_factory):
    """The generator of two subjects, and who was given to its training."""
    plan, seen = make_plan(asked(tmp_path_factory.mktemp("generator"))), {}

    def watched(train, validation, config, **named):
        seen.update(train=train, validation=validation, config=config, **named)
        return train_generator(train, validation, config, **named)

    train_generator = module.train_generator
    with (
        pytest.MonkeyPatch.context() as patch,
        Tracker.start(None, experiment="few", run_name="study", parameters={}, tags={}) as parent,
    ):
        patch.setattr(module, "train_generator", watched)
        task = generator_task(plan, plan.of_size(2)[0], parent.id, parent.uri)
        run_generator(task)
    return task, seen


def test_it_learns_from_the_few_alone_and_nobody_chooses_its_epoch(trained):
    task, seen = trained
    assert [case.subject for case in seen["train"]] == list(task.child.draw.subjects)
    assert [case.subject for case in seen["validation"]] == ["s5"]
    assert seen["config"].fit.keep == "last"
    description = trained_generator(task.plan, task.child.draw).description
    assert set(description.subjects) == set(task.child.draw.subjects)
    assert description.origin.split_hash == task.plan.split.hash


def test_it_is_trained_once(trained, monkeypatch):
    task, _ = trained
    assert task.done
    assert task.child.outcome
    monkeypatch.setattr(module, "train_generator", lambda *given, **named: pytest.fail("trained twice"))
    run_generator(task)


def unbent(plan):
    return replace(plan, config=plan.config.model_copy(update={"bend": False}))


def test_methods_are_known_by_their_names(trained):
    task, _ = trained
    plan, draw = unbent(task.plan), task.child.draw
    assert [synthesiser_of(plan, method, draw).name for method in ("copy-paste", "carve-mix")] == [
        "copy-paste",
        "carve-mix",
    ]
    generator = synthesiser_of(plan, "generator", draw)
    assert generator.config.placement == "replace"
    added = replace(plan, config=plan.config.model_copy(update={"generator_insertion": {"placement": "add"}}))
    assert synthesiser_of(added, "generator", draw).config.placement == "add"
    assert synthesiser_of(added, "copy-paste", draw).config.placement == "replace"


def test_bending_is_a_method_and_may_follow_every_other(trained):
    task, _ = trained
    plan, draw = unbent(task.plan), task.child.draw
    bending = replace(plan, config=plan.config.model_copy(update={"bend": True}))
    assert isinstance(synthesiser_of(plan, "elastic", draw), Elastic)
    assert isinstance(synthesiser_of(bending, "elastic", draw), Elastic)
    for method in ("copy-paste", "generator"):
        assert not isinstance(synthesiser_of(plan, method, draw), Bent)
        bent = synthesiser_of(bending, method, draw)
        assert isinstance(bent, Bent)
        assert bent.name == synthesiser_of(plan, method, draw).name


def test_a_test_subject_is_not_learnt_from(plan):
    with pytest.raises(LeakageError, match="the training of generator,n=2,seed=0 would see who is tested: 's6'"):
        run_generator(generator_task(plan, Draw(2, 0, ("s0", "s6")), "parent", "uri"))


def test_a_generator_that_has_learnt_from_somebody_else_is_refused(trained, monkeypatch):
    task, _ = trained
    known = read_model(task.child.model, GeneratorDescription)
    more = known.description.model_copy(update={"subjects": (*known.description.subjects, "s7")})
    monkeypatch.setattr(module, "read_model", lambda folder, kind: replace(known, description=more))
    with pytest.raises(LeakageError, match="has learnt from s7, who are not among the 2 subjects of n=2,seed=0"):
        synthesiser_of(task.plan, "generator", task.child.draw)


@pytest.mark.parametrize(
    ("key", "error"), [("split_hash", LeakageError), ("images", ConfigError), ("generator", ConfigError)]
)
def test_a_generator_that_was_begun_otherwise_is_refused(trained, key, error):
    task, _ = trained
    path = task.child.folder / "child.json"
    before = read_json(path)
    write_json(path, json.loads(json.dumps(before)) | {key: "other"})
    try:
        with pytest.raises(error, match="begun"):
            run_generator(task)
        with pytest.raises(error, match="begun"):
            trained_generator(task.plan, task.child.draw)
    finally:
        write_json(path, before)
