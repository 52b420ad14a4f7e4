"""A comparison of runs as one HTML file: figures, paired differences, curves, and quality against training time."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from medgan.comparison.compare import Comparison, Group
from medgan.comparison.render import (
    best_words,
    difference_text,
    difference_title,
    headline,
    is_doubtful,
    legend,
    sentences,
)  # fmt: skip
from medgan.comparison.selection import HEADLINES
from medgan.evaluation.judging import measure
from medgan.evaluation.statistics import interval_text
from medgan.pictures.curves import COLOURS
from medgan.report.figures import MARKS_NOTE, common_limits, embedded, forest, learning_curves, plot
from medgan.report.html import Plot, Section, Table, cells, render
from medgan.text import duration
from medgan.tracking import RunStore

MINUTE_S, HOUR_S = 60.0, 3600.0


def write_page(path: Path, comparison: Comparison, store: RunStore, command: str) -> Path:
    """Write the page; its path. Curves are asked of the store."""
    groups = dict(zip(_titles(comparison.groups), comparison.groups, strict=True))
    return render(
        path,
        title=f"Runs of {comparison.experiment}",
        question="Which run is better on the same test subjects?",
        answers=[f"{f'{title}: ' if len(groups) > 1 else ''}{_answer(group)}" for title, group in groups.items()],
        caveats=[*comparison.notes, *dict.fromkeys(note for group in groups.values() for note in legend(group))],
        sections=[
            *(each for title, group in groups.items() for each in _sections(title, group, store)),
            Section("How it was made", commands={"Again": command}, facts={"MLflow": store.name}),
        ],
        phantom=any(run.phantom for group in groups.values() for run in group.runs.values()),
        kind="comparison",
    )


def _titles(groups: Sequence[Group]) -> list[str]:
    """The pipelines of groups, numbered where one has several."""
    names = [group.pipeline or "runs" for group in groups]
    return [
        name if names.count(name) == 1 else f"{name}, table {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _answer(group: Group) -> str:
    """Which run has the best figure, whether that is shown, and what needs no network and has a better one."""
    runs, form = group.table[group.table["kind"] == "run"], f".{measure(group.metric.name).digits}f"
    first, *others = runs.to_dict("records")
    name = first["name"]
    figure = f"{group.metric.key} {interval_text(first['mean'], first['lower'], first['upper'], form)}"
    before = group.table["name"].iloc[: int(runs.index[0])]
    but = f" But without any network, {' and '.join(before)} had a better figure." if len(before) else ""
    if not others:
        return f"{name} has no run to be compared with ({figure}).{but}"
    if runs["difference"].isna().all():
        return f"{name} has the best figure, and nothing shows whether by chance ({figure}).{but}"
    if name != group.reference:
        words = {"better": "is better than", "not shown": "is not shown to differ from"}
        says = f"{words.get(first['verdict'], 'stands beside')} {group.reference}"
        doubt = ", though not after correction" if is_doubtful(first) else ""
        return f"{name} has the best figure ({figure}) and {says}{doubt}.{but}"
    worse = sum(row["verdict"] == "worse" and not is_doubtful(row) for row in others)
    return f"{name} has the best figure ({figure}) and is shown to be better than {worse} of {len(others)} others.{but}"


def _sections(title: str, group: Group, store: RunStore) -> Iterator[Section]:
    anchor = re.sub(r"\W+", "-", title)
    yield Section(
        f"{title}: figures", f"figures-{anchor}", note=" ".join([f"{headline(group)}.", *group.notes]),
        lines=list(sentences(group)), tables=[_figures(group)],
    )  # fmt: skip
    if plots := list(_plots(group, store)):
        yield Section(f"{title}: plots", f"plots-{anchor}", plots=plots)
    if len(group.settings):
        settings = cells("Settings", group.settings.rename_axis("setting").reset_index())
        yield Section(f"{title}: what differs", f"settings-{anchor}", tables=[settings])


def _figures(group: Group) -> Table:
    """The table of a group in text."""
    form = f".{measure(group.metric.name).digits}f"
    rows = []
    for row in group.table.to_dict("records"):
        reference = "reference" if row["name"] == group.reference else ""
        rows.append(
            [
                str(row["name"]),
                f"{row['verdict']}{'?' if is_doubtful(row) else ''}" or reference,
                interval_text(row["mean"], row["lower"], row["upper"], form),
                difference_text(group, row),
                "" if pd.isna(row["p_value"]) else f"{row['p_value']:.2g}",
                "" if pd.isna(row["p_holm"]) else f"{row['p_holm']:.2g}",
                "" if pd.isna(row["n_paired"]) else f"{row['n_paired']:.0f}",
                "" if pd.isna(row["time_s"]) else duration(row["time_s"]),
            ]
        )
    columns = ["run", "verdict", group.metric.key, difference_title(group), "p", "p (Holm)", "pairs", "time"]
    return Table("Figures", columns, 2, rows)


def _plots(group: Group, store: RunStore) -> Iterator[Plot]:
    effects = group.table[group.table["difference"].notna()]
    metric, words = group.metric.name, best_words(group)
    if len(effects):
        shown = effects[["name", "difference", "difference_lower", "difference_upper"]]
        shown = shown.set_axis(["arm", "mean", "lower", "upper"], axis=1).assign(reference=group.reference)
        title = f"{difference_title(group)}, {metric} ({words})"
        yield Plot(
            embedded(forest(shown, title, common_limits(shown), of=f"{difference_title(group)} in {metric}")),
            f"Forest plot: paired differences in {metric} to {group.reference}", MARKS_NOTE,
        )  # fmt: skip
    if len(group.runs) == 1:
        return
    key, curves = _curves(group, store)
    if len(curves):
        yield Plot(
            embedded(learning_curves(curves, list(group.runs), value="value", label=key)),
            f"{key} by epoch, a line a run", f"{key} of validation subjects by epoch.",
        )  # fmt: skip
    yield Plot(
        embedded(_quality_by_time(group)), f"{metric} against training time, a point a run",
        f"{group.metric.key} ({words}) against training time; dotted lines need no network.",
    )  # fmt: skip


def _curves(group: Group, store: RunStore) -> tuple[str, pd.DataFrame]:
    """A validation metric by epoch: the one that most runs have, of several the compared one or the first headline."""
    keys = [f"val/{name}" for name in dict.fromkeys([group.metric.name, *HEADLINES])]
    key = max(keys, key=lambda key: sum(key in run.metrics for run in group.runs.values()))
    tables = [
        store.curve(run, key).assign(arm=name, seed=0, subset=0)
        for name, run in group.runs.items()
        if key in run.metrics
    ]
    return key, pd.concat(tables) if tables else pd.DataFrame()


def _quality_by_time(group: Group) -> Figure:
    """Each run's figure and interval at its training time; baselines are lines, since they take none."""
    table, colours = group.table, dict(zip(group.runs, COLOURS * len(group.runs), strict=False))
    longest = table["time_s"].max()
    unit, name = (HOUR_S, "h") if longest > 2 * HOUR_S else (MINUTE_S, "min") if longest > 2 * MINUTE_S else (1.0, "s")
    with plot(4.0, legend=True) as (figure, axes):
        for row in table.to_dict("records"):
            if row["kind"] == "baseline":
                axes.axhline(row["mean"], color="#6B6B6B", linewidth=1, linestyle=":")
                place = (0.99, row["mean"])
                axes.annotate(
                    row["name"], place, xycoords=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8
                )
                continue
            when, colour = row["time_s"] / unit, colours[row["name"]]
            axes.plot([when, when], [row["lower"], row["upper"]], color=colour, linewidth=1.5)
            axes.plot(when, row["mean"], "o", color=colour, markersize=5, label=row["name"])
        axes.set_xlim(left=0, right=1.08 * longest / unit if longest else 1)
        axes.set_xlabel(f"training time, {name}")
        axes.set_ylabel(f"{group.metric.name}, 95 % interval")
    return figure
