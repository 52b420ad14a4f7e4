"""Typed settings: defaults in the model, YAML 1.2 for what differs, ``key=value`` for one run."""

import difflib
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML

from medgan import documents
from medgan.errors import ConfigError

Settings = dict[str, Any]
SEE_SCHEMA = ". See `medgan config schema NAME` for what there is."
Channels = Annotated[int, Field(gt=0, le=4096)]
"""Of a network's map; bounds such as these keep a stranger's ``model.json`` from asking for terabytes."""
Downs = Annotated[int, Field(gt=0, le=12)]
"""How often a network halves its input: twelve times takes 4096 voxels along an axis."""
Layers = Annotated[int, Field(ge=0, le=256)]
"""How often a block is repeated."""
Voxels = Annotated[int, Field(gt=0, le=4096)]
"""Of a patch along one axis."""
MOST_VOXELS = 512**3
"""Of a whole patch."""
LONGEST_NAME = 200
"""Bytes of a run's name: with what is added to it, every disk takes it."""
NEEDS_NAME = "--resume-or-start needs a --name: the run of that name is gone on with, or started."
MOST_PROBLEMS = 10
"""Of one file's settings that a message names."""


class Config(BaseModel):
    """A group of settings: immutable, its numbers finite, and a key that it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, ser_json_inf_nan="strings"
    )

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_words(cls, settings: Any) -> Any:
        """Take ``precision: 32`` for "32" where only words are known: YAML reads a number."""
        if not isinstance(settings, Mapping):
            return settings
        words = {
            name: f"{value:g}"
            for name, value in settings.items()
            if type(value) in (int, float) and name in cls.model_fields and _is_word(cls.model_fields[name].annotation)
        }
        return {**settings, **words}


C = TypeVar("C", bound=Config)
SettingPath = tuple[int | str, ...]
Groups = dict[SettingPath, tuple[str, type[BaseModel]]]


def check_size(shape: Sequence[int]) -> None:
    """Refuse a patch that no machine holds: a ``ValueError``."""
    if math.prod(shape) > MOST_VOXELS:
        raise ValueError(f"a patch of {' x '.join(map(str, shape))} voxels is larger than 512 x 512 x 512")


def check_name(name: str) -> None:
    """Refuse a name that is not that of one folder: it would lead elsewhere, hide, or move a lister's cursor."""
    plain = name.isprintable() and name.strip() == name and not set(name) & set("/\\:") and not name.startswith(".")
    if not name or not plain or len(name.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"the name {name[:50]!r} is not that of a folder; take a word of letters, digits, - and _, without / "
            "and not starting with a dot."
        )


def load(schema: type[C], *layers: Path | Mapping[str, Any]) -> C:
    """Settings of ``schema``: its defaults, then each layer in order, YAML files or mappings.

    A later layer wins, key by key. A mapping whose keys are free forgets its default where a layer gives one.

    Raises:
        ConfigError: A file that is not YAML, an unknown key (with the nearest known one), or a value out of range.
    """
    settings = schema.model_construct().model_dump()
    contents = [read_yaml(layer) if isinstance(layer, Path) else layer for layer in layers]
    for name, field in schema.model_fields.items():
        # Whose keys are names of the user's, as `labels`: whoever names some means these alone.
        if get_origin(field.annotation) is dict and any(name in layer for layer in contents):
            settings[name] = {}
    for layer in contents:
        settings = merged(settings, layer)
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_explained(schema, error)) from None


def read_yaml(path: Path) -> Settings:
    """The mapping in a YAML 1.2 file; an empty file is an empty mapping."""
    try:
        content = documents.read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; list the shipped ones with `medgan pipelines`.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error}); correct the file.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds a {type(content).__name__}, not settings; write `key: value` lines.")
    return content


def shipped(name: str) -> Path | None:
    """The config ``NAME.yaml`` that comes with medgan, if there is one."""
    path = Path(str(files("medgan.configs").joinpath(f"{name}.yaml")))
    return path if path.is_file() else None


def without_places(config: C) -> C:
    """Settings as others may read them: of each path its last part, since where files lie is nobody else's business."""
    values: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Path):
            values[name] = Path(value.name)
        elif isinstance(value, Config):
            values[name] = without_places(value)
    return config.model_copy(update=values)


def to_yaml(config: Config) -> str:
    """The resolved settings as YAML, in the order in which they are declared."""
    stream = io.StringIO()
    writer = YAML()
    # The writer leaves a next-line character (U+0085) as it is, and the reader takes it for a line break.
    writer.allow_unicode = "\x85" not in config.model_dump_json()
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
    """``below`` with every key of ``above`` laid over it; nested mappings are merged, not replaced.

    A group whose ``kind`` changes starts anew: its other settings belonged to the kind before.
    """
    if "kind" in above and "kind" in below and above["kind"] != below["kind"]:
        return dict(above)
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


def user_layers(config: Path | None, overrides: Sequence[str]) -> list[Path | Mapping[str, Any]]:
    """What a user asked for, as layers for :func:`load`: a file first, then ``key=value``."""
    return [*([config] if config else []), from_overrides(overrides)]


def parse_override(override: str) -> Settings:
    """``"fit.epochs=3"`` as ``{"fit": {"epochs": 3}}``."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{override!r} is not a setting; write KEY=VALUE, for example `fit.epochs=3`.")
    try:
        value = documents.parse_yaml(text)
    except ValueError:
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def first_problem(error: ValidationError) -> str:
    """The first of the values that do not fit, for files that no user writes: where, and what is wrong with it."""
    problem = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _explained(schema: type[Config], error: ValidationError) -> str:
    """Each setting that does not fit, and the one that was probably meant."""
    lines = []
    groups = _groups(schema)
    for problem in error.errors()[:MOST_PROBLEMS]:
        place = _place(groups, problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown_setting(place, _keys(groups)))
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = "" if isinstance(problem["input"], Mapping) else f" (got {problem['input']!r})"
            lines.append(f"setting '{place or schema.__name__}': {message}{got}")
    if (others := error.error_count() - MOST_PROBLEMS) > 0:
        lines.append(f"and {others} more")
    return "; ".join(lines) + SEE_SCHEMA


def keys_of(schema: type[Config]) -> list[str]:
    """Every dotted key that settings of a type may have; of a union's members, those of all."""
    return list(dict.fromkeys(_keys(_groups(schema))))


def check_key(key: str, known: Sequence[str]) -> None:
    """Refuse a dotted key of which no part leads to a known one; the setting that was probably meant is named."""
    parts = key.split(".")
    for length in range(1, len(parts) + 1):
        begun = ".".join(parts[:length])
        inside = any(each.startswith(f"{begun}.") for each in known)
        if begun in known and not inside:
            return  # a value, or a mapping whose keys are free
        if begun not in known and not inside:
            raise ConfigError(f"{_unknown_setting(begun, known)}{SEE_SCHEMA}")


def _unknown_setting(key: str, known: Sequence[str]) -> str:
    """That a setting is unknown, and which was probably meant: one of its group, else of any, by its name."""
    group, _, name = key.rpartition(".")
    siblings = [each for each in known if each.rpartition(".")[0] == group]
    for nearby in (siblings, known):
        names = {each.rpartition(".")[2]: each for each in reversed(nearby) if each != key}
        if close := difflib.get_close_matches(name, names, n=1):
            return f"unknown setting '{key}' (did you mean '{names[close[0]]}'?)"
    return f"unknown setting '{key}'"


def _keys(groups: Groups) -> list[str]:
    return [prefix + name for prefix, group in groups.values() for name in group.model_fields]


def _place(groups: Groups, loc: SettingPath) -> str:
    """Where a problem is, as a user writes it: pydantic's location without the names of a union's members."""
    end = max(length for length in range(len(loc) + 1) if loc[:length] in groups)
    prefix, rest = groups[loc[:end]][0], loc[end:]
    parts = [str(part) for index, part in enumerate(rest) if index == 0 or isinstance(part, int)]
    return ".".join([*prefix.split(".")[:-1], *parts])


def _groups(schema: type[BaseModel], loc: SettingPath = (), prefix: str = "") -> Groups:
    """Every group of settings by pydantic's location, with the dotted prefix of its settings."""
    groups: Groups = {loc: (prefix, schema)}
    for name, field in schema.model_fields.items():
        members = [kind for kind in get_args(field.annotation) or [field.annotation] if _is_group(kind)]
        for member in members:
            tag = (member.model_fields[field.discriminator].default,) if isinstance(field.discriminator, str) else ()
            groups |= _groups(member, (*loc, name, *tag), f"{prefix}{name}.")
    return groups


def _is_word(kind: object) -> bool:
    """Whether a type is a choice of words; one of them may be another such choice."""
    return get_origin(kind) is Literal and all(isinstance(choice, str) for choice in get_args(kind))


def _is_group(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
