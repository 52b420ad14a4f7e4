"""The routes side by side: bone found with so many labelled subjects, and paired differences to learning on MR."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from medgan.benefit.routes.bone import METRICS
from medgan.benefit.routes.children import NO_LABELS
from medgan.benefit.routes.plan import DIRECT
from medgan.evaluation.statistics import LEVEL, interval_text, summarise

NAMES = {
    "mr": "MR segmenter",
    "synthetic_ct": "sCT segmenter",
    "threshold": "sCT threshold",
    "lookup_threshold": "MR look-up",
}
"""In the order of the lines; short, so that a line fits 80 columns."""
TITLES = {"dice": "Dice of bone", "surface_dice": "Surface Dice of bone, 2 mm"}


def routes_table(rows: pd.DataFrame, labelled: Sequence[int]) -> pd.DataFrame:
    """Every route's figures over subjects for each number of labelled subjects, and its difference to learning on MR.

    Seeds are averaged within the subject, the unit of evidence. Routes without labels stand beside each number, each
    time compared with the segmenter of MR that learnt from so many.

    Args:
        rows: As ``medgan.benefit.routes.children.read_rows`` gives them.
        labelled: The numbers of labelled subjects.

    Returns:
        ``labelled, route``, then the columns of ``medgan.evaluation.statistics.summarise``.
    """
    parts = []
    for number in sorted(set(labelled)):
        frame = rows[rows["labelled"].isin([number, NO_LABELS])].rename(columns={"route": "arm"})
        frame = frame.sort_values("arm", key=lambda arm: arm.map(list(NAMES).index), kind="stable")
        part = summarise(frame, METRICS, baseline=DIRECT).rename(columns={"arm": "route"})
        part.insert(0, "labelled", number)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    return table[table["mean"].notna()].reset_index(drop=True)


def render(table: pd.DataFrame) -> Group:
    """The table for people, one a metric."""
    note = (
        "n: labelled subjects. sCT segmenter: learnt on true CT, looks at synthetic CT. sCT threshold: 200 HU of "
        "synthetic CT. MR look-up: 200 HU of the mean HU of each MR intensity. Means over unseen subjects with "
        f"Student's {LEVEL:.0%} intervals, where MR and CT show the same body. Differences are to the MR segmenter of "
        "as many labels, paired by subject; p of Wilcoxon's test, not corrected for their number."
    )
    return Group(*(_of_metric(table[table["metric"] == metric], title) for metric, title in TITLES.items()), Text(note))


def _of_metric(rows: pd.DataFrame, title: str) -> Table:
    shown = Table("n", "route", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("mean", "difference", "p"):
        shown.add_column(column, justify="right")
    for number, own in rows.groupby("labelled"):
        for row in own.to_dict("records"):
            shown.add_row(
                str(number),
                NAMES[row["route"]],
                _interval(row, "mean", "lower", "upper"),
                _interval(row, "difference", "difference_lower", "difference_upper", sign="+"),
                "" if math.isnan(row["p_value"]) else f"{row['p_value']:.2g}",
            )
        shown.add_section()
    return shown


def _interval(row: Mapping[Hashable, Any], value: str, lower: str, upper: str, sign: str = "") -> str:
    return interval_text(row[value], row[lower], row[upper], f"{sign}.3f")
