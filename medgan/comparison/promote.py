"""Let an alias of a registered model move to a run's model, but only if that model does not lose.

It is held against the present holder of the alias on the same test subjects; where nobody holds it, against doing
nothing and the intensity look-up.
"""

import math
import re
from dataclasses import dataclass
from datetime import date

import pandas as pd

from medgan.comparison.compare import BASELINES, judged, paired_effects, unpaired_because
from medgan.comparison.selection import Metric, chosen_metric, run_named
from medgan.errors import ConfigError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.judging import measure
from medgan.evaluation.statistics import interval_text
from medgan.tracking import NEWEST, RunStore, StoredRun, Version, user_name

TAKEN = ("latest", NEWEST)
"""Aliases that MLflow or medgan moves by itself."""
LONGEST_REASON = 500
ON_TEST = (
    "medgan convert COHORT OUTPUT --model runs:/{id}/model --part test, and then "
    "medgan evaluate --synthetic OUTPUT --reference COHORT:DOMAIN --source COHORT:DOMAIN --out RESULTS"
)


@dataclass(frozen=True)
class PromoteOrder:
    """What a user asks of ``medgan promote``."""

    run: str
    """A name, or the beginning of an id."""
    alias: str
    name: str | None = None
    """Of the registered model; else the one that the run's model has, or the pipeline's."""
    metric: str | None = None
    force: str = ""
    """Why the alias moves whatever the figures say; empty lets them decide."""


@dataclass(frozen=True)
class Promotion:
    """What came of it."""

    promoted: bool
    findings: tuple[str, ...]
    """What was compared, and how it ended."""
    model_uri: str
    """What ``medgan convert --model`` takes."""


def promote(order: PromoteOrder, store: RunStore) -> Promotion:
    """Move an alias to a run's model if it is not shown to be worse than the one that has it.

    Raises:
        ConfigError: No such run, an alias that cannot be given, or figures that cannot be compared.
        ModelError: The run kept no model.
    """
    if order.alias in TAKEN or not re.fullmatch(r"(?!v\d+$)[\w-]+", order.alias):
        raise ConfigError(f"{order.alias!r} cannot be given as an alias; take a word such as champion.")
    run = run_named(order.run, store.called(order.run) or store.runs(*store.experiments()))
    name = order.name or _registered_name(store, run)
    uri, holder = f"models:/{name}@{order.alias}", store.holder(name, order.alias)
    lines, lost = _verdict(store, run, name, order, holder)
    if lost and not order.force:
        return Promotion(False, (*lines, f"refused: {lost}. {uri} stays as it is."), uri)
    tags = {f"promoted.{order.alias}": f"{date.today()} {'; '.join(lines)}"[:LONGEST_REASON]}
    if order.force:
        because = f"{user_name() or 'unknown user'}: {order.force}"[:LONGEST_REASON]
        tags[f"promoted.{order.alias}.forced"] = because
        lines.append(f"forced by {because}{f' (else refused: {lost})' if lost else ''}")
    version = store.register(run, name)
    store.promote(name, version, order.alias, tags)
    return Promotion(True, (*lines, f"{uri} is version {version.number} of {name}, the model of run {run.name}"), uri)


def _registered_name(store: RunStore, run: StoredRun) -> str:
    names = store.registered_as(run)
    if len(names) > 1:
        raise ConfigError(f"the model of {run.name} is registered as {' and '.join(names)}; say which by --name.")
    if not names and not run.pipeline:
        raise ConfigError(f"the run {run.name} does not say its pipeline; name the registered model by --name.")
    return names[0] if names else run.pipeline


def _verdict(
    store: RunStore, run: StoredRun, name: str, order: PromoteOrder, holder: Version | None
) -> tuple[list[str], str]:
    """What the comparison says, line by line, and why it is lost; empty where it is not."""
    if holder and holder.run_id == run.id:
        return [f"{run.name} holds {order.alias} of {name} already"], ""
    try:
        return _against_baselines(store, run, order) if holder is None else _against(store, run, order, holder)
    except ConfigError as error:
        if not order.force:
            raise
        return [str(error)], "it was not compared"


def _against(store: RunStore, run: StoredRun, order: PromoteOrder, holder: Version) -> tuple[list[str], str]:
    """A run against the one whose model has the alias, on the same test subjects."""
    other = store.run(holder.run_id)
    called = f"version {holder.number}, which has the alias {order.alias}"
    if other is None:
        raise ConfigError(f"the run of {called} is gone, so nothing can be compared; --force REASON moves it.")
    own, theirs = _cases(store, run), _cases(store, other)
    if not order.force:
        _check_subjects(run, other, called)
    if because := unpaired_because(run, other, own, theirs):
        raise ConfigError(f"{because}; evaluate both runs again, with the same version of medgan.")
    metric = _metric([run, other], order.metric)
    effects, better = paired_effects({run.id: own.loc[SYNTHETIC], other.id: theirs.loc[SYNTHETIC]}, other.id, metric)
    return _difference(run, f"{other.name} (version {holder.number})", metric, effects, better)


def _check_subjects(run: StoredRun, other: StoredRun, called: str) -> None:
    """Refuse a comparison on other subjects, or of what was learnt from others."""
    if run.tags.get("test_set") != other.tags.get("test_set"):
        raise ConfigError(
            f"{run.name} was judged on other subjects than {other.name}, of {called}: they cannot be compared. Judge "
            f"both on the same subjects: {ON_TEST.format(id=run.id)}"
        )
    if run.tags.get("split_hash") != other.tags.get("split_hash"):
        raise ConfigError(
            f"{run.name} was trained on another split than {other.name}, of {called}, though both were judged on the "
            "same subjects: it is not the method alone that differs. `medgan compare --force` shows them beside each "
            "other, and --force REASON moves the alias."
        )


def _against_baselines(store: RunStore, run: StoredRun, order: PromoteOrder) -> tuple[list[str], str]:
    """The first to get an alias against what needs no network."""
    own, metric = _cases(store, run), _metric([run], order.metric)
    arms = [arm for arm in BASELINES if arm in own.index.levels[0]]
    if not arms:
        return [f"nobody has the alias {order.alias}, and no baseline was judged beside {run.name}: not compared"], ""
    lines, lost = [f"nobody has the alias {order.alias} yet: compared with what needs no network"], ""
    for arm in arms:
        effects, better = paired_effects({run.id: own.loc[SYNTHETIC], arm: own.loc[arm]}, arm, metric)
        own_lines, own_lost = _difference(run, BASELINES[arm], metric, effects, better)
        lines, lost = [*lines, *own_lines], lost or own_lost
    return lines, lost


def _difference(
    run: StoredRun, other: str, metric: Metric, effects: pd.DataFrame, better: str
) -> tuple[list[str], str]:
    """The difference to another in words, and why it is lost; empty where it is not."""
    effect = dict.fromkeys(("lower", "upper"), math.nan) if effects.empty else effects.iloc[0].to_dict()
    word = judged(effect, better)
    if not word:
        return [], f"{run.name} and {other} cannot be told apart by {metric.name}: too few test subjects"
    figures = interval_text(effect["mean"], effect["lower"], effect["upper"], f"+.{measure(metric.name).digits}f")
    says = "no difference is shown" if word == "not shown" else word
    line = f"{run.name} against {other}: {metric.name} {figures}, n = {effect['n']:.0f}: {says}"
    return [line], f"{run.name} is worse than {other}" if word == "worse" else ""


def _cases(store: RunStore, run: StoredRun) -> pd.DataFrame:
    cases = store.cases(run)
    if SYNTHETIC not in cases.index.levels[0]:
        raise ConfigError(
            f"the run {run.name} was not judged on test subjects; do so first: {ON_TEST.format(id=run.id)}"
        )
    return cases


def _metric(runs: list[StoredRun], asked: str | None) -> Metric:
    """What decides: a figure of test subjects that has a best value, and that all the runs have."""
    metric = chosen_metric(runs, asked)
    if metric.source != "test" or any(metric.key not in run.metrics for run in runs):
        raise ConfigError(f"not every run has {metric.name} of test subjects; name another by --metric.")
    if metric.ideal is None:
        raise ConfigError(f"{metric.name} has no best value; name a figure that has one by --metric, such as mae_hu.")
    return metric
