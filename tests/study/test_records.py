import pytest

from medgan.errors import DataError
from medgan.study.records import read_json, write_json


def test_a_record_comes_back_and_a_missing_one_is_empty(tmp_path):
    write_json(tmp_path / "a" / "one.json", {"seed": 3, "name": "ä"})
    assert read_json(tmp_path / "a" / "one.json") == {"seed": 3, "name": "ä"}
    assert read_json(tmp_path / "two.json") == {}


def test_a_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(DataError, match=r"one\.json: is not JSON; remove it, or put its folder away"):
        read_json(tmp_path / "one.json")
