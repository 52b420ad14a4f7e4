"""Settings: layers, overrides, YAML 1.2, and messages that name the setting that was meant."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AllowInfNan, Field, PositiveInt, ValidationError, model_validator

from medgan.config import (
    Config,
    flattened,
    from_overrides,
    load,
    merged,
    parse_override,
    read_yaml,
    to_yaml,
    without_places,
)
from medgan.errors import ConfigError


class Round(Config):
    kind: Literal["round"] = "round"
    radius_mm: float = 2.0


class Square(Config):
    kind: Literal["square"] = "square"
    edge_mm: float = 3.0
    corners: tuple[int, ...] = (1, 2)


class Fit(Config):
    epochs: PositiveInt = 3
    rate: float = 1e-4
    note: str = "no"
    limit: Annotated[float, AllowInfNan(True)] = math.inf


class Settings(Config):
    name: str | None = None
    fit: Fit = Fit()
    shape: Annotated[Round | Square, Field(discriminator="kind")] = Round()
    fallback: Fit | None = None

    @model_validator(mode="after")
    def _few(self):
        if self.fit.epochs > 1000:
            raise ValueError("that takes forever")
        return self


def overridden(*overrides, layers=()):
    return load(Settings, *layers, from_overrides(overrides))


def message(*overrides, layers=()):
    with pytest.raises(ConfigError) as caught:
        overridden(*overrides, layers=layers)
    return str(caught.value)


def test_a_later_layer_wins_key_by_key_and_without_any_the_defaults_hold(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("fit:\n  epochs: 010\n  rate: 1e-3\n  note: no\n")
    assert read_yaml(file) == {"fit": {"epochs": 10, "rate": 1e-3, "note": "no"}}
    found = load(Settings, file, {"fit": {"epochs": 8}}, from_overrides(["fit.note=yes", "name=x"]))
    assert found.fit == Fit(epochs=8, rate=1e-3, note="yes")
    assert found.name == "x"
    assert load(Settings) == Settings()


def test_merging_leaves_both_layers_as_they_were():
    below, above = {"a": {"b": 1}, "c": 2}, {"a": {"d": 3}}
    assert merged(below, above) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert (below, above) == ({"a": {"b": 1}, "c": 2}, {"a": {"d": 3}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e5", 1e5),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("{x: 1}", {"x": 1}),
        ("12:30", "12:30"),
        ("runs:/abc/model", "runs:/abc/model"),
        ("a=b", "a=b"),
        ("[1, 2", "[1, 2"),
        ("*anchor", "*anchor"),
        ("2026-99-99", "2026-99-99"),
        ("!!python/object:os.system 1", "!!python/object:os.system 1"),
    ],
)
def test_an_overrides_value_is_yaml_1_2_and_else_text(text, value):
    parsed = parse_override(f"a.b={text}")["a"]["b"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_an_override_without_key_and_value_is_refused():
    for override in ("epochs", "=3", " =3"):
        with pytest.raises(ConfigError, match="write KEY=VALUE"):
            parse_override(override)


@pytest.mark.parametrize("content", ["", "# nothing but a remark\n", "---\n"])
def test_an_empty_file_changes_nothing(tmp_path, content):
    file = tmp_path / "empty.yaml"
    file.write_text(content)
    assert load(Settings, file) == Settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"fit: [1, 2\nname: x\n", r"bad\.yaml: cannot be read as YAML \(.*in line 2\)"),
        (b"- fit\n- name\n", r"bad\.yaml: holds a list, not settings; write `key: value` lines"),
        (b"just words\n", r"bad\.yaml: holds a str, not settings"),
    ],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path, content, said):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(Settings, file)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such config file; list the shipped ones"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("fit.epoch=3", "unknown setting 'fit.epoch' (did you mean 'fit.epochs'?)"),
        ("epochs=3", "unknown setting 'epochs' (did you mean 'fit.epochs'?)"),
        ("fits.epochs=3", "unknown setting 'fits' (did you mean 'fit'?)"),
        ("shape.radius=3", "unknown setting 'shape.radius' (did you mean 'shape.radius_mm'?)"),
        ("shape.radious_mm=3", "unknown setting 'shape.radious_mm' (did you mean 'shape.radius_mm'?)"),
        ("edge_m=3", "unknown setting 'edge_m' (did you mean 'shape.edge_mm'?)"),
        ("fallback.epohcs=3", "unknown setting 'fallback.epohcs' (did you mean 'fallback.epochs'?)"),
        ("qqq=3", "unknown setting 'qqq'."),
        ("fit.qqq=3", "unknown setting 'fit.qqq'."),
        ("shape.kind=square shape.radius_mm=3", "unknown setting 'shape.radius_mm'."),
        ("fit.epochs=0", "setting 'fit.epochs': Input should be greater than 0 (got 0)"),
        ("fit.epochs=many", "setting 'fit.epochs': Input should be a valid integer"),
        ("fit.note=3", "setting 'fit.note': Input should be a valid string (got 3)"),
        ("fit=3", "setting 'fit': Input should be a valid dictionary"),
        ("shape.radius_mm=wide", "setting 'shape.radius_mm': Input should be a valid number"),
        ("shape=3", "setting 'shape': Input should be a valid dictionary"),
        ("shape.kind=rund", "setting 'shape': Input tag 'rund' found using 'kind' does not match"),
        ("shape.kind=square shape.corners=[1,x]", "setting 'shape.corners.1': Input should be a valid integer"),
        ("fit.epochs=2000", "setting 'Settings': that takes forever."),
        *((f"fit.rate={value}", "setting 'fit.rate': Input should be a finite number")
          for value in (".nan", ".inf", "-.inf", "1e400")),
    ],
)  # fmt: skip
def test_an_unknown_setting_is_named_with_the_one_that_was_meant_and_a_wrong_value_with_its_setting(overrides, said):
    told = message(*overrides.split())
    assert said in told
    assert "medgan config schema" in told


def test_all_problems_are_told_at_once_and_of_many_the_first():
    told = message("fit.epoch=3", "fit.rate=fast")
    assert "'fit.epoch'" in told
    assert "'fit.rate'" in told
    told = message(*(f"fit.x{number}=1" for number in range(25)))
    assert "unknown setting 'fit.x9'" in told
    assert "; and 15 more." in told


@pytest.mark.parametrize("file", ["shape: {radius_mm: 5}", "shape: {kind: round, radius_mm: 5}"])
@pytest.mark.parametrize(
    "overrides", [("shape.kind=square", "shape.edge_mm=4"), ("shape.edge_mm=4", "shape.kind=square")]
)
def test_another_kind_starts_from_its_own_defaults(tmp_path, file, overrides):
    path = tmp_path / "run.yaml"
    path.write_text(file)
    assert overridden(*overrides, layers=[path]).shape == Square(edge_mm=4)
    assert overridden("shape.kind=round", layers=[path]).shape == Round(radius_mm=5)
    assert overridden("shape.radius_mm=5").shape == Round(radius_mm=5), "the kind need not be named"


def test_settings_that_have_no_default_are_asked_for():
    class Needy(Config):
        epochs: int
        rate: float = 0.5

    assert load(Needy, {"epochs": 3}) == Needy(epochs=3)
    with pytest.raises(ConfigError, match="setting 'epochs': Field required"):
        load(Needy)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        load(Settings).name = "other"


@settings(deadline=None, max_examples=25)
@given(
    name=st.none() | st.text(max_size=20),
    note=st.text(max_size=200),
    limit=st.floats(allow_nan=False),
    edge=st.floats(allow_nan=False, allow_infinity=False),
)
def test_written_settings_are_read_back_the_same(tmp_path_factory, name, note, limit, edge):
    written = Settings(name=name, fit=Fit(note=note, limit=limit), shape=Square(edge_mm=edge, corners=(4, 5, 6)))
    file = tmp_path_factory.mktemp("written") / "run.yaml"
    file.write_text(to_yaml(written), encoding="utf-8")
    assert load(Settings, file) == written


@pytest.mark.parametrize(
    "text", ["no", "1e-4", "null", "2", "true", "~", "- a", "# b", "a: b", "", "é\n ü", "012", "é\x85"]
)
def test_text_that_looks_like_something_else_stays_text(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(Settings(name=text)), encoding="utf-8")
    assert load(Settings, file).name == text


def test_written_settings_stand_in_the_order_of_their_declaration_and_are_flattened_to_dotted_keys():
    lines = [line.split(":")[0] for line in to_yaml(Settings()).splitlines() if not line.startswith(" ")]
    assert lines == ["name", "fit", "shape", "fallback"]
    nested = {"fit": {"epochs": 3, "deep": {"er": 1}}, "name": None}
    assert flattened(nested) == {"fit.epochs": 3, "fit.deep.er": 1, "name": None}


def test_a_number_is_taken_for_the_word_that_it_spells():
    class Choice(Config):
        """One of three words."""

        precision: Literal["auto", "32", "2.5"] = "auto"

    assert [load(Choice, from_overrides([f"precision={text}"])).precision for text in ("32", "2.5", "'32'")] == [
        "32", "2.5", "32",
    ]  # fmt: skip
    for wrong in (33, True):
        with pytest.raises(ConfigError, match="precision"):
            load(Choice, {"precision": wrong})


def test_what_others_may_read_has_of_a_path_its_last_part_alone():
    class Inner(Config):
        model: Path | None = None
        rate: float = 0.1

    class Outer(Config):
        inner: Inner = Inner()
        seed: int = 0

    own = Outer(inner=Inner(model=Path("/home/anna/secret/model"), rate=0.2), seed=3)
    told = without_places(own)
    assert "anna" not in to_yaml(told)
    assert told == Outer(inner=Inner(model=Path("model"), rate=0.2), seed=3)
    assert without_places(Outer()) == Outer()
    assert own.inner.model == Path("/home/anna/secret/model")
