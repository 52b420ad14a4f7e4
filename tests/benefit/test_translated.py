"""Which translations are trained on, and that a study's translator is its own; whole translations are in test_study."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from medgan.benefit.plan import make_plan
from medgan.benefit.translated import sifted, translate_labelled, translator_run
from medgan.data.splits import Split
from medgan.data.studies import Study
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.training.run_folder import RunFolder

QUIET = Console(quiet=True)
SOURCES = [Study(f"s{number}", "contrast", Path(f"s{number}/a.nii.gz"), Path("mask")) for number in range(3)]
DRAWN = [Study(f"s{number}", "plain", Path(f"drawn/s{number}.nii.gz"), Path("mask")) for number in range(3)]


@pytest.fixture
def trainings(monkeypatch):
    """Translators that are ordered, and not trained."""
    orders = []
    monkeypatch.setattr("medgan.benefit.translated.train", lambda order, console: orders.append(order))
    return orders


def begun(plan, name, split, config=None):
    run = RunFolder(plan.order.folder / name)
    run.start(config or plan.translator.config, split, {})
    return run


def test_what_keeps_its_labels_too_badly_is_left_out_with_its_score():
    scores = {"s0": 0.7, "s1": 0.69, "s2": float("nan")}
    kept, rejected = sifted(SOURCES, DRAWN, lambda source, drawn: scores[source.subject], 0.7)
    assert kept == (DRAWN[0],)
    assert rejected == {
        "s1.nii.gz": "label-keeping 0.69 is below 0.7",
        "s2.nii.gz": "label-keeping nan is below 0.7",
    }


def test_an_image_is_judged_with_its_own_translation():
    seen = []
    sifted(SOURCES, DRAWN, lambda source, drawn: seen.append((source, drawn)) or 1.0, 0.5)
    assert seen == list(zip(SOURCES, DRAWN, strict=True))


def test_without_a_threshold_all_are_kept():
    assert sifted(SOURCES, DRAWN, None, None) == (tuple(DRAWN), {})
    assert sifted(SOURCES, DRAWN, lambda source, drawn: 0.0, None) == (tuple(DRAWN), {})


def test_nothing_left_is_an_error_with_the_reasons():
    with pytest.raises(DataError, match=r"no translation keeps its labels.*label-keeping 0.25 is below 0.5"):
        sifted(SOURCES, DRAWN, lambda source, drawn: 0.25, 0.5)


def test_a_translator_is_ordered_with_its_settings_and_the_studys_split(asked, tmp_path, trainings, labelled):
    plan = make_plan(asked(tmp_path, overrides=["translator.cyclegan.cycle=7"]))
    begun(plan, "translator", plan.subjects.translator_split(plan.subjects.split.train), plan.translator.config)
    model = translator_run(plan, 0, "parent", "sqlite:///runs.db", QUIET)
    ((order,),) = (trainings,)
    assert model == plan.order.folder / "translator" / "model"
    assert (order.resume, order.overrides, order.parent, order.data) == (True, (), "parent", labelled)
    assert Split.load(order.split).train == ("s0", "s1", "s2")
    assert order.out / order.pipeline / order.name == model.parent


def test_a_new_translator_is_ordered_with_what_was_asked(asked, tmp_path, trainings, monkeypatch):
    plan = make_plan(asked(tmp_path, overrides=["translator.cyclegan.cycle=7"]))
    monkeypatch.setattr("medgan.benefit.translated.Split.load", lambda path: plan.subjects.split)
    translator_run(plan, 0, "parent", "sqlite:///runs.db", QUIET)
    assert "cyclegan.cycle=7" in trainings[0].overrides
    assert not trainings[0].resume


def test_a_stop_in_the_translator_says_that_the_same_command_goes_on(asked, tmp_path, monkeypatch):
    def stopped(order, console):
        raise KeyboardInterrupt("add --resume")

    monkeypatch.setattr("medgan.benefit.translated.train", stopped)
    with pytest.raises(KeyboardInterrupt, match="stopped in translator; the same command goes on from there"):
        translator_run(make_plan(asked(tmp_path)), 0, "parent", "sqlite:///runs.db", QUIET)


def test_each_subset_has_a_translator_of_its_own_that_sees_no_more(asked, tmp_path, trainings, monkeypatch):
    plan = make_plan(asked(tmp_path, overrides=["retrain_translator=true", "subsets=2", "labelled=2"]))
    monkeypatch.setattr(RunFolder, "split", plan.split)
    for subset in (0, 1):
        model = translator_run(plan, subset, "parent", "sqlite:///runs.db", QUIET)
        assert model.parent.name == f"translator,subset={subset}"
        assert Split.load(trainings[subset].split).train == plan.subsets[subset]


def test_a_given_model_is_used_and_nothing_is_trained(asked, tmp_path, trainings):
    plan = make_plan(asked(tmp_path))
    given = replace(plan, order=replace(plan.order, model=tmp_path / "model"))
    assert translator_run(given, 0, "parent", "sqlite:///runs.db", QUIET) == tmp_path / "model"
    assert trainings == []


def test_leak_a_translator_in_the_studys_folder_saw_a_test_subject(asked, tmp_path, trainings):
    plan = make_plan(asked(tmp_path))
    own = plan.subjects.translator_split(("s0", "s1", "s2"))
    begun(plan, "translator", own.model_copy(update={"train": ("s5",), "test": ("s0", "s6")}))
    with pytest.raises(LeakageError, match=r"the translator of .* cannot serve this study"):
        translator_run(plan, 0, "parent", "sqlite:///runs.db", QUIET)
    assert trainings == []


def test_a_translator_of_another_split_or_other_settings_is_not_taken_for_the_studys(asked, tmp_path, trainings):
    plan = make_plan(asked(tmp_path))
    begun(plan, "translator", plan.subjects.translator_split(("s0", "s1")))
    with pytest.raises(ConfigError, match="holds another split"):
        translator_run(plan, 0, "parent", "sqlite:///runs.db", QUIET)
    other = make_plan(asked(tmp_path, name="other"))
    config = other.translator.config.model_copy(update={"seed": 9})
    begun(other, "translator", other.subjects.translator_split(("s0", "s1", "s2")), config)
    with pytest.raises(ConfigError, match="seed was 9 and is now 0"):
        translator_run(other, 0, "parent", "sqlite:///runs.db", QUIET)
    assert trainings == []


def test_leak_a_test_subject_among_what_is_translated(asked, tmp_path):
    plan = make_plan(asked(tmp_path))
    leaking = replace(
        plan.subjects, split=plan.subjects.split.model_copy(update={"train": ("s0", "s5"), "test": ("s6",)})
    )
    guard = plan.guard
    changed = replace(plan, subjects=leaking, subsets=(("s0", "s5"),))
    changed.__dict__["guard"] = guard
    with pytest.raises(LeakageError, match=r"the translation of training images would see .*'s5'"):
        translate_labelled(changed, 0, tmp_path / "model", None, QUIET)
