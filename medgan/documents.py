"""JSON and YAML from files that users and others write, with bounds on what they may ask of the memory and the stack.

What a parser lets pass and a program then dies of is refused here, in plain words: nesting that no settings need,
aliases that grow to millions of values, numbers without end, keys given twice, files that are no documents at all.
"""

import json
import math
import stat
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

MOST_BYTES = 64 * 2**20
"""Of a JSON file: the split of 100,000 subjects has half of it."""
MOST_YAML_BYTES = 256 * 2**10
"""Of a YAML file: people write these by hand."""
DEEPEST = 64
"""Levels of nesting; ours have fewer than ten."""
MOST_VALUES = 100_000
"""Of a YAML document once its aliases stand for what they mean."""
MOST_DIGITS = 20
"""Of a whole number: none of ours needs more than 64 bits."""


def read_json(path: Path, *, strict: bool = True) -> Any:
    """The content of a JSON file in UTF-8.

    Strict refuses what RFC 8259 does not know or leaves open: NaN, Infinity, a key given twice. Other programs' files
    are read without; the last value of a key then counts.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no such document; the message is a reason in plain words, without the path.
    """
    text = _text(path, MOST_BYTES)
    hooks: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_number} if strict else {}
    try:
        content = json.loads(text, parse_int=_whole, parse_float=_finite, **hooks)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    _check(content)
    return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML 1.2 file, as :func:`parse_yaml`."""
    return parse_yaml(_text(path, MOST_YAML_BYTES))


def parse_yaml(text: str) -> Any:
    """The value of a YAML 1.2 text; None where it is empty.

    Raises:
        ValueError: It is no YAML, or grows beyond all bounds; the message is a reason in plain words.
    """
    return deepcopy(_parsed_yaml(text))


@lru_cache(maxsize=256)
def _parsed_yaml(text: str) -> Any:
    try:
        _check_events(YAML(typ="safe", pure=True).parse(text))
        content = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem or 'not YAML'}{line}") from None
    except (YAMLError, OverflowError, AttributeError, TypeError) as error:  # the last three are ruamel's own mishaps
        raise ValueError(str(error).partition("\n")[0] or "not YAML") from None
    _check(content)
    return content


def _text(path: Path, most: int) -> str:
    """A regular file's text: a pipe would be waited for, a device never ends."""
    kind = path.stat()
    if not stat.S_ISREG(kind.st_mode) and not path.is_dir():  # a folder fails by itself
        raise ValueError("not a regular file")
    if kind.st_size > most:
        raise ValueError(f"{kind.st_size / 2**20:.1f} MiB large; at most {most / 2**20:g} MiB are read")
    with path.open("rb") as stream:
        return stream.read(most + 1)[:most].decode("utf-8-sig")


def _check_events(events: Iterable[Any]) -> None:
    """Refuse a YAML text that is deep or whose aliases grow, before anything is made of the parser's events."""
    sizes: dict[str, int] = {}
    """By anchor, the values it stands for, aliases counted as what they mean."""
    begun: list[tuple[str | None, int]] = []
    """Of each collection that is open: its anchor, and the number of values before it."""
    values = 0
    for event in events:
        if isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for something that holds it, or for nothing")
            values += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            if event.anchor:
                sizes.pop(event.anchor, None)
            values += 1
            if isinstance(event, CollectionStartEvent):
                begun.append((event.anchor, values - 1))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor:
                sizes[anchor] = values - before
        if len(begun) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        if values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values, aliases counted as what they stand for")


def _check(content: Any) -> None:
    """Refuse what is deep, numbers that are huge, and text that nobody can write down again."""
    open_: list[tuple[Any, int]] = [(content, 0)]
    while open_:
        value, depth = open_.pop()
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
                raise ValueError("text with half of a surrogate pair")
        elif isinstance(value, int):
            if abs(value) >= 10**MOST_DIGITS:
                raise ValueError(f"a whole number of more than {MOST_DIGITS} digits")
        elif isinstance(value, Mapping):
            open_ += [(each, depth + 1) for entry in value.items() for each in entry]
        elif isinstance(value, list | tuple | set):
            open_ += [(each, depth + 1) for each in value]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:50]!r} is given twice")
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number of more than {MOST_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:50]} is too large")
    return value
