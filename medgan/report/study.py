"""``study.html``: any study for people, in one file that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.data.streams import write_json
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.evaluation.statistics import LEVEL, interval_text, plain, verdict
from medgan.report.figures import MARKS_NOTE, common_limits, embedded, forest
from medgan.report.html import Plot, Section, cells, render

PAGE, CONTENT = "study.html", "page.json"
"""The page, and what is on it: from that it can be written anew."""
FORESTS_NOTE = f"Right of the dotted line the arm has more than its reference. {MARKS_NOTE}"
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
    content = {
        "title": title, "question": question, "description": description, "command": command,
        "comparisons": comparisons, "findings": findings, "failures": failures, "headlines": headlines,
        "answer": answer, "tables": {name: table.head(MOST_ROWS) for name, table in tables.items()},
    }  # fmt: skip
    write_json(folder / CONTENT, plain(content))
    return render(folder / PAGE, **shown_of(content))


def read_content(folder: Path) -> dict[str, Any]:
    """What :func:`write_page` was given for a study's folder.

    Raises:
        DataError: There is nothing, or it is damaged.
    """
    again = "give the study's own command again: what is done stays, and its page is written."
    try:
        content: dict[str, Any] = read_json(folder / CONTENT)
        tables = {name: _table(rows) for name, rows in content["tables"].items()}
        return content | {"comparisons": _table(content["comparisons"]), "tables": tables}
    except FileNotFoundError:
        raise DataError(f"{folder}: there is no {CONTENT}, as of a study of an earlier medgan; {again}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{folder / CONTENT}: cannot be read ({error!r:.100}); {again}") from None


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of JSON: figures are figures again, and what was missing or infinite is so again."""
    table = pd.DataFrame(rows)
    for name, column in table.items():
        if column.map(lambda value: isinstance(value, int | float) or value in (None, "inf", "-inf")).all():
            table[name] = pd.to_numeric(column)
    return table


def shown_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a page shows of a study, as :func:`medgan.report.html.render` takes it; see :func:`write_page`."""
    comparisons, headlines, answer = content["comparisons"], content["headlines"], content["answer"]
    shown, description = comparisons, content["description"]
    if headlines and len(shown):
        shown = shown[shown["metric"].isin(headlines)]
    lines = [f"{name}: {words}" for name, words in content["findings"].items()]
    answers = []
    if answer and len(shown):
        of_answer = (shown[list(answer)] == pd.Series(answer)).all(axis=1)
        answers = list(_sentences(shown[of_answer]))
    sentences = [line for line in (*lines, *_sentences(shown)) if line not in answers]
    forests = list(_forests(shown))
    tables = [cells(name, table.head(MOST_ROWS)) for name, table in content["tables"].items() if len(table)]
    return {
        "title": content["title"], "question": content["question"],
        "phantom": bool(description.get("phantom")), "quick": bool(description.get("quick")),
        "answers": answers or sentences[:1], "details": sentences if answers else sentences[1:], "caveats": [CAVEAT],
        "failures": content["failures"],
        "sections": [
            *([Section("Paired differences", note=FORESTS_NOTE, plots=forests)] if forests else []),
            *(Section(table.title, tables=[table]) for table in tables),
            how_it_was_run(
                {str(key): _short(value) for key, value in description.items() if not isinstance(value, Mapping)},
                content["command"],
            ),
        ],
    }  # fmt: skip


def how_it_was_run(facts: Mapping[str, str], command: str) -> Section:
    """The last words of a study's page."""
    return Section("How it was run", facts=facts, commands={"Again": command})


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


def _forests(comparisons: pd.DataFrame) -> Iterator[Plot]:
    for title, rows in islice(_groups(comparisons), MOST_PLOTS):
        if rows["mean"].notna().any():
            figure = forest(rows, title, common_limits(rows), of="difference")
            yield Plot(embedded(figure), f"Forest plot of differences: {title}")


def _sentences(comparisons: pd.DataFrame) -> Iterator[str]:
    """What each comparison says, plainly where nothing is shown."""
    for title, rows in islice(_groups(comparisons), MOST_PLOTS):
        for row in rows.to_dict("records"):
            interval = interval_text(row["mean"], row["lower"], row["upper"], "+.3g")
            yield f"{title}: {row['arm']} is {SAYS[verdict(row)]} {row['reference']} ({interval}, n = {row['n']:.0f})"


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
