"""The result of a benefit study for people: by organ the arms and their differences, both test sets apart."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from medgan.benefit.arms import ArmName
from medgan.evaluation.statistics import LEVEL, interval_text

SHOWN = "dice"
"""The metric that is printed; the files hold all."""
SETS = {"in": "in distribution", "out": "out of distribution"}


def render(means: pd.DataFrame, comparisons: pd.DataFrame, arms: Sequence[ArmName], pair: tuple[str, str]) -> Group:
    """The tables: the arms, and then their differences.

    Args:
        means: As ``medgan.benefit.tables.means`` gives them.
        comparisons: As ``medgan.evaluation.statistics.compare_arms`` gives them.
        arms: In the order of the lines.
        pair: The domains' names, source first: what the two test sets are.
    """
    organs = list(dict.fromkeys(means["organ"]))
    note = (
        f"Test subjects: {pair[0]} in distribution, {pair[1]} out of it. Seeds and subsets are averaged within each "
        f"subject, then {LEVEL:.0%} intervals over subjects; differences are paired by subject; p of Wilcoxon's test "
        "out of distribution, corrected over the lines (Holm)."
    )
    tables = [
        table
        for organ in organs
        for table in (_arms(organ, _dice(means, organ), arms), _differences(organ, _dice(comparisons, organ)))
    ]
    return Group(*tables, Text(note))


def _dice(table: pd.DataFrame, organ: str) -> pd.DataFrame:
    return table[(table["metric"] == SHOWN) & (table["organ"] == organ)]


def _arms(organ: str, means: pd.DataFrame, arms: Sequence[ArmName]) -> Table:
    shown = _table(f"Dice of {organ}", "arm")
    known = means.set_index(["arm", "test_set"])
    for arm in arms:
        shown.add_row(Text(arm), *(_interval(known, (arm, where)) for where in SETS))
    return shown


def _differences(organ: str, comparisons: pd.DataFrame) -> Table:
    shown = _table(f"Difference in Dice of {organ}", "arm", "less")
    shown.add_column("p (Holm)", justify="right")
    known = comparisons.set_index(["arm", "reference", "test_set"])
    for arm, other in dict.fromkeys(zip(comparisons["arm"], comparisons["reference"], strict=True)):
        values = [_interval(known, (arm, other, where), sign="+") for where in SETS]
        out = (arm, other, "out")
        shown.add_row(Text(arm), Text(other), *values, f"{known.loc[out, 'p_holm']:.2g}" if out in known.index else "")
    return shown


def _table(title: str, *names: str) -> Table:
    """A table with its columns of text, and one for each test set."""
    shown = Table(*(Column(name, overflow="fold") for name in names), title=escape(title), title_justify="left")
    for name in SETS.values():
        shown.add_column(name, justify="right")
    return shown


def _interval(table: pd.DataFrame, key: tuple[Hashable, ...], sign: str = "") -> str:
    if key not in table.index:
        return ""
    row: Mapping[Any, Any] = table.loc[key].to_dict()
    return interval_text(row["mean"], row["lower"], row["upper"], f"{sign}.3f")
