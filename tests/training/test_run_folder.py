import json
import os
import re
import time

import pytest

from medgan.config import Config, check_name, read_yaml
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, ModelError
from medgan.training.run_folder import (
    RunFolder,
    changed_settings,
    is_begun,
    new_run,
    run_to_resume,
    split_of_model,
)

SPLIT = Split(train=("a",), validation=("b",), test=(), files={})


class Settings(Config):
    epochs: int = 3


def begin(root, name=None, **facts):
    run = new_run(root, name)
    run.start(Settings(), SPLIT, facts)
    return run


def test_a_run_keeps_its_settings_its_split_and_its_facts_which_are_added_to(tmp_path):
    run = begin(tmp_path, "one", data_fingerprint="abc")
    run.note({"mlflow_run_id": "r"})
    assert read_yaml(run.config) == {"epochs": 3}
    assert Split.load(run.split) == SPLIT
    facts = json.loads((run.path / "run.json").read_text())
    assert facts.items() >= {"data_fingerprint": "abc", "mlflow_run_id": "r"}.items()
    assert {"started", "host"} <= facts.keys()
    assert RunFolder(run.path).facts() == facts
    assert {path.name for path in run.path.iterdir()} == {"config.yaml", "split.json", "run.json"}
    with pytest.raises(ConfigError, match=r"one holds a run already; choose another --name, or go on .* --resume"):
        new_run(tmp_path, "one")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "/tmp/x", "a/../../x", "a//b", "a/", "/", "a/.", "..\\x", "C:x", ".hidden", " a", "a ",
        "a\nb", "a\x1b[2J", "a\x00b", "a\u202eb", "\ud800", "x" * 201, "ä" * 150,
    ],
    ids=ascii,
)  # fmt: skip
def test_a_name_leads_nowhere_but_into_its_folder(tmp_path, name):
    for use in (new_run, run_to_resume, is_begun):
        with pytest.raises(ConfigError, match="is not that of a folder"):
            use(tmp_path / "runs", name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["one", "Über-2", "a b", "lr=1e-4,seed=0", "x" * 200, "study/one"])
def test_a_plain_name_is_taken_and_a_studys_runs_lie_in_its_folder(tmp_path, name):
    assert new_run(tmp_path, name).path == tmp_path / name
    assert not is_begun(tmp_path, name)
    begin(tmp_path, name)
    assert is_begun(tmp_path, name)


def test_no_user_names_a_studys_run_and_to_go_on_or_start_needs_a_name(tmp_path):
    with pytest.raises(ConfigError, match="is not that of a folder"):
        check_name("study/one")
    with pytest.raises(ConfigError, match="--resume-or-start needs a --name"):
        is_begun(tmp_path, None)


def test_settings_that_changed_are_named():
    assert changed_settings(Settings(), Settings()) == ""
    assert changed_settings(Settings(), Settings(epochs=4)) == "epochs was 3 and is now 4"


def test_a_new_run_may_use_a_folder_in_which_none_was_begun_and_is_named_by_the_time(tmp_path):
    (tmp_path / "one").mkdir()
    assert new_run(tmp_path, "one").path == tmp_path / "one"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", new_run(tmp_path, None).name)


def test_the_run_that_is_resumed_is_the_named_one_or_the_one_started_last(tmp_path):
    for name in ("z", "m", "a"):
        begin(tmp_path, name)
        time.sleep(0.001)
    os.utime(tmp_path / "z" / "run.json")
    (tmp_path / "zz").mkdir()
    assert run_to_resume(tmp_path, "m").name == "m"
    assert run_to_resume(tmp_path, None).name == "a"


@pytest.mark.parametrize("name", [None, "other"])
def test_where_there_is_no_run_there_is_nothing_to_resume(tmp_path, name):
    with pytest.raises(ConfigError, match=r"there is no run to resume; start it without --resume"):
        run_to_resume(tmp_path, name)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_run_folder_is_named(tmp_path, content):
    run = begin(tmp_path, "one")
    (run.path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run.json: cannot be read"):
        run.facts()


def test_a_models_split_is_beside_it_or_given_and_its_own(tmp_path):
    other = Split(train=("z",), validation=(), test=(), files={})
    SPLIT.save(tmp_path / "run" / "split.json")
    model = tmp_path / "run" / "model"
    assert split_of_model(model, SPLIT.hash, otherwise="wait") == SPLIT
    with pytest.raises(ModelError, match="is not the split that"):
        split_of_model(model, other.hash, otherwise="wait")
    with pytest.raises(ModelError, match=r"nobody can say .* within its run, or wait\."):
        split_of_model(tmp_path / "model", SPLIT.hash, otherwise="wait")
    given = tmp_path / "run" / "split.json"
    assert split_of_model(tmp_path / "model", SPLIT.hash, split_file=given, otherwise="wait") == SPLIT
