"""``study.html``: any study for people, in one file that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
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
CAVEAT = (
    f"Intervals are Student's {LEVEL:.0%} intervals over subjects, the unit of evidence; differences are paired by "
    "subject, and hold for new subjects and the networks as trained here. Neither intervals nor sentences are "
    "corrected for how many differences are looked at."
)


def write_page(
    folder: Path, title: str, question: str, description: Mapping[str, Any], command: str, *,
    comparisons: pd.DataFrame, findings: Mapping[str, str], tables: Mapping[str, pd.DataFrame],
    failures: Mapping[str, str], headlines: Sequence[str], answer: Mapping[str, Any],
) -> Path:  # fmt: skip
    """Write ``study.html`` into a study's folder; its path.

    ``description`` is how it was run: ``phantom``, ``quick``, seeds and settings; ``findings`` and ``failures`` are in
    words, by name. ``comparisons`` have ``arm, reference, metric, mean, lower, upper, n``, and what else tells lines
    apart. ``headlines`` are the metrics that are plotted and told; empty are all. ``answer`` has the values of the
    columns of ``comparisons`` that answer the question; empty is the first finding or line.
    """
    shown = comparisons
    if headlines and len(shown):
        shown = shown[shown["metric"].isin(headlines)]
    lines = [f"{name}: {words}" for name, words in findings.items()]
    answers = []
    if answer and len(shown):
        of_answer = (shown[list(answer)] == pd.Series(answer)).all(axis=1)
        answers = list(_sentences(shown[of_answer]))
    sentences = [line for line in (*lines, *_sentences(shown)) if line not in answers]
    return render(
        folder / PAGE,
        title=title,
        question=question,
        phantom=bool(description.get("phantom")),
        quick=bool(description.get("quick")),
        answers=answers or sentences[:1],
        details=sentences if answers else sentences[1:],
        caveats=[CAVEAT],
        failures=failures,
        forests=list(_forests(shown)),
        tables=[cells(name, table.head(MOST_ROWS)) for name, table in tables.items() if len(table)],
        facts={str(key): _short(value) for key, value in description.items() if not isinstance(value, Mapping)},
        command=command,
    )


def render(path: Path, **shown: Any) -> Path:
    """Write a page of what ``study.html`` can show; names from files are text and no markup."""
    environment = Environment(loader=PackageLoader("medgan.report", "."), autoescape=True, undefined=StrictUndefined)
    nothing: dict[str, Any] = {"failures": {}, "tables": (), "curves": None, "worst": (), "appendix": ()}
    return write_text(path, environment.get_template("study.html").render(nothing | shown))


def cells(title: str, table: pd.DataFrame, note: str = "") -> dict[str, Any]:
    """A table as a page shows it: text first, figures with four digits, empty where there is none."""
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    columns = [*texts, *(column for column in table if column not in texts)]
    rows = [[_cell(row[column]) for column in columns] for row in table.to_dict("records")]
    return {"title": title, "columns": columns, "texts": len(texts), "rows": rows, "note": note}


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
    for title, rows in islice(_groups(comparisons), MOST_PLOTS):
        if rows["mean"].notna().any():
            yield {"title": title, "src": embedded(forest(rows, title, common_limits(rows), of="difference"))}


def _sentences(comparisons: pd.DataFrame) -> Iterator[str]:
    """What each comparison says, plainly where nothing is shown."""
    for title, rows in islice(_groups(comparisons), MOST_PLOTS):
        for row in rows.to_dict("records"):
            interval = interval_text(row["mean"], row["lower"], row["upper"], "+.3g")
            yield f"{title}: {row['arm']} is {SAYS[verdict(row)]} {row['reference']} ({interval}, n = {row['n']:.0f})"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return str(value)


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
