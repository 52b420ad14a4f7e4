"""What strangers' JSON and YAML may do to a program that reads them."""

import json
import os

import pytest

from medgan import documents
from medgan.config import from_overrides, read_yaml
from medgan.documents import parse_yaml, read_json
from medgan.errors import ConfigError


def laughs(link):
    """Nine levels, each ten times the level before."""
    lines = [f"a: &a {link.format('x: 1')}"]
    for below, level in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{level}: &{level} {link.format(', '.join([f'*{below}'] * 10))}")
    return "\n".join(lines)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "document"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 200_000, "nested deeper than 64 levels"),
        ("[" * 200_000 + "]" * 200_000, "nested deeper than 64 levels"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than 64 levels"),
        ('{"a": NaN}', "NaN is no number in JSON"),
        ("[-Infinity]", "-Infinity is no number in JSON"),
        ("1e999", "the number 1e999 is too large"),
        ("-" + "9" * 5000, "a whole number of more than 20 digits"),
        ("1" + "0" * 20, "a whole number of more than 20 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        ('{"outer": {"a": 1, "a": 1}}', "the key 'a' is given twice"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        (b"\xff\xfe[\x00]\x00", "can't decode byte"),
        (b'["\xed\xa0\x80"]', "can't decode byte"),
        ('["\x00"]', "Invalid control character"),
        ("[1] [2]", "Extra data"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json_that_no_honest_program_writes_is_refused_in_words(written, text, reason):
    with pytest.raises(ValueError, match=reason):
        read_json(written(text))


@pytest.mark.parametrize("text", ["[" * 60 + "]" * 60, '{"a": 18446744073709551615}', "\ufeff[1]", '"\\ud83d\\ude00"'])
def test_what_is_only_unusual_is_read(written, text):
    assert read_json(written(text)) == json.loads(text.removeprefix("\ufeff"))


def test_files_of_other_programs_may_hold_nan_and_a_key_twice(written):
    content = read_json(written('{"a": 1, "a": NaN}'), strict=False)
    assert content["a"] != content["a"]
    with pytest.raises(ValueError, match="nested deeper"):
        read_json(written("[" * 5000), strict=False)


def test_a_file_that_is_too_large_is_not_opened_and_a_pipe_not_waited_for(written, monkeypatch, tmp_path):
    monkeypatch.setattr(documents, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="MiB large; at most"):
        read_json(written("[1, 2, 3, 4]"))
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 50_000, "nested deeper than 64 levels"),
        ("\n".join("  " * level + "a:" for level in range(100)), "nested deeper than 64 levels"),
        (laughs("[{}]"), "more than 100,000 values"),
        (laughs("{{<<: [{}]}}").replace("[x: 1]", "{x: 1}"), "more than 100,000 values"),
        ("a: &a [*a]", "holds it, or for nothing"),
        ("a: *b", "holds it, or for nothing"),
        ("a: 1\na: 2", "duplicate key"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: 0x" + "f" * 30, "more than 20 digits"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: \x00", "unacceptable character"),
        ("a: 2001-99-99", "month must be in"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \xff".encode("latin-1"), "can't decode"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_yaml_that_no_honest_person_writes_is_named_with_its_file(written, text, reason):
    path = written(text)
    with pytest.raises(ConfigError, match=rf"{path}: cannot be read as YAML \(.*{reason}.*\); correct the file"):
        read_yaml(path)


def test_anchors_and_merges_of_honest_people_are_read_and_what_is_read_may_be_changed():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    assert parse_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}
    parse_yaml(text)["a"]["x"] = 9
    assert parse_yaml(text)["a"] == {"x": 1, "y": 2}


def test_a_value_on_the_command_line_that_is_no_yaml_stays_text():
    for value in ("[" * 5000, "&a [*a]"):
        assert from_overrides([f"a={value}"]) == {"a": value}
