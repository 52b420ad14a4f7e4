"""An evaluation as a table in the terminal."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from medgan.evaluation.arms import DISTANCE, DO_NOTHING, SYNTHETIC
from medgan.evaluation.evaluate import Evaluation

HIDDEN = ("_sd_hu", "_p5_hu", "_p50_hu", "_p95_hu")
"""Endings of metrics that only the files show."""
IN_PERCENT = ("mae_", DISTANCE)
"""Beginnings of metrics whose difference is shown in percent too: errors, of which none is best."""
MAX_FAILURES = 10

Cells = Mapping[Hashable, Any]


def render(found: Evaluation) -> Group:
    """The arms side by side with intervals, the synthetic arm's difference to doing nothing, notes and failures."""
    notes = [Text(note, style="dim") for note in found.notes]
    distances = ", ".join(f"{arm} {value:.1f}" for arm, value in found.pooled_distance_hu.items())
    if distances:
        notes.append(Text(f"Distance of all subjects together to the real images, in soft tissue, HU: {distances}."))
    failures = [Text(f"not judged: {f.image}: {f.reason}", style="red") for f in found.failures[:MAX_FAILURES]]
    if len(found.failures) > MAX_FAILURES:
        failures.append(Text(f"and {len(found.failures) - MAX_FAILURES} more, in summary.json", style="red"))
    return Group(*([] if found.rows.empty else [_table(found.summary)]), *notes, *failures)


def _table(summary: pd.DataFrame) -> Table:
    arms = list(summary["arm"].unique())
    compared = DO_NOTHING in arms
    table = Table("metric")
    for title in [*arms, *([f"{SYNTHETIC} - {DO_NOTHING}"] if compared else [])]:
        table.add_column(title, justify="right")
    for metric, rows in summary.groupby("metric", sort=False):
        by_arm = {str(row["arm"]): row for row in rows.to_dict("records")}
        if str(metric).endswith(HIDDEN) or all(math.isnan(row["mean"]) for row in by_arm.values()):
            continue
        cells = [_cell(by_arm[arm], "mean", "lower", "upper") for arm in arms]
        table.add_row(str(metric), *cells, *([_difference(by_arm[SYNTHETIC])] if compared else []))
    return table


def _difference(row: Cells) -> str:
    cell = _cell(row, "difference", "difference_lower", "difference_upper")
    if math.isnan(row["change_percent"]) or not str(row["metric"]).startswith(IN_PERCENT):
        return cell
    return f"{cell} {row['change_percent']:+.0f} %"


def _cell(row: Cells, mean: str, lower: str, upper: str) -> str:
    if math.isnan(row[mean]):
        return ""
    digits = 3 if row["metric"] == "ssim" else 1
    interval = "" if math.isnan(row[lower]) else f" [{row[lower]:.{digits}f}, {row[upper]:.{digits}f}]"
    return f"{row[mean]:.{digits}f}{interval}"
