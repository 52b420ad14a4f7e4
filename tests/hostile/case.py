"""One row of the table of hostile inputs: how to make it, and what ``medgan convert`` must do with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["converts", "warns", "fails"]
"""``converts``: exit code 0 and nothing to say. ``warns``: exit code 0, and the manifest says what is odd.
``fails``: exit code 1 (some studies) or 2 (all of INPUT), and the message names the entry; the rest is converted."""


@dataclass(frozen=True)
class Case:
    """An input that medgan meets in the wild, and the right outcome."""

    name: str
    """``kind/what``, such as ``dicom/short_pixels``; unique."""
    make: Callable[[Path], object]
    """Writes the input into an existing empty folder."""
    outcome: Outcome
    says: tuple[str, ...] = ()
    """Pieces of text that the terminal or the manifest must hold: the entry's name, the reason."""
    outputs: tuple[str, ...] = ("*",)
    """The images that must exist below OUTPUT, no more and no fewer, by name; ``("*",)`` is at least one."""
    source: str = "."
    """INPUT, relative to the folder."""
    model: Literal["ct", "ct 3d", "mr", "mr to ct", "ct of abdomens"] = "ct"
    """The tiny model that converts it: contrast CT to plain CT, T1 to T1 with gadolinium, MR to CT, and a CT that tells
    how its training's studies were scanned."""
    holds: Callable[[Path, Path], object] | None = None
    """Looks at the input's folder and OUTPUT, and asserts what must hold of what was written."""
    options: tuple[str, ...] = ()
    """More of the command line; ``{folder}`` is the input's folder."""
    command: Literal["convert", "check"] = "convert"
    """``check`` is `medgan data check` for the pipeline of the model's domains: a finding fails."""
