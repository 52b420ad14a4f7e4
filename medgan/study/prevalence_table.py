"""The slopes of a lesion-prevalence study: a row for each translator and figure, in words for people and in a table."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.statistics import LEVEL, interval_text, paired_difference, slope, verdict
from medgan.study.prevalence_rows import measures

PLAIN, WATCHED = "cyclegan", "cyclegan_semantic"
"""The translators that differ in semantic consistency alone."""
REAL = "real"
"""Instead of a translator: the detector on the test subjects' own target images."""
HEADLINES = ("recall", "false")
CHANGED = (*HEADLINES, "lesion_erased", "lesion_invented")
"""What semantic consistency is there for."""


def slopes(rows: pd.DataFrame) -> pd.DataFrame:
    """How each translator's figures change with the target's prevalence.

    Seeds are averaged within a subject, which is the unit of evidence.

    Args:
        rows: ``medgan.study.prevalence_rows.KEYS`` and the figures; those of real images have no prevalence.

    Returns:
        ``translator, measure``, for each prevalence the mean as ``at_<percent>``, and ``slope, lower, upper, n``: the
        change from no subject with lesions to all, over subjects that have the figure at each prevalence. Real images
        have one mean, as ``real``.
    """
    found = []
    real = rows[rows["translator"] == REAL].mean(numeric_only=True)
    own = rows[rows["translator"] != REAL]
    for translator in own["translator"].unique():
        of_translator = own[own["translator"] == translator]
        for measure in measures(rows):
            values = of_translator.groupby(["subject", "prevalence_percent"])[measure].mean().unstack()
            line = slope(values.rename(columns=lambda percent: percent / 100))
            means = {f"at_{percent:g}": mean for percent, mean in values.dropna().mean().items()}
            known = {"slope": line.mean, "lower": line.lower, "upper": line.upper, "n": line.n}
            found.append({"translator": translator, "measure": measure, **means, REAL: real.get(measure), **known})
    return pd.DataFrame(found)


def semantic_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """What semantic consistency changes at each prevalence, in the same subjects.

    Returns:
        ``prevalence_percent, measure, mean, lower, upper, n, p_value`` of the translator with it minus the one without;
        empty where one of them has no figures.
    """
    found = []
    sides = [rows[rows["translator"] == translator] for translator in (WATCHED, PLAIN)]
    for percent in sides[0]["prevalence_percent"].dropna().unique():
        at = [side[side["prevalence_percent"] == percent].groupby("subject") for side in sides]
        for measure in measures(rows):
            difference = paired_difference(*(subjects[measure].mean() for subjects in at))
            found.append({"prevalence_percent": percent, "measure": measure} | asdict(difference))
    return pd.DataFrame(found)


def written(table: pd.DataFrame, differences: pd.DataFrame) -> dict[str, str]:
    """What follows, in words: whether headline figures follow the prevalence, and what semantic consistency changes."""
    shown = table[table["measure"].isin(HEADLINES)] if len(table) else table
    found = {f"{row['translator']} {row['measure']}": _verdict(row) for row in shown.to_dict("records")}
    changed = differences[differences["measure"].isin(CHANGED)] if len(differences) else differences
    for row in changed.to_dict("records"):
        interval = _interval(row["mean"], row["lower"], row["upper"])
        found[f"semantic consistency at {row['prevalence_percent']:g} percent {row['measure']}"] = f"{interval} with it"
    return found


def show(table: pd.DataFrame, console: Console) -> None:
    """The table for people: every figure, whether it rises or not."""
    for measure in table["measure"].unique() if len(table) else ():
        _show(table[table["measure"] == measure], str(measure), console)
    console.print(
        Text(
            f"slope: change from a target without lesions to one in which every subject has some, with Student's "
            f"{LEVEL:.0%} interval over subjects; real: the detector on their real target images."
        )
    )


def _show(rows: pd.DataFrame, measure: str, console: Console) -> None:
    places = [column for column in rows.columns if column.startswith("at_")]
    shown = Table(Column("translator", overflow="fold", min_width=18), title=measure, title_justify="left")
    for column in (*(f"{place.removeprefix('at_')} %" for place in places), REAL, "slope"):
        shown.add_column(column, justify="right")
    for row in rows.to_dict("records"):
        numbers = [f"{row[place]:.2f}" for place in (*places, REAL)]
        shown.add_row(Text(str(row["translator"])), *numbers, _interval(row["slope"], row["lower"], row["upper"]))
    console.print(shown)


def _verdict(row: dict[str, float]) -> str:
    interval = _interval(row["slope"], row["lower"], row["upper"])
    said = verdict(row)
    if said == "unknown":
        return f"slope {interval}: too few subjects to say"
    return f"slope {interval}: {'is not shown to follow' if said == 'not shown' else 'follows'} the target's prevalence"


def _interval(mean: float, lower: float, upper: float) -> str:
    return interval_text(mean, lower, upper, "+.2f", missing="+nan")


def in_order(rows: pd.DataFrame, first: Sequence[str]) -> pd.DataFrame:
    """The rows with some columns in front."""
    return rows[[*first, *(column for column in rows.columns if column not in first)]]
