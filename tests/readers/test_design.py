from collections import Counter

import pytest

from medgan.errors import ConfigError, DataError
from medgan.readers.design import Key, ReaderStudy, ordered, reserved_subjects


def positions(key, reader=0):
    return {trial.id: place for place, trial in enumerate(ordered(key.trials, key.settings, key.seed, reader))}


def test_practice_comes_first_on_subjects_of_its_own_and_repeats_come_later_the_other_way_round(choice_study):
    key = choice_study.key
    roles = Counter(trial.role for trial in key.trials)
    assert roles == {"practice": 10, "scored": 12, "repeat": 2, "catch": 1}
    assert [trial.role for trial in key.trials[:10]] == ["practice"] * 10
    practised = {trial.subject for trial in key.trials if trial.role in ("practice", "catch")}
    assert practised.isdisjoint(trial.subject for trial in key.trials if trial.role == "scored")
    place, trials = positions(key), {trial.id: trial for trial in key.trials}
    for trial in key.trials:
        if trial.role == "repeat":
            first = trials[trial.repeats]
            assert place[first.id] < place[trial.id]
            assert trial.stacks == first.stacks[::-1]
            assert trial.answer != first.answer
    for trial in key.trials:
        assert trial.arms[("left", "right").index(trial.answer)] == "real"
        assert len({trial.subject, *(s.subject for s in key.stacks if s.id in trial.stacks)}) == 1


def test_the_two_images_of_a_subject_come_in_different_halves(make):
    key = make("single").key
    scored = [trial for trial in key.trials if trial.role == "scored"]
    assert len(scored) == 12
    for subject in {trial.subject for trial in scored}:
        assert {trial.half for trial in scored if trial.subject == subject} == {0, 1}
    assert all(trial.answer == trial.arms[0].replace("catch", "synthetic") for trial in key.trials)
    assert len([trial for trial in scored if trial.half == 0 and trial.answer == "real"]) == 3


def test_ids_sides_and_orders_need_the_seed(make):
    one, again, other = (make(seed=seed).key for seed in ("a", "a", "b"))
    assert one == again
    assert {stack.id for stack in one.stacks}.isdisjoint(stack.id for stack in other.stacks)
    assert [t.id for t in ordered(one.trials, one.settings, one.seed, 1)] != [t.id for t in one.trials]
    assert Counter(t.answer for key in (one, other) for t in key.trials).keys() == {"left", "right"}


def test_one_subject_is_too_few_for_practice_and_a_key_is_told_from_other_files(tmp_path):
    with pytest.raises(ConfigError, match="--burn-in 0 --catch 0"):
        reserved_subjects(["a"], ReaderStudy(), "seed")
    assert reserved_subjects(["a"], ReaderStudy(burn_in=0, catch=0), "seed") == []
    assert len(reserved_subjects(list("abcdefgh"), ReaderStudy(), "seed")) == 2
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(DataError, match="not the key of a reader study"):
        Key.load(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        Key.load(tmp_path / "nowhere")
