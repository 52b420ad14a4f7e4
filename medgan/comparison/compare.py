"""Runs of an experiment beside each other: figures, paired differences on the same subjects, and what sets them apart.

The reference of the differences is chosen by validation subjects, or by the user; test figures choose nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medgan.comparison.selection import (
    Metric,
    best_on_validation,
    by_subjects,
    chosen_metric,
    chosen_runs,
    run_named,
)  # fmt: skip
from medgan.errors import ConfigError
from medgan.evaluation.arms import DO_NOTHING, LOOKUP, SHIFTED, SYNTHETIC
from medgan.evaluation.statistics import compare_arms, t_interval, verdict
from medgan.text import few
from medgan.tracking import RunStore, StoredRun

BASELINES = {DO_NOTHING: "do nothing", LOOKUP: "intensity look-up"}
"""Arms that need no network, which stand beside the runs, and what they are called."""
FIXED = (DO_NOTHING, SHIFTED)
"""Arms whose figures follow from the subjects alone: equal cases have equal ones."""
TAGS = ("split_hash", "test_set", "data_fingerprint", "git_revision", "device")
"""What is told of runs beside their settings where it differs."""
VERDICTS = {"higher": "better", "lower": "worse", "not shown": "not shown", "unknown": ""}
OPPOSITE = {"better": "worse", "worse": "better"}
COLUMNS = (
    *("name", "kind", "mean", "lower", "upper", "n"),
    *("difference", "difference_lower", "difference_upper", "n_paired", "p_value", "p_holm", "verdict", "time_s"),
)
WORDS = ("name", "kind", "verdict")


@dataclass(frozen=True)
class CompareOrder:
    """What a user asks of ``medgan compare``."""

    experiment: str
    runs: Sequence[str] = ()
    """Names or beginnings of ids; none are all that have test figures."""
    metric: str | None = None
    reference: str | None = None
    """The run that the others are compared with; else the best on validation subjects."""
    force: bool = False
    """Put runs of different splits into one table."""


@dataclass(frozen=True)
class Group:
    """Runs of one pipeline that are compared with each other."""

    pipeline: str
    metric: Metric
    runs: Mapping[str, StoredRun]
    """By their names, the best first."""
    reference: str
    table: pd.DataFrame
    """``COLUMNS``, a row a run or baseline, the best first. Differences are to the reference, on the same subjects."""
    better: str | None
    """Which differences are better: ``higher``, ``lower``, or of distances to the best value (``nearer``)."""
    settings: pd.DataFrame
    """What differs: a row a setting, a column a run."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What ``medgan compare`` found."""

    experiment: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


def compare_runs(order: CompareOrder, store: RunStore) -> Comparison:
    """Compare the runs of an experiment.

    Raises:
        ConfigError: Nothing to compare; with what there is.
    """
    runs, notes = chosen_runs(store, order.experiment, order.runs)
    reference = run_named(order.reference, runs) if order.reference else None
    if going := [f"{run.name} ({run.status})" for run in runs if run.status != "FINISHED"]:
        notes.append(f"Not ended as trainings do: {few(going, 5)}.")
    groups: list[Group] = []
    missing: list[ConfigError] = []
    for pipeline in sorted({run.pipeline for run in runs}):
        own = [run for run in runs if run.pipeline == pipeline]
        try:
            metric = chosen_metric(own, order.metric)
        except ConfigError as error:
            missing.append(error)
            continue
        having = [run for run in own if math.isfinite(run.metrics.get(metric.key, math.nan))]
        if without := [run.name for run in own if run not in having]:
            notes.append(f"Without {metric.key}, and left out: {few(without, 5)}.")
        parts = by_subjects(having, metric)
        if len(parts) > 1:
            alike = metric.source == "test" and len({run.tags.get("test_set") for run in having}) == 1
            what = "different splits, with the same test subjects" if alike else "different splits or test subjects"
            forced = "as was asked, one table holds them all, though more differs between them than their settings."
            apart = "each has its own table, and no run is compared with one of another. --force puts them into one."
            notes.append(f"Runs of {pipeline} are on {len(parts)} {what}: {forced if order.force else apart}")
        if order.force:
            parts = [having]
        groups += [_group(store, part, metric, reference) for part in parts]
    if not groups:
        raise missing[0]
    return Comparison(order.experiment, tuple(groups), (*notes, *map(str, missing)))


def paired_effects(figures: Mapping[str, pd.DataFrame], reference: str, metric: Metric) -> tuple[pd.DataFrame, str]:
    """How much each differs from the reference on the cases that both know, and which way is better.

    ``figures`` have a row a case. See ``compare_arms``; p-values are corrected over all of ``figures``. Where values
    miss the best one on either side, it is their distances to it that are compared.
    """
    values = {name: table[metric.name].dropna() for name, table in figures.items() if metric.name in table}
    better = metric.better(value for series in values.values() for value in series) or ""
    rows = [
        {"arm": name, "seed": 0, "subset": 0, "subject": case, "test_set": "", "organ": "", metric.name: value}
        for name, series in values.items()
        for case, value in (abs(series - metric.ideal) if better == "nearer" else series).items()
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "subset", "subject", "test_set", "organ", metric.name])
    pairs = [(name, reference) for name in figures if name != reference]
    return compare_arms(frame, pairs, [metric.name]), better


def judged(effect: Mapping[Any, Any], better: str | None) -> str:
    """What a difference says: ``better``, ``worse``, ``not shown``, or nothing where it cannot be known."""
    word = VERDICTS[verdict(effect)] if better else ""
    return OPPOSITE.get(word, word) if better in ("lower", "nearer") else word


def same_subjects(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether the cases of two tables are the same subjects, as far as figures tell that no model has a part in."""
    for arm in FIXED:
        if arm in one.index.levels[0] and arm in other.index.levels[0]:
            left, right = one.loc[arm].align(other.loc[arm], join="inner")
            if not left.empty and not np.allclose(left, right, rtol=1e-4, atol=1e-6, equal_nan=True):
                return False
    return True


def unpaired_because(run: StoredRun, reference: StoredRun, own: pd.DataFrame, other: pd.DataFrame) -> str:
    """Why the cases of two runs make no pairs; empty where they do."""
    for who, table in ((run, own), (reference, other)):
        if SYNTHETIC not in table.index.levels[0]:
            return f"{who.name} has no table by case; `medgan evaluate` its translations again"
    if not len(own.loc[SYNTHETIC].index.intersection(other.loc[SYNTHETIC].index)):
        return f"{run.name} and {reference.name} have no case in common (was one recorded with --tracking-names?)"
    if not same_subjects(own, other):
        return (
            f"doing nothing has other figures in the cases of {run.name} than in those of {reference.name}: they are "
            "other subjects, or were judged in another way"
        )
    # Cases are numbered within a set of test subjects.
    same = run.tags.get("test_set") == reference.tags.get("test_set")
    if not same and not any(arm in own.index.levels[0] and arm in other.index.levels[0] for arm in FIXED):
        return f"nothing shows that the cases of {run.name} and {reference.name} are the same subjects"
    return ""


def _group(store: RunStore, runs: Sequence[StoredRun], metric: Metric, asked: StoredRun | None) -> Group:
    by_name = _named(runs)
    reference, why = (asked, "as asked") if asked and asked in runs else best_on_validation(runs, metric)
    name = next(each for each, run in by_name.items() if run is reference)
    notes = [f"Reference of the differences: {name}, {why}."] if len(runs) > 1 and metric.source == "test" else []
    if metric.source != "test":
        notes.append(
            f"{metric.key} is of validation subjects, which chose the models, and flatters. Differences with intervals "
            "need figures of test subjects, as `medgan evaluate` records them."
        )
    tables = {each: store.cases(run) for each, run in by_name.items()} if metric.source == "test" else {}
    figures = {}
    for each, table in tables.items():
        because = unpaired_because(by_name[each], reference, table, tables[name])
        if not because:
            figures[each] = table.loc[SYNTHETIC]
        else:
            notes.append(f"Not paired: {because}.")
    own = tables.get(name, pd.DataFrame())
    baselines = {text: own.loc[arm] for arm, text in BASELINES.items() if name in figures and arm in own.index}
    effects, better = paired_effects(figures | baselines, name, metric)
    rows = [_row(each, run, metric, figures.get(each)) for each, run in by_name.items()]
    for arm, text in BASELINES.items():
        if text in baselines and metric.name in baselines[text]:
            rows.append(_figures(text, baselines[text][metric.name]))
        elif (mean := reference.metrics.get(f"test/{arm}/{metric.name}")) is not None and metric.source == "test":
            rows.append({"name": text, "kind": "baseline", "mean": mean})
    table = pd.DataFrame(rows).merge(_differences(effects, better), how="left", on="name").reindex(columns=COLUMNS)
    table = table.astype({column: np.float64 for column in COLUMNS if column not in WORDS})
    table["verdict"] = table["verdict"].astype(object).where(table["verdict"].notna(), "")
    order = metric.best_first(dict(zip(table["name"], table["mean"], strict=True)))
    table = table.set_index("name").loc[order].reset_index()
    best_first = {each: by_name[each] for each in order if each in by_name}
    return Group(
        reference.pipeline, metric, best_first, name, table, better or metric.better(table["mean"]),
        differing_settings(best_first), tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _named(runs: Sequence[StoredRun]) -> dict[str, StoredRun]:
    """Runs by name, with the beginning of the id where a name is not one run's alone."""
    names = [run.name for run in runs] + list(BASELINES.values())
    return {run.name if names.count(run.name) == 1 else f"{run.name} ({run.id[:6]})": run for run in runs}


def _row(name: str, run: StoredRun, metric: Metric, figures: pd.DataFrame | None) -> dict[str, Any]:
    """A run's line: its recorded mean and interval, and how many subjects it is over."""
    bounds = {end: run.metrics.get(f"{metric.key}_{end}", math.nan) for end in ("lower", "upper")}
    counted = {} if figures is None or metric.name not in figures else {"n": int(figures[metric.name].count())}
    row = {"name": name, "kind": "run", "mean": run.metrics[metric.key], "time_s": run.duration_s}
    return row | bounds | counted


def _figures(name: str, values: pd.Series) -> dict[str, Any]:
    interval = t_interval(values)
    return {"name": name, "kind": "baseline", **vars(interval)}


def _differences(effects: pd.DataFrame, better: str | None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": effects["arm"],
            "difference": effects["mean"],
            "difference_lower": effects["lower"],
            "difference_upper": effects["upper"],
            "n_paired": effects["n"],
            "p_value": effects["p_value"],
            "p_holm": effects["p_holm"],
            "verdict": [judged(effect, better) for effect in effects.to_dict("records")],
        }
    )


def differing_settings(runs: Mapping[str, StoredRun]) -> pd.DataFrame:
    """The settings in which runs differ: a row each, a column a run; one that a run does not have is empty."""
    resumed = "resumed."
    values = {
        name: {
            **run.parameters,
            **{key.removeprefix(resumed): value for key, value in run.tags.items() if key.startswith(resumed)},
            **{tag: run.tags[tag][:12] for tag in TAGS if tag in run.tags},
        }
        for name, run in runs.items()
    }
    table = pd.DataFrame(values, dtype=object).fillna("")
    return table[table.nunique(axis=1) > 1].sort_index()
