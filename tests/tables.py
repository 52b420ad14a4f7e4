"""What tests do with tables: change a cohort's, look a row up, read what is printed."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console, RenderableType

Row = dict[str, str]


def rewrite(table: Path, change: Callable[[Row], Row | None]) -> Path:
    """Give every row of a CSV as ``change`` says; a row of which that is None goes."""
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(filter(None, map(change, rows)))
    return table


def row_of(table: pd.DataFrame, **wanted: Any) -> Mapping[str, Any]:
    """The only row with some values."""
    for key, value in wanted.items():
        table = table[table[key] == value]
    (row,) = table.to_dict("records")
    return row


def printed(shown: Iterable[RenderableType], width: int = 160) -> str:
    """What a terminal shows."""
    console = Console(file=io.StringIO(), width=width)
    console.print(*shown)
    return console.file.getvalue()
