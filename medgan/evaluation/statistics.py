"""How sure a figure is: intervals over subjects, paired differences, tables by arm, and how they are written.

The subject is the unit everywhere: images, seeds and trainings of one subject are averaged first, since they are no
independent evidence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import stdtrit

from medgan.errors import DataError

Verdict = Literal["higher", "lower", "not shown", "unknown"]
Values = TypeVar("Values", pd.Series, pd.DataFrame)

LEVEL = 0.95
SIGNIFICANT = 0.05
"""P below which a difference is called shown."""
ROUNDING = 1e-12
"""Values whose relative difference is smaller are equal."""
MOST_ENUMERATED = 13
"""Subjects up to whom the signed-rank test counts all patterns of signs."""
TRAINING = ["seed", "subset"]
FAMILY = ["test_set", "organ"]
"""Within these, and a metric, the p-values of all pairs of arms are corrected together."""
EFFECT = (
    *("arm", "reference", "test_set", "organ", "metric", "mean", "lower", "upper", "n", "p_value", "p_holm"),
    *("trainings", "lowest_training", "highest_training"),
)


@dataclass(frozen=True)
class Interval:
    """A mean over subjects with its confidence interval; bounds that cannot be known are not a number."""

    mean: float
    lower: float
    upper: float
    n: int
    """Subjects that had a value."""

    @classmethod
    def of(cls, row: Mapping[Any, Any], mean: str = "mean") -> Self:
        """From a row of a table or of JSON, where null is missing and ``inf`` infinite; ``mean`` is the key of it."""
        value, lower, upper = (np.nan if row.get(key) is None else float(row[key]) for key in (mean, "lower", "upper"))
        return cls(value, lower, upper, int(row.get("n", 0)))

    def text(self, form: str = ".3f", *, missing: str = "") -> str:
        """As :func:`interval_text` writes it."""
        return interval_text(self.mean, self.lower, self.upper, form, missing=missing)


def t_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The mean over subjects with Student's t interval: that of every mean and every paired difference of medgan.

    Missing values are left out. One subject or an infinite value gives a mean without bounds, equal values give bounds
    at the mean. Bounds may lie beyond what a value can be: a Dice above 1. The coverage is exact for normal values,
    nearly so for symmetric ones and too low for strongly skewed ones; ``bench/coverage.py`` measures it.

    Source: Student 1908, doi:10.1093/biomet/6.1.1.
    """
    known = _without_nan(values)
    mean = float(known.mean()) if known.size else np.nan
    if known.size < 2 or not np.isfinite(mean):
        return Interval(mean, np.nan, np.nan, known.size)
    if np.ptp(known) <= ROUNDING * np.abs(known).max():
        return Interval(mean, mean, mean, known.size)
    half = float(stdtrit(known.size - 1, (1 + level) / 2) * known.std(ddof=1) / np.sqrt(known.size))
    return Interval(mean, mean - half, mean + half, known.size)


def share_interval(hits: int, n: int) -> Interval:
    """The share ``hits / n`` with its exact interval, whose coverage is never below the level; unknown of none.

    The unit is what was drawn independently: a subject, not a lesion.

    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404, by ``scipy.stats.binomtest``.
    """
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    bounds = stats.binomtest(hits, n).proportion_ci(confidence_level=LEVEL, method="exact")
    return Interval(hits / n, float(bounds.low), float(bounds.high), n)


def paired_difference(a: pd.Series, b: pd.Series) -> dict[str, float]:
    """How much ``a`` exceeds ``b`` in the subjects, the index of both, that both know: an interval and ``p_value``."""
    return _paired(_minus(a, b))


def _paired(differences: ArrayLike) -> dict[str, float]:
    return asdict(t_interval(differences)) | {"p_value": signed_rank_p(differences)}


def slope(values: pd.DataFrame) -> Interval:
    """How a figure changes per unit of what was varied: the least-squares line through all measurements.

    Every subject, a row of ``values``, is measured at every place, a column named by its number; those that lack one
    are left out. So this slope is the mean of the subjects' own and has its interval.
    """
    whole = values.dropna()
    places = np.asarray(whole.columns, dtype=np.float64)
    from_mean = places - places.mean()
    return t_interval(whole.to_numpy(dtype=np.float64) @ from_mean / (from_mean**2).sum())


def signed_rank_p(differences: ArrayLike) -> float:
    """How likely differences at least as clear are by chance: Wilcoxon's signed-rank test, two-sided.

    Missing differences are left out, and those of 0 say nothing: 1 if all are 0. It is not a number below 2 subjects,
    and with n subjects never below ``2 ** (1 - n)``.

    Source: Wilcoxon 1945, doi:10.2307/3001968. Exact up to 13 subjects over all patterns of signs, ties or not; above,
    by ``scipy.stats.wilcoxon``, which does the same, but with ties takes seconds at 12 subjects.
    """
    known = _without_nan(differences)
    if known.size < 2:
        return float("nan")
    changed = known[known != 0]
    if changed.size > MOST_ENUMERATED:
        return float(stats.wilcoxon(changed).pvalue)
    ranks = stats.rankdata(np.abs(changed))
    ways = np.ones(1)  # of drawing signs, by twice the sum of the positive ranks: a whole number, also with ties
    for twice in (2 * ranks).astype(int):
        ways = np.convolve(ways, np.bincount([0, twice]))
    away = np.abs(np.arange(ways.size) - ranks.sum())
    return float(ways[away >= abs(2 * ranks[changed > 0].sum() - ranks.sum())].sum() / ways.sum())


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values (m,) corrected for how many were looked at: below a level, all together err so often at most.

    Those that are not a number stay so and do not count.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70. Not by ``statsmodels``, which collects the whole
    interpreter's garbage at each call: decision record 62.
    """
    corrected = np.array(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(corrected))
    ascending = known[np.argsort(corrected[known])]
    steps = corrected[ascending] * np.arange(known.size, 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def summarise(frame: pd.DataFrame, metrics: Sequence[str], *, baseline: str | None = None) -> pd.DataFrame:
    """Every metric of every arm over subjects, and its difference to a baseline arm.

    ``frame`` has a row per image and arm, with the columns ``subject``, ``arm`` and the metrics. Without a baseline, or
    for itself, the difference is not a number.

    Returns:
        A row per arm and metric: ``arm, metric, mean, lower, upper, n, difference, difference_lower, difference_upper,
        change_percent, p_value``. ``change_percent`` is the difference in percent of the baseline's mean, over the
        subjects that both arms know.
    """
    table = by_subject(frame, metrics)
    rows = []
    for arm in frame["arm"].unique():
        own, compared = table.loc[arm], baseline in table.index.levels[0] and arm != baseline
        against = _against(own, table.loc[baseline]) if compared else {}
        for metric in metrics:
            row = {"arm": arm, "metric": metric} | asdict(t_interval(own[metric]))
            rows.append(row | against.get(metric, {}))
    difference = ["difference", "difference_lower", "difference_upper", "change_percent", "p_value"]
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "lower", "upper", "n", *difference])


def _against(values: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The differences of an arm to a baseline, by metric; both have a row a subject."""
    differences = _minus(values, baseline)
    shared = baseline.loc[differences.index].where(differences.notna()).mean()
    rows = {}
    for metric, own in differences.items():
        mean, lower, upper, _, p_value = _paired(own).values()
        change = 100 * mean / shared[metric] if shared[metric] and np.isfinite(shared[metric]) else np.nan
        bounds = {"difference_lower": lower, "difference_upper": upper}
        rows[str(metric)] = {"difference": mean, **bounds, "change_percent": change, "p_value": p_value}
    return rows


def compare(
    frame: pd.DataFrame, metrics: Sequence[str], arm: str, distance: Callable[[str, pd.Series], pd.Series | None]
) -> pd.DataFrame:
    """How much an arm differs from every other one, metric by metric, in the same subjects of a frame as above.

    ``distance`` says of a metric's name and values how far each is from the best one, or nothing if none is best.

    Returns:
        A row per other arm and metric: ``baseline, metric, difference, lower, upper, n, p_value, better_in``.
        ``better_in`` counts the subjects, of ``n``, in which the arm is nearer to the best value than the baseline;
        ties are not better, and it is not a number for metrics without a best value.
    """
    table = by_subject(frame, metrics)
    rows = []
    for baseline in [other for other in frame["arm"].unique() if other != arm] if arm in table.index else ():
        differences = _minus(table.loc[arm], table.loc[baseline])
        own, other = (table.loc[each].loc[differences.index] for each in (arm, baseline))
        for metric in metrics:
            difference = _paired(differences[metric])
            near, far = distance(metric, own[metric]), distance(metric, other[metric])
            better = np.nan if near is None or far is None or not difference["n"] else float((near < far).sum())
            row = {"baseline": baseline, "metric": metric, "difference": difference.pop("mean"), **difference}
            rows.append(row | {"better_in": better})
    columns = ["baseline", "metric", "difference", "lower", "upper", "n", "p_value", "better_in"]
    return pd.DataFrame(rows, columns=columns)


def compare_arms(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> pd.DataFrame:
    """How much each arm of a benefit study exceeds its reference on the same subjects.

    ``rows`` has a row per arm, seed, subset, subject, test set and organ, with these columns and the metrics; a metric
    that is not a number is not defined there. Differences are taken within a training (seed and subset) and averaged
    within the subject before anything is estimated. Pairs of which an arm is not in ``rows`` are passed over.

    Returns:
        ``EFFECT``, a row per pair, test set, organ and metric that has a value: Student's 95 % interval of the mean
        over ``n`` subjects, the p-value of Wilcoxon's signed-rank test, and the same corrected over the pairs, all for
        the segmenters as they were trained; and between what the mean differences of single trainings lie.
    """
    keys = ["arm", *FAMILY, *TRAINING, "subject"]
    repeated = rows[rows.duplicated(keys)]
    if len(repeated):
        row = ", ".join(f"{key} {repeated.iloc[0][key]}" for key in keys)
        raise DataError(f"more than one row for {row}; compare one ratio of synthetic images at a time.")
    effects = []
    for family, own in rows.groupby(FAMILY, sort=False):
        values = own.set_index(["arm", *TRAINING, "subject"])[list(metrics)]
        known = set(own["arm"])
        trained = [(arm, other) for arm, other in pairs if arm in known and other in known]
        for metric in metrics:
            names = dict(zip(FAMILY, family, strict=True)) | {"metric": metric}
            each = [
                {"arm": arm, "reference": other} | names | _effect(values[metric], arm, other) for arm, other in trained
            ]
            defined = [effect for effect in each if effect["n"]]
            corrected = holm([effect["p_value"] for effect in defined])
            effects += [effect | {"p_holm": float(p)} for effect, p in zip(defined, corrected, strict=True)]
    return pd.DataFrame(effects, columns=list(EFFECT))


def _effect(values: pd.Series, arm: str, reference: str) -> dict[str, Any]:
    """The figures of one pair of arms from one metric's values by arm, seed, subset and subject."""
    with np.errstate(invalid="ignore"):
        difference = values.loc[arm].sub(values.loc[reference]).dropna()
    by_training = difference.groupby(level=TRAINING).mean()
    return _paired(difference.groupby(level="subject").mean()) | {
        "trainings": len(by_training),
        "lowest_training": by_training.min(),
        "highest_training": by_training.max(),
    }


def interval_text(mean: float, lower: float, upper: float, form: str = ".3f", *, missing: str = "") -> str:
    """``mean [lower, upper]`` in a format such as ``+.3f``; the mean alone without bounds, ``missing`` without it."""
    if math.isnan(mean):
        return missing
    bounds = "" if math.isnan(lower) else f" [{lower:{form}}, {upper:{form}}]"
    return f"{mean:{form}}{bounds}"


def verdict(difference: Mapping[Any, Any]) -> Verdict:
    """What the bounds ``lower`` and ``upper`` of a difference say: whether they leave out 0."""
    lower, upper = difference["lower"], difference["upper"]
    if math.isnan(lower) or math.isnan(upper):
        return "unknown"
    if lower > 0:
        return "higher"
    return "lower" if upper < 0 else "not shown"


def plain(content: Any) -> Any:
    """Figures as JSON holds them: what is missing is null, what is infinite ``inf`` or ``-inf``, a table its rows."""
    if isinstance(content, pd.DataFrame):
        return plain(content.to_dict("records"))
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if not isinstance(content, float) or math.isfinite(content):
        return content
    return None if math.isnan(content) else str(content)


def by_subject(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Each subject's mean over its images, by arm: index (arm, subject), a column per metric."""
    return frame.groupby(["arm", "subject"], sort=False)[list(metrics)].mean()


def _minus(a: Values, b: Values) -> Values:
    """Of the subjects, the index, that both know."""
    shared = a.index.intersection(b.index)
    with np.errstate(invalid="ignore"):
        return a.loc[shared] - b.loc[shared]


def _without_nan(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[~np.isnan(numbers)]
