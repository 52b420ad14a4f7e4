"""An evaluation as a table in the terminal."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.arms import DISTANCE, DO_NOTHING, SYNTHETIC
from medgan.evaluation.crossing import LOOKUP
from medgan.evaluation.evaluate import Evaluation
from medgan.evaluation.measures import measure

IN_PERCENT = ("mae_", "core_mae_", DISTANCE)
"""Beginnings of metrics whose difference is shown in percent too: errors, of which none is best."""
NAME_WIDTH = 18
"""Characters of a metric's name on one line."""
MAX_INTERVALS = 4
"""With more arms, only the synthetic one's intervals are shown; the files hold all."""
MAX_FAILURES = 10
SEEN_TITLE = "subjects that the model has seen: no evidence of how it does on others"

Cells = Mapping[Hashable, Any]


def render(found: Evaluation) -> Group:
    """The arms side by side with intervals, the synthetic arm's difference to a baseline, notes and failures."""
    notes = [Text(note, style="dim") for note in found.notes]
    distances = ", ".join(f"{arm} {value:.1f}" for arm, value in found.pooled_distance_hu.items())
    if distances:
        notes.append(Text(f"Distance of all subjects together to the real images, in soft tissue, HU: {distances}."))
    failures = [Text(f"not judged: {f.image}: {f.reason}", style="red") for f in found.failures[:MAX_FAILURES]]
    if len(found.failures) > MAX_FAILURES:
        failures.append(Text(f"and {len(found.failures) - MAX_FAILURES} more, in summary.json", style="red"))
    seen = [_table(found.seen, SEEN_TITLE)] if found.seen and not found.seen.rows.empty else []
    return Group(*([] if found.rows.empty else [_table(found)]), *notes, *seen, *failures)


def _table(found: Evaluation, title: str | None = None) -> Table:
    arms = list(found.summary["arm"].unique())
    against = next((arm for arm in (DO_NOTHING, LOOKUP) if arm in arms), None)
    differences = _differences(found, against)
    table = Table(Column("metric", overflow="fold", min_width=NAME_WIDTH), title=title, title_justify="left")
    for arm in arms:
        table.add_column(arm, justify="right")
    if against:
        table.add_column(f"{SYNTHETIC} - {against}", justify="right")
        table.add_column("better in", justify="right")
    for metric, rows in found.summary.groupby("metric", sort=False):
        name, by_arm = str(metric), {str(row["arm"]): row for row in rows.to_dict("records")}
        if not measure(name).shown or all(math.isnan(row["mean"]) for row in by_arm.values()):
            continue
        briefly = [arm for arm in arms if arm != SYNTHETIC] if len(arms) > MAX_INTERVALS else []
        cells = [_cell(name, by_arm[arm], "mean", bounds=arm not in briefly) for arm in arms]
        if against:
            cells += _difference(name, differences[name], by_arm[against]["mean"])
        table.add_row(Text(name), *cells)
    return table


def _differences(found: Evaluation, against: str | None) -> dict[str, Cells]:
    if against is None:
        return {}
    rows = found.comparisons[found.comparisons["baseline"] == against].to_dict("records")
    return {str(row["metric"]): row for row in rows}


def _difference(metric: str, row: Cells, baseline: float) -> tuple[str, str]:
    cell = _cell(metric, row, "difference", bounds=True)
    if cell and metric.startswith(IN_PERCENT) and baseline and math.isfinite(baseline):
        cell += f" {100 * row['difference'] / baseline:+.0f} %"
    return cell, "" if math.isnan(row["better_in"]) else f"{row['better_in']:.0f} of {row['n']}"


def _cell(metric: str, row: Cells, mean: str, *, bounds: bool) -> str:
    if math.isnan(row[mean]):
        return ""
    digits = measure(metric).digits
    interval = f" [{row['lower']:.{digits}f}, {row['upper']:.{digits}f}]"
    return f"{row[mean]:.{digits}f}{interval if bounds and not math.isnan(row['lower']) else ''}"
