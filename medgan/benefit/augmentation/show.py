"""The result of a study of augmentation for people: arms by size, and what each adds, all seeds together and apart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from medgan.benefit.augmentation.arms import ArmName
from medgan.benefit.augmentation.tables import ALL, MEAN
from medgan.evaluation.statistics import LEVEL, interval_text

TITLES = {"dice": "Dice", "lesion_f1": "Lesion-wise F1", "false_lesions": "False lesions per subject"}
"""The metrics that are printed; the files hold all."""


def render(means: pd.DataFrame, comparisons: pd.DataFrame, slopes: pd.DataFrame, arms: Sequence[ArmName]) -> Group:
    """The tables: for each metric the arms by size, their differences, and how Dice differences change with size.

    Args:
        means: As ``medgan.benefit.augmentation.tables.means`` gives them.
        comparisons: As ``comparisons`` there.
        slopes: As ``slopes`` there.
        arms: In the order of the lines.
    """
    organs = list(dict.fromkeys(means["organ"]))
    organ = MEAN if MEAN in organs else organs[0]
    note = (
        f"n: training subjects. Seeds are averaged within each test subject, then {LEVEL:.0%} intervals over test "
        "subjects; differences are paired by subject, with the mean of each seed behind them; p of Wilcoxon's test, "
        "corrected over the lines of a size (Holm). The slope is what a difference changes as n doubles."
    )
    if "false_lesions" in set(means["metric"]):
        note += " False lesions touch no true one, in healthy subjects, too; fewer are better."
    of = "" if organ == MEAN else f" of {organ}"
    tables: list[Table] = []
    for metric, title in TITLES.items():
        own, other = (table[(table["metric"] == metric) & (table["organ"] == organ)] for table in (means, comparisons))
        if len(own):
            tables.append(_arms(f"{title}{of}", own, arms))
        if len(other):
            shown = slopes[slopes["organ"] == organ] if metric == "dice" else slopes.iloc[:0]
            tables.append(_differences(f"Difference in {title}{of}", other, shown))
    return Group(*tables, Text(note))


def _arms(title: str, means: pd.DataFrame, arms: Sequence[ArmName]) -> Table:
    sizes = sorted(set(means["size"]))
    shown = _table(title, ["arm"], [f"n={size}" for size in sizes])
    known = {(row["arm"], row["size"]): row for row in means.to_dict("records")}
    for arm in arms:
        shown.add_row(Text(arm), *(_interval(known.get((arm, size))) for size in sizes))
    return shown


def _differences(title: str, comparisons: pd.DataFrame, slopes: pd.DataFrame) -> Table:
    sizes = sorted(set(comparisons["size"]))
    shown = _table(title, ["arm", "less"], [f"n={size}" for size in sizes], *(["slope"] if len(slopes) else []))
    known = {(row["arm"], row["reference"], row["size"], row["seed"]): row for row in comparisons.to_dict("records")}
    sloping = {(row["arm"], row["reference"]): row for row in slopes.to_dict("records")}
    seeds = sorted(set(comparisons["seed"]) - {ALL}, key=int)
    for arm, other in dict.fromkeys(zip(comparisons["arm"], comparisons["reference"], strict=True)):
        cells = []
        for size in sizes:
            row = known.get((arm, other, size, ALL))
            apart = [known[key]["mean"] for seed in seeds if (key := (arm, other, size, seed)) in known]
            cells.append("\n".join(filter(None, [_interval(row, "+"), _p(row), _listed(apart)])))
        last = [_interval(sloping.get((arm, other)), "+")] if len(slopes) else []
        shown.add_row(Text(arm), Text(other), *cells, *last)
    return shown


def _table(title: str, names: Sequence[str], figures: Sequence[str], *more: str) -> Table:
    shown = Table(
        *(Column(name, overflow="fold") for name in names), title=escape(title), title_justify="left", show_lines=True
    )
    for name in (*figures, *more):
        shown.add_column(name, justify="right")
    return shown


def _interval(row: Mapping[Any, Any] | None, sign: str = "") -> str:
    return "" if row is None else interval_text(row["mean"], row["lower"], row["upper"], f"{sign}.3f")


def _p(row: Mapping[Any, Any] | None) -> str:
    return "" if row is None or math.isnan(row["p_holm"]) else f"p {row['p_holm']:.2g}"


def _listed(means: Sequence[float]) -> str:
    return "seeds " + " ".join(f"{mean:+.3f}" for mean in means) if means else ""
