"""The rows of a study, its keys and then the metrics, and tables for the terminal: text left, figures right."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.statistics import interval_text

Row = Mapping[Hashable, Any]
ROWS = "rows.csv"
NUMBERS = ("size", "seed", "subset", "ratio_percent", "labelled", "fold", "prevalence_percent")
"""Keys that are numbers; all other keys are text."""


def read_rows(paths: Iterable[Path], keys: Sequence[str] = (), metrics: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of several CSV files of one form under one another; those that are not there are passed over.

    ``keys`` are the columns that tell rows apart, text but for ``NUMBERS``: a subject called NA or 007 stays one. An
    empty table has these and ``metrics``.
    """
    text = set(keys) - set(NUMBERS)
    frames = []
    for path in paths:
        if path.is_file():
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            figures = [column for column in frame.columns if column not in text]
            frame[figures] = frame[figures].apply(pd.to_numeric)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*keys, *metrics])


def in_order(rows: pd.DataFrame, first: Sequence[str]) -> pd.DataFrame:
    """The rows with some columns in front."""
    return rows[[*first, *(column for column in rows.columns if column not in first)]]


def table(
    title: str, names: Sequence[str], figures: Sequence[str], lines: Iterable[Sequence[str]], **style: Any
) -> Table:
    """A table: columns of text, which are folded where they are too long, columns of figures, and a cell for each."""
    columns = [Column(escape(name), overflow="fold") for name in names]
    columns += [Column(escape(name), justify="right") for name in figures]
    shown = Table(*columns, title=escape(title), title_justify="left", **style)
    for line in lines:
        shown.add_row(*(Text(cell) for cell in line))
    return shown


def crossed(
    rows: pd.DataFrame, lines: Iterable[tuple[Any, ...]], names: Sequence[str], across: str, values: Sequence[Any],
    cell: Callable[[Row], str],
) -> list[list[str]]:  # fmt: skip
    """Lines of a table in which the ``values`` of the column ``across`` stand side by side.

    Each row is a cell, ``cell`` its text; where there is no row, the cell is empty. ``lines`` are the values of the
    columns ``names`` that the lines are of.
    """
    known = {(*(row[name] for name in names), row[across]): row for row in rows.to_dict("records")}
    return [[*line, *(cell(known[*line, each]) if (*line, each) in known else "" for each in values)] for line in lines]


def summarised(rows: pd.DataFrame, names: Callable[[Row], Sequence[str]], digits: int = 3) -> list[list[str]]:
    """Lines of a table: the names of a row of ``medgan.evaluation.statistics.summarise``, mean, difference and p."""
    return [
        [
            *names(row),
            interval(row, digits=digits),
            interval(row, "difference", digits=digits, sign="+"),
            p_value(row["p_value"]),
        ]
        for row in rows.to_dict("records")
    ]


def interval(row: Row, of: str = "", *, digits: int = 3, sign: str = "") -> str:
    """A mean with its bounds: ``0.812 [0.790, 0.834]``; with ``of`` those of its columns, such as ``difference``."""
    mean, lower, upper = (of, f"{of}_lower", f"{of}_upper") if of else ("mean", "lower", "upper")
    return interval_text(row[mean], row[lower], row[upper], f"{sign}.{digits}f")


def differences(table: pd.DataFrame, name: str, reference: str) -> pd.DataFrame:
    """The paired differences of a table of ``medgan.evaluation.statistics.summarise`` as a page shows them.

    The column ``name`` names the arms, and ``reference`` is the one that the others are compared with.
    """
    if table.empty:
        return table
    own = table[table["difference"].notna()].drop(columns=["mean", "lower", "upper"]).assign(reference=reference)
    names = {name: "arm", "difference": "mean", "difference_lower": "lower", "difference_upper": "upper"}
    return own.rename(columns=names)


def p_value(value: float) -> str:
    """A p-value of two digits; empty where there is none."""
    return "" if math.isnan(value) else f"{value:.2g}"
