"""The cells of a study: a name and the settings that tell it from the others; a grid of them from the command line."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from medgan.errors import ConfigError

OPENING, CLOSING, QUOTES = "[{", "]}", "\"'"
LONGEST_NAME = 100
"""Characters of a folder's name; longer ones are cut, and told apart by a hash."""


@dataclass(frozen=True)
class Cell:
    """One of the compared settings."""

    name: str
    settings: tuple[str, ...] = ()
    """``KEY=VALUE`` laid over the settings that all cells share."""
    optional: bool = False
    """Whether the study goes on without it where the pipeline refuses its settings."""

    def folder(self, seed: int) -> str:
        """The run's name of this cell and a seed: one that every file system takes."""
        name = re.sub(r"[^\w.=+,\[\]-]+", "_", self.name)
        if name != self.name or len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}~{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"
        return f"{name},seed={seed}"


@dataclass(frozen=True)
class Grid:
    """What the arguments of ``medgan sweep`` ask for."""

    shared: tuple[str, ...]
    """``KEY=VALUE`` of every cell."""
    cells: tuple[Cell, ...]
    """Every combination of the values that vary; the first key varies slowest."""
    keys: tuple[str, ...]
    """The keys that vary."""


def grid(arguments: Sequence[str]) -> Grid:
    """``["pix2pix.l1=10,100", "fit.epochs=3"]`` as two cells that share ``fit.epochs=3``.

    Of a key that is given twice the last counts, as in every command.

    Raises:
        ConfigError: No ``KEY=VALUE``, a value that is missing or does not end, or seeds as an axis.
    """
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"{argument!r} is not a setting; write KEY=VALUE or KEY=A,B, as in `fit.epochs=3,6`.")
        if key == "seed":
            raise ConfigError("seed is no axis of a grid: every cell is trained with every seed; give them as --seeds.")
        axes[key] = values(argument, text)
    varying = {key: options for key, options in axes.items() if len(options) > 1}
    shared = tuple(f"{key}={options[0]}" for key, options in axes.items() if len(options) == 1)
    combinations = [
        tuple(f"{key}={value}" for key, value in zip(varying, each, strict=True)) for each in product(*varying.values())
    ]
    cells = tuple(Cell(",".join(settings) or "as_configured", settings) for settings in combinations)
    return Grid(shared, cells, tuple(varying))


def values(argument: str, text: str) -> list[str]:
    """The values of one key: ``text`` cut at its commas, but for those within brackets and quotes.

    Raises:
        ConfigError: A bracket or quote that does not end, or nothing between two commas.
    """
    found = [part.strip() for part in _cut(argument, text)]
    if len(found) > 1 and not all(found):
        raise ConfigError(f"{argument!r} has no value between two commas; write KEY=A,B without a gap.")
    return found


def _cut(argument: str, text: str) -> Iterator[str]:
    part, quote, depth = "", "", 0
    for character in text:
        before = part.rstrip()[-1:]
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES and (not before or before in "[{,:"):
            # Elsewhere it is an apostrophe, as in YAML.
            quote = character
        elif character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
        if character == "," and not quote and depth == 0:
            yield part
            part = ""
        else:
            part += character
    if quote or depth:
        raise ConfigError(f"{argument!r} has {quote or 'a bracket'} without its end; close it, or quote the value.")
    yield part


def read_seeds(text: str) -> tuple[int, ...]:
    """``"3"`` as the seeds 0, 1 and 2, ``"5,7"`` as those two.

    Raises:
        ConfigError: No whole numbers, none at all, or one twice.
    """
    numbers = [part.strip() for part in text.split(",") if part.strip()]
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--seeds {text}: write how many, as in --seeds 3, or which, as in --seeds 0,1,2.")
    seeds = tuple(range(int(numbers[0]))) if "," not in text else tuple(map(int, numbers))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: at least one seed is needed, and each once.")
    return seeds
