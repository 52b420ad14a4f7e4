"""Tables of studies for the terminal: text on the left, figures on the right."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.statistics import interval_text


def table(
    title: str, names: Sequence[str], figures: Sequence[str], lines: Iterable[Sequence[str]], **style: Any
) -> Table:
    """A table.

    Args:
        title: Above it.
        names: Columns of text, which are folded where they are too long.
        figures: Columns of figures.
        lines: A cell a column.
        style: Of ``rich.table.Table``.
    """
    columns = [Column(escape(name), overflow="fold") for name in names]
    columns += [Column(escape(name), justify="right") for name in figures]
    shown = Table(*columns, title=escape(title), title_justify="left", **style)
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    return shown


def interval(row: Mapping[Hashable, Any] | None, of: str = "", *, digits: int = 3, sign: str = "") -> str:
    """A mean with its bounds: ``0.812 [0.790, 0.834]``; empty where there is none.

    Args:
        row: With ``mean``, ``lower``, ``upper``; nothing is an empty cell.
        of: ``difference`` takes ``difference``, ``difference_lower``, ``difference_upper`` instead.
        digits: After the point.
        sign: ``+`` for differences.
    """
    mean, lower, upper = (of or "mean", f"{of}_lower", f"{of}_upper") if of else ("mean", "lower", "upper")
    if row is None:
        return ""
    return interval_text(row[mean], row[lower], row[upper], f"{sign}.{digits}f")


def differences(table: pd.DataFrame, name: str, reference: str) -> pd.DataFrame:
    """The paired differences of a table as a page shows them.

    Args:
        table: As ``medgan.evaluation.statistics.summarise`` gives it.
        name: The column that names the arms.
        reference: The arm that the others are compared with.
    """
    if table.empty:
        return table
    own = table[table["difference"].notna()].drop(columns=["mean", "lower", "upper"]).assign(reference=reference)
    names = {name: "arm", "difference": "mean", "difference_lower": "lower", "difference_upper": "upper"}
    return own.rename(columns=names)


def p_value(value: float) -> str:
    """A p-value of two digits; empty where there is none."""
    return "" if math.isnan(value) else f"{value:.2g}"
