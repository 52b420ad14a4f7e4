"""``study.html``: any study for people, in one file that needs nothing else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from medgan.data.streams import write_text
from medgan.evaluation.statistics import LEVEL, interval_text, verdict
from medgan.report.figures import common_limits, embedded, forest

PAGE = "study.html"
MOST_PLOTS, MOST_ROWS = 12, 300
"""Forest plots and lines of a table that a page shows; the files hold all."""
SAYS = {
    "higher": "more than",
    "lower": "less than",
    "not shown": "not shown to differ from",
    "unknown": "not comparable with",
}
FIGURES = ("mean", "lower", "upper")
CAVEAT = (
    f"Intervals are Student's {LEVEL:.0%} intervals over subjects, the unit of evidence; differences are paired by "
    "subject, and hold for new subjects and the networks as trained here. Neither intervals nor sentences are "
    "corrected for how many differences are looked at."
)


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Args:
        title: The study and its pipeline.
        question: What is compared, in a sentence.
        description: How it was run: ``phantom``, ``quick``, seeds and settings.
        command: What runs it again.
        findings: In words, by name.
        comparisons: ``arm, reference, metric, mean, lower, upper, n``, and what else tells lines apart.
        tables: By file name.
        failures: Tasks that failed, and why.
        headlines: Metrics that are plotted and told; empty are all.
    """

    title: str
    question: str
    description: Mapping[str, Any]
    command: str
    findings: Mapping[str, str]
    comparisons: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    failures: Mapping[str, str] = field(default_factory=dict)
    headlines: tuple[str, ...] = ()


def environment() -> Environment:
    """Templates of pages, which escape what they are given."""
    return Environment(loader=PackageLoader("medgan.report", "."), autoescape=True, undefined=StrictUndefined)


def write_page(folder: Path, page: Page) -> Path:
    """Write ``study.html`` into a study's folder; its path."""
    shown = page.comparisons
    if page.headlines and len(shown):
        shown = shown[shown["metric"].isin(page.headlines)]
    facts = {str(key): _short(value) for key, value in page.description.items() if not isinstance(value, Mapping)}
    text = (
        environment()
        .get_template(PAGE)
        .render(
            title=page.title,
            question=page.question,
            phantom=bool(page.description.get("phantom")),
            quick=bool(page.description.get("quick")),
            answers=[*(f"{name}: {words}" for name, words in page.findings.items()), *_sentences(shown)],
            caveat=CAVEAT,
            failures=page.failures,
            forests=list(_forests(shown)),
            tables=[_table(name, table) for name, table in page.tables.items() if len(table)],
            facts=facts,
            command=page.command,
        )
    )
    return write_text(folder / PAGE, text)


def _groups(comparisons: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Comparisons that stand in one plot: of one metric, and of one organ, size or test set where there are any."""
    if comparisons.empty:
        return
    apart = [key for key in ("metric", "organ", "test_set", "size", "labelled", "measure") if key in comparisons]
    own = comparisons[comparisons["seed"] == "all"] if "seed" in comparisons else comparisons
    if not apart:
        yield "", own
        return
    for key, rows in own.groupby(apart, sort=False):
        # A number says nothing alone.
        pairs = zip(apart, key, strict=True)
        named = [value if isinstance(value, str) else f"{name} {value}" for name, value in pairs]
        yield ", ".join(named), rows


def _forests(comparisons: pd.DataFrame) -> Iterator[dict[str, str]]:
    for number, (title, rows) in enumerate(_groups(comparisons)):
        if number < MOST_PLOTS and rows["mean"].notna().any():
            figure = forest(rows, title, common_limits(rows), of="difference")
            yield {"title": title, "src": embedded(figure)}


def _sentences(comparisons: pd.DataFrame) -> Iterator[str]:
    """What each comparison says, plainly where nothing is shown."""
    for title, rows in list(_groups(comparisons))[:MOST_PLOTS]:
        for row in rows.to_dict("records"):
            said = interval_text(row["mean"], row["lower"], row["upper"], "+.3g")
            yield f"{title}: {row['arm']} is {SAYS[verdict(row)]} {row['reference']} ({said}, n = {row['n']:.0f})"


def _table(title: str, table: pd.DataFrame) -> dict[str, Any]:
    """A table's cells: text first, figures with three digits, empty where there is none."""
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    columns = [*texts, *(column for column in table if column not in texts)]
    rows = [[_cell(row[column]) for column in columns] for row in table.head(MOST_ROWS).to_dict("records")]
    return {"title": title, "columns": columns, "texts": len(texts), "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
