"""Where a cohort lies, and what the user says of how to read it there: ``--data``, ``--root``, ``--bids``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from medgan.errors import ConfigError

SUFFIX = "suffix"
"""Stands in ``--bids`` for the last word of a name, such as T1w."""
ENTITIES = (
    "acq", "ce", "chunk", "desc", "dir", "echo", "flip", "inv", "label", "mt", "part", "rec", "res", "run", "ses",
    "space", "task", "trc", SUFFIX,
)  # fmt: skip
"""What ``--bids`` may choose by. Subjects are chosen by the split, or by a table."""


@dataclass(frozen=True)
class Options:
    """What cannot be told from a place itself."""

    root: Path | None = None
    """The folder that the paths in a table are relative to; None is the table's own."""
    bids: tuple[tuple[str, str], ...] = ()
    """Entities and the values that are wanted; the empty value is a name without that entity."""


@dataclass(frozen=True)
class Location:
    """A cohort's table or folder, and how it is read."""

    path: Path
    options: Options = field(default_factory=Options)

    @classmethod
    def of(cls, data: "Data") -> Self:
        """Of a path alone, the path read as it is."""
        return data if isinstance(data, cls) else cls(Path(str(data)))

    def __str__(self) -> str:
        return str(self.path)

    def facts(self) -> dict[str, Any]:
        """What a run notes of it, to find it again."""
        root, bids = self.options.root, dict(self.options.bids)
        return (
            {"data": str(self.path.resolve())}
            | ({"data_root": str(root.resolve())} if root else {})
            | ({"data_bids": bids} if bids else {})
        )

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """What :meth:`facts` noted; None where a run had no data."""
        if not facts.get("data"):
            return None
        root = facts.get("data_root")
        return cls(
            Path(facts["data"]), Options(Path(root) if root else None, tuple(facts.get("data_bids", {}).items()))
        )


Data = Path | Location
"""A cohort, as a user gives it."""
AS_IT_IS = Options()
"""Nothing is said of how."""


def options(root: Path | None, bids: str | None) -> Options:
    """What ``--root DIR`` and ``--bids run=1,acq=mprage`` say.

    Raises:
        ConfigError: No such folder, or text of another form.
    """
    if root is not None and not root.is_dir():
        raise ConfigError(f"--root {root} is no folder; give the one that the table's paths are relative to.")
    return Options(root, tuple(_choice(part, bids) for part in bids.split(",")) if bids else ())


def located(data: Path | None, root: Path | None = None, bids: str | None = None) -> Location | None:
    """A cohort that a user gives; None where none is given.

    Raises:
        ConfigError: As :func:`options`, or options for no cohort.
    """
    how = options(root, bids)
    if data is None and how != Options():
        raise ConfigError("--root and --bids say how a cohort is read; give it with --data.")
    return None if data is None else Location(data, how)


def _choice(part: str, whole: str) -> tuple[str, str]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    key = key.lower()
    if not equals or key not in ENTITIES:
        raise ConfigError(
            f"--bids {whole}: write ENTITY=VALUE[,ENTITY=VALUE], such as run=1,acq=mprage; `rec=` is names without "
            f"rec-. Entities: {', '.join(ENTITIES)}."
        )
    return key, value.removeprefix(f"{key}-")
