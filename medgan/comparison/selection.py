"""Which recorded runs are compared, in which figure, and with whom: nobody is compared on other subjects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medgan.errors import ConfigError
from medgan.evaluation.judging import distance_to_ideal, measure
from medgan.text import did_you_mean, few
from medgan.tracking import RunStore, StoredRun

MOST_RUNS = 20
"""Runs that are compared unless more are named."""
PARENT = "mlflow.parentRunId"
"""MLflow's tag of a run that a study started."""
SHORTEST_ID = 4
"""Characters of a run's id that name it."""
HEADLINES = ("mae_hu", "mae_percent", "dice", "score_hu", "accuracy", "sliced_wasserstein")
"""Figures that are compared unless one is named, the first that the runs have."""
SOURCES = ("test", "best", "val")
"""Of test subjects; of the validation subjects in the epoch that the model is from; of those in the last epoch."""


@dataclass(frozen=True)
class Metric:
    """What runs are compared in."""

    source: str
    """One of ``SOURCES``."""
    name: str

    @property
    def key(self) -> str:
        """As the store calls it."""
        return f"{self.source}/{self.name}"

    @property
    def ideal(self) -> float | None:
        """The best value; infinite where more is better, nothing where none is best."""
        return measure(self.name).ideal

    def better(self, values: Iterable[float]) -> str | None:
        """``higher``, ``lower``, or ``nearer`` to the best value, which values miss on either side, or on none."""
        known = np.array([*values], dtype=np.float64)
        known = known[~np.isnan(known)]
        if self.ideal is None or not known.size:
            return None
        above, below = bool((known > self.ideal).any()), bool((known < self.ideal).any())
        return "nearer" if above == below else "lower" if above else "higher"

    def best_first(self, values: Mapping[str, float]) -> list[str]:
        """Names by their values; those without a best value from the highest down."""
        series = pd.Series(values, dtype=np.float64)
        distances = distance_to_ideal(self.name, series)
        return [str(name) for name in (-series if distances is None else distances).sort_values(kind="stable").index]


def chosen_runs(store: RunStore, experiment: str, names: Sequence[str]) -> tuple[list[StoredRun], list[str]]:
    """The runs of an experiment that are named, else all that have ended and were judged; and what is left out.

    Raises:
        ConfigError: There is no such experiment or run, or none that has figures; with what there is.
    """
    every = store.runs(experiment)
    if not every:
        known = store.experiments()
        there = f"; it has {few(known, 10)}" if experiment not in known else ""
        what = f"no experiment {experiment!r}" if there else f"no run in the experiment {experiment!r}"
        raise ConfigError(
            f"there is {what} in {store.name}{did_you_mean(experiment, known) if there else ''}{there}. "
            "Another store is named by --tracking or MLFLOW_TRACKING_URI."
        )
    if names:
        return list({run.id: run for run in (run_named(name, every) for name in names)}.values()), []
    ended = [run for run in every if run.status == "FINISHED" and any(names_of(run, source) for source in SOURCES)]
    notes = []
    if alone := [run for run in ended if PARENT not in run.tags]:
        if len(alone) < len(ended):
            notes.append(f"Left out: {len(ended) - len(alone)} trainings of studies, which have pages of their own.")
        ended = alone
    tested = [run for run in ended if names_of(run, "test")]
    if tested and len(ended) > len(tested):
        without = [run.name for run in ended if run not in tested]
        notes.append(f"Without test figures, and left out: {few(without, 5)}. `medgan evaluate` judges them.")
    chosen = tested or ended
    if not chosen:
        others = ", ".join(f"{run.name} ({run.status})" for run in every[:10])
        raise ConfigError(f"no run of {experiment!r} has ended with figures to compare; there are {others}.")
    if len(chosen) > MOST_RUNS:
        notes.append(f"The newest {MOST_RUNS} of {len(chosen)} runs; name others to compare them.")
    return chosen[:MOST_RUNS], notes


def run_named(name: str, runs: Sequence[StoredRun]) -> StoredRun:
    """The run of a name, or whose id begins so.

    Raises:
        ConfigError: None or several are called so.
    """
    found = [run for run in runs if run.name == name] or [
        run for run in runs if len(name) >= SHORTEST_ID and run.id.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        names = list(dict.fromkeys(run.name for run in runs))
        there = f"there are {few(names, 10)}" if names else "there is none"
        raise ConfigError(f"there is no run {name!r}{did_you_mean(name, names)}; {there}.")
    ids = ", ".join(f"{run.id[:8]} of {run.started:%Y-%m-%d %H:%M}" for run in found[:10])
    raise ConfigError(f"{len(found)} runs are called {name!r}; name one by its id: {ids}.")


def names_of(run: StoredRun, source: str) -> list[str]:
    """The figures that a run has of a source; bounds of intervals and the figures of baselines are none."""
    names = [key.removeprefix(f"{source}/") for key in run.metrics if key.startswith(f"{source}/")]
    bounds = {f"{name}{end}" for name in names for end in ("_lower", "_upper")}
    return [name for name in names if "/" not in name and name not in bounds]


def chosen_metric(runs: Sequence[StoredRun], asked: str | None) -> Metric:
    """What runs are compared in: what is asked, else the first headline that most have, of test subjects if any.

    Raises:
        ConfigError: No run has it; with what they have.
    """
    known = {source: [name for run in runs for name in names_of(run, source)] for source in SOURCES}
    if asked is not None:
        source, _, name = asked.rpartition("/")
        for each in [source] if source else SOURCES:
            if name in known.get(each, ()):
                return Metric(each, name)
        there = sorted({f"{each}/{name}" for each, names in known.items() for name in names})
        near = there if source else sorted({each.partition("/")[2] for each in there})
        raise ConfigError(f"no run has the metric {asked!r}{did_you_mean(asked, near)}; there are {few(there, 12)}.")
    for source in SOURCES:
        if known[source]:
            return Metric(source, min(dict.fromkeys(known[source]), key=lambda name: _rank(name, known[source])))
    raise ConfigError(f"{few([run.name for run in runs], 5)}: no figures are recorded; evaluate the model first.")


def _rank(name: str, all_names: Sequence[str]) -> tuple[int, int, bool, str]:
    """Less is chosen first: what most runs have, then headlines in their order, then what has a best value."""
    place = HEADLINES.index(name) if name in HEADLINES else len(HEADLINES)
    return -all_names.count(name), place, measure(name).ideal is None, name


def by_subjects(runs: Sequence[StoredRun], metric: Metric) -> list[list[StoredRun]]:
    """Runs of one pipeline by their split, and by their test subjects; the most first."""
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for run in runs:
        tags = ("split_hash", "test_set") if metric.source == "test" else ("split_hash",)
        groups.setdefault(tuple(run.tags.get(tag, "") for tag in tags), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def best_on_validation(runs: Sequence[StoredRun], metric: Metric) -> tuple[StoredRun, str]:
    """The run that its validation subjects say is best, and in what; else the first: test figures never choose."""
    for name in dict.fromkeys([metric.name, *HEADLINES]):
        for source in ("best", "val"):
            figure = Metric(source, name)
            values = {run.id: run.metrics[figure.key] for run in runs if figure.key in run.metrics}
            if len(values) == len(runs) and figure.ideal is not None:
                best = figure.best_first(values)[0]
                return next(run for run in runs if run.id == best), f"best by {figure.key}"
    return min(runs, key=lambda run: run.started), "the first"
