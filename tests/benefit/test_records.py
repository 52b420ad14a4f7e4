import pytest

from medgan.benefit.records import begun_before, read_json, write_json
from medgan.errors import DataError


def test_a_record_comes_back_and_a_missing_one_is_empty(tmp_path):
    write_json(tmp_path / "a" / "one.json", {"seed": 3, "name": "ä"})
    assert read_json(tmp_path / "a" / "one.json") == {"seed": 3, "name": "ä"}
    assert read_json(tmp_path / "two.json") == {}


def test_a_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(DataError, match=r"one\.json: cannot be read \(.+\); remove it, or put its folder away"):
        read_json(tmp_path / "one.json")


def test_a_folder_without_a_study_has_nothing_to_go_on_with(tmp_path):
    assert begun_before(tmp_path / "nosuch", "sweep") == {}


def test_a_study_goes_on_from_its_record(tmp_path):
    write_json(tmp_path / "study.json", {"kind": "sweep", "mlflow_run_id": "1"})
    assert begun_before(tmp_path, "sweep")["mlflow_run_id"] == "1"
