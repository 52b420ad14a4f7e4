"""An evaluation of synthesis as a table in the terminal."""

import math

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.synthesis.evaluate import Synthesis
from medgan.evaluation.synthesis.figures import MEASURES

MAX_FAILURES = 10
NAME_WIDTH = 18
"""Characters of a measure's name on one line."""
ALARMS = ("COPIES", "COLLAPSED", "IN PART")


def render(found: Synthesis) -> Group:
    """Each measure of the synthetic patches beside real and broken ones, the two verdicts, notes and failures."""
    arms = list(found.figures.columns[2:])
    table = Table(Column("measure", overflow="fold", min_width=NAME_WIDTH), "right", pad_edge=False)
    for arm in arms:
        table.add_column(arm, justify="right")
    for row in found.figures.to_dict("records"):
        measure = MEASURES[row["measure"]]
        name = f"{row['measure']} *" if measure.featured else row["measure"]
        table.add_row(name, measure.right, *(_number(row[arm], measure.digits) for arm in arms))
    verdicts = [
        Text(line, style="bold red" if any(word in line for word in ALARMS) else "bold")
        for line in (found.memorisation, found.collapse)
    ]
    notes = [Text(line, style="dim") for line in (f"* on features of {found.features}.", *found.notes)]
    failures = [Text(f"not judged: {f.image}: {f.reason}", style="red") for f in found.failures[:MAX_FAILURES]]
    if len(found.failures) > MAX_FAILURES:
        failures.append(Text(f"and {len(found.failures) - MAX_FAILURES} more, in synthesis.json", style="red"))
    return Group(table, *notes, *failures, *verdicts)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
