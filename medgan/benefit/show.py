"""The result of a benefit study for people: one table an organ, an arm a line, both test sets apart."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from medgan.benefit.arms import BY_NAME, FURTHER, ArmName
from medgan.evaluation.statistics import LEVEL

SHOWN = "dice"
"""The metric that is printed; the files hold all."""
SETS = {"in": "in distribution", "out": "out of distribution"}


def render(means: pd.DataFrame, comparisons: pd.DataFrame, arms: Sequence[ArmName], pair: tuple[str, str]) -> Group:
    """The tables.

    Args:
        means: As ``medgan.benefit.tables.means`` gives them.
        comparisons: As ``medgan.benefit.tables.compare`` gives them.
        arms: In the order of the lines.
        pair: The domains' names, source first: what the two test sets are.
    """
    own = means[means["metric"] == SHOWN].set_index(["organ", "arm", "test_set"])
    told = comparisons[comparisons["metric"] == SHOWN].set_index(["organ", "arm", "reference", "test_set"])
    organs = list(dict.fromkeys(means["organ"]))
    note = (
        f"Dice on test subjects ({pair[0]}: in distribution, {pair[1]}: out of it), seeds and subsets averaged within "
        f"each, with {LEVEL:.0%} bootstrap intervals over subjects; differences are paired by subject, p of Wilcoxon's "
        "test is corrected over arms (Holm)."
    )
    return Group(*(_of_organ(organ, own, told, arms) for organ in organs), Text(note))


def _of_organ(organ: str, means: pd.DataFrame, told: pd.DataFrame, arms: Sequence[ArmName]) -> Table:
    shown = Table(Column("arm", overflow="fold", min_width=16), title=f"Dice of {organ}", title_justify="left")
    for column in (*SETS.values(), "compared with", *(f"difference {where}" for where in SETS), "p (Holm) out"):
        shown.add_column(column, justify="right")
    for arm in arms:
        values = [_interval(means, (organ, arm, where)) for where in SETS]
        lines = [
            [other, *_differences(told, organ, arm, other)]
            for other in (BY_NAME[arm].reference, *(other for name, other in FURTHER if name == arm))
            if other and any((organ, arm, other, where) in told.index for where in SETS)
        ]
        for number, line in enumerate(lines or [["", "", "", ""]]):
            shown.add_row(*([Text(arm), *values] if not number else ["", "", ""]), *line)
    return shown


def _differences(told: pd.DataFrame, organ: str, arm: str, other: str) -> list[str]:
    """The difference in either test set, and the p-value of the one out of distribution."""
    found = [_interval(told, (organ, arm, other, where), sign="+") for where in SETS]
    key = (organ, arm, other, "out")
    return [*found, f"{told.loc[key, 'p_holm']:.2g}" if key in told.index else ""]


def _interval(table: pd.DataFrame, key: tuple[Hashable, ...], sign: str = "") -> str:
    if key not in table.index:
        return ""
    row: Mapping[Any, Any] = table.loc[key].to_dict()
    form = f"{sign}.3f"
    if math.isnan(row["mean"]):
        return ""
    bounds = "" if math.isnan(row["lower"]) else f" [{row['lower']:{form}}, {row['upper']:{form}}]"
    return f"{row['mean']:{form}}{bounds}"
