"""A comparison of runs in the terminal, and as JSON."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from medgan.comparison.compare import Comparison, Group
from medgan.evaluation.judging import measure
from medgan.evaluation.statistics import LEVEL, SIGNIFICANT, interval_text, plain
from medgan.text import duration, few

STYLES = {"better": "green", "worse": "red"}
MOST_SETTINGS = 12
LONGEST_VALUE = 40


def render(comparison: Comparison) -> Lines:
    """Each group's table, the settings that differ, and notes."""
    parts: list[RenderableType] = []
    for group in comparison.groups:
        parts += [Text(headline(group), style="bold"), _table(group), *_settings(group)]
        parts += [Text(note, style="dim") for note in (*group.notes, *legend(group), "")]
    return Lines(*parts, *(Text(note) for note in comparison.notes))


def content(comparison: Comparison) -> Any:
    """The same as JSON holds it, with all digits."""
    return plain(
        {
            "experiment": comparison.experiment,
            "groups": [
                {
                    "pipeline": group.pipeline,
                    "metric": group.metric.key,
                    "better": group.better,
                    "reference": group.reference,
                    "runs": {name: run.id for name, run in group.runs.items()},
                    "table": group.table,
                    "settings": group.settings.to_dict("index"),
                    "notes": group.notes,
                }
                for group in comparison.groups
            ],
            "notes": comparison.notes,
        }
    )


def headline(group: Group) -> str:
    """Whose runs, in what, over how many subjects."""
    subjects = group.table["n"].max()
    over = "" if math.isnan(subjects) else f", {subjects:.0f} test subjects"
    phantom = " on the phantom" if any(run.phantom for run in group.runs.values()) else ""
    return f"{group.pipeline or 'runs'}{phantom}: {group.metric.key}{over} ({best_words(group)})"


def best_words(group: Group) -> str:
    """Which figures are better."""
    best = {"lower": "less is better", "higher": "more is better", "nearer": f"best is {group.metric.ideal}"}
    return best.get(group.better or "", "none is best")


def legend(group: Group) -> Iterator[str]:
    """What figures and marks of the table mean."""
    if group.table["lower"].notna().any():
        yield f"Brackets: Student's {LEVEL:.0%} interval over subjects."
    if group.table["difference"].notna().any():
        yield "Differences are paired by subject; p is Wilcoxon's, corrected for all of a table (Holm)."
    if any(is_doubtful(row) for row in group.table.to_dict("records")):
        yield "?: by its interval, but not after the correction."


def difference_title(group: Group) -> str:
    """What the differences of a group are of."""
    return f"farther from {group.metric.ideal:g}" if group.better == "nearer" else "difference"


def sentences(group: Group) -> Iterator[str]:
    """What each difference says, plainly where nothing is shown."""
    reference = group.reference
    says = {
        "better": f"is better than {reference}", "worse": f"is worse than {reference}",
        "not shown": f"is not shown to differ from {reference}",
    }  # fmt: skip
    for row in group.table.to_dict("records"):
        if row["verdict"] in says:
            but = ", though not after correction for how many are compared" if is_doubtful(row) else ""
            yield (
                f"{row['name']} {says[row['verdict']]}{but} ({difference_text(group, row)}, n = {row['n_paired']:.0f}, "
                f"corrected p = {row['p_holm']:.2g})."
            )


def is_doubtful(row: Mapping[Any, Any]) -> bool:
    """Whether a difference is shown by its interval, and not after correction for how many are compared."""
    return row["verdict"] in STYLES and not row["p_holm"] < SIGNIFICANT


def difference_text(group: Group, row: Mapping[Any, Any]) -> str:
    """A row's difference with its interval."""
    form = f"+.{measure(group.metric.name).digits}f"
    return interval_text(row["difference"], row["difference_lower"], row["difference_upper"], form)


def _table(group: Group) -> Table:
    """A line a run or baseline, the best first."""
    paired = bool(group.table["difference"].notna().any())
    table = Table(Column("run", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(group.metric.name, justify="right", no_wrap=True)
    for heading in (difference_title(group), "p") if paired else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("", "time") if paired else ("time",):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    form = f".{measure(group.metric.name).digits}f"
    for row in group.table.to_dict("records"):
        cells = [Text(interval_text(row["mean"], row["lower"], row["upper"], form))]
        if paired:
            difference = "reference" if row["name"] == group.reference else difference_text(group, row)
            p_value = "" if math.isnan(row["p_holm"]) else f"{row['p_holm']:.2g}"
            doubt = "?" if is_doubtful(row) else ""
            cells += [Text(difference), Text(p_value), Text(f"{row['verdict']}{doubt}", STYLES.get(row["verdict"], ""))]
        cells.append(Text("" if math.isnan(row["time_s"]) else duration(row["time_s"])))
        style = "dim" if row["kind"] == "baseline" else "bold" if row["name"] == group.reference else ""
        table.add_row(Text(str(row["name"])), *cells, style=style)
    return table


def _settings(group: Group) -> Iterator[Text]:
    """What differs, a line a setting: each value, and the runs that have it."""
    for setting, row in list(group.settings.iterrows())[:MOST_SETTINGS]:
        values: dict[str, list[str]] = {}
        for name, value in row.items():
            values.setdefault(_short(str(value)), []).append(str(name))
        told = "; ".join(f"{value or 'none'}: {few(names, 4)}" for value, names in values.items())
        yield Text(f"{setting}  {told}")
    if (more := len(group.settings) - MOST_SETTINGS) > 0:
        yield Text(f"and {more} more settings differ; --json FILE has them all.")


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"
