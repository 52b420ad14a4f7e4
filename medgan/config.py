"""Typed settings: defaults in the model, YAML 1.2 for what differs, ``key=value`` for one run."""

import difflib
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medgan.errors import ConfigError

Settings = dict[str, Any]


class Config(BaseModel):
    """A group of settings: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings")


C = TypeVar("C", bound=Config)


def load(schema: type[C], *layers: Path | Mapping[str, Any]) -> C:
    """Settings of ``schema``: its defaults, then each layer in order.

    Args:
        schema: The settings' type.
        layers: YAML files or plain mappings; a later layer wins, key by key.

    Raises:
        ConfigError: A file that is not YAML, an unknown key (with the nearest known one), or a value out of range.
    """
    settings: Settings = {}
    for layer in layers:
        settings = merged(settings, read_yaml(layer) if isinstance(layer, Path) else layer)
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explained(schema, error)) from None


def read_yaml(path: Path) -> Settings:
    """The mapping in a YAML 1.2 file; an empty file is an empty mapping."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; list the shipped ones with `medgan pipelines`.") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({_first_line(error)}); correct the file.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds a {type(content).__name__}, not settings; write `key: value` lines.")
    return content


def shipped(name: str) -> Path | None:
    """The config ``NAME.yaml`` that comes with medgan, if there is one."""
    path = Path(str(files("medgan.configs").joinpath(f"{name}.yaml")))
    return path if path.is_file() else None


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML, in the order in which they are declared."""
    stream = io.StringIO()
    writer = YAML()
    writer.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings with dotted keys: ``{"fit": {"epochs": 3}}`` becomes ``{"fit.epochs": 3}``."""
    flat: Settings = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    """``below`` with every key of ``above`` laid over it; nested mappings are merged, not replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def from_overrides(overrides: Sequence[str]) -> Settings:
    """``a.b=value`` strings as a layer; the value is YAML, so ``1e-4`` is a number and ``[1, 2]`` a list."""
    settings: Settings = {}
    for override in overrides:
        settings = merged(settings, parse_override(override))
    return settings


def parse_override(override: str) -> Settings:
    """``"fit.epochs=3"`` as ``{"fit": {"epochs": 3}}``."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{override!r} is not a setting; write KEY=VALUE, for example `fit.epochs=3`.")
    try:
        value: Any = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _explained(schema: type[Config], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting '{place}'{_suggestion(schema, place)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"setting '{place or schema.__name__}': {message} (got {problem['input']!r})")
    return "; ".join(lines) + ". See `medgan config schema NAME` for what there is."


def _suggestion(schema: type[Config], place: str) -> str:
    known = list(_keys(schema))
    close = difflib.get_close_matches(place, known, n=1, cutoff=0.5)
    last = place.rsplit(".", 1)[-1]
    close = close or [key for key in known if difflib.get_close_matches(last, [key.rsplit(".", 1)[-1]], cutoff=0.6)]
    return f"; did you mean '{close[0]}'?" if close else ""


def _keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation, f"{prefix}{name}.")
    return keys


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
