"""What the segmenters of a study of augmentation found, side by side: figures, comparisons by size and seed, slopes."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from medgan.benefit.augmentation.children import KEYS
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import compare_arms, slope, t_interval

MEAN = "mean"
"""The mean of all organs of a subject, beside them."""
ALL = "all"
"""The seeds together."""
SEED_METRICS = ("dice", "lesion_f1", "false_lesions")
"""What is compared for each seed apart; the files would hold too much otherwise."""


def with_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and where there are several organs a row for the mean of each subject's."""
    if rows["organ"].nunique() < 2:
        return rows
    keys = [key for key in KEYS if key != "organ"]
    means = rows.groupby(keys, sort=False, as_index=False)[list(METRICS)].mean().assign(organ=MEAN)
    return pd.concat([rows, means[list(rows.columns)]], ignore_index=True)


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every arm and size over test subjects: ``arm, size, organ, metric, mean, lower, upper, n``.

    The seeds of one subject are no independent evidence, so they are averaged before anything is estimated.
    """
    keys = ["arm", "size", "organ"]
    found = []
    for key, own in rows.groupby([*keys, "subject"], sort=False)[list(METRICS)].mean().groupby(level=keys, sort=False):
        for metric in METRICS:
            interval = t_interval(own[metric])
            if interval.n:
                found.append(dict(zip(keys, key, strict=True)) | {"metric": metric} | asdict(interval))
    return pd.DataFrame(found, columns=[*keys, "metric", "mean", "lower", "upper", "n"])


def comparisons(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How much each arm exceeds its reference on the same test subjects, by size: all seeds together, then each.

    Args:
        rows: As ``with_mean`` gives them.
        pairs: Arm and reference.

    Returns:
        ``size, seed``, the latter ``ALL`` or, of several, one; then the columns of
        ``medgan.evaluation.statistics.compare_arms``, whose correction for many comparisons is within a size.
    """
    found = []
    for size, own in rows.groupby("size"):
        # One test set; a seed stands for its subset of subjects, too.
        own = own.assign(subset=0, test_set="test")
        found.append(compare_arms(own, pairs, METRICS).assign(size=size, seed=ALL))
        apart = own.groupby("seed") if own["seed"].nunique() > 1 else ()
        for seed, one in apart:
            table = compare_arms(one, pairs, SEED_METRICS)
            found.append(table.assign(size=size, seed=str(seed)))
    if not found:
        return pd.DataFrame(columns=["size", "seed"])
    table = pd.concat(found, ignore_index=True).drop(columns="test_set")
    first = ["size", "seed"]
    return table[[*first, *(column for column in table.columns if column not in first)]]


def slopes(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How the gain in Dice changes each time that the number of training subjects doubles.

    Below zero it shrinks. The line goes through all sizes; intervals are over test subjects.

    Returns:
        ``arm, reference, organ, mean, lower, upper, n``; empty where there are not two sizes.
    """
    found = []
    for organ, own in rows.groupby("organ", sort=False):
        dice = own.groupby(["arm", "subject", "size"])["dice"].mean().unstack("size")
        dice.columns = np.log2(dice.columns.astype(float))
        known = set(own["arm"])
        for arm, other in pairs:
            if {arm, other} <= known:
                gain = (dice.loc[arm] - dice.loc[other]).dropna(axis=1, how="all")
                if gain.shape[1] > 1:
                    found.append({"arm": arm, "reference": other, "organ": organ} | asdict(slope(gain)))
    return pd.DataFrame(found, columns=["arm", "reference", "organ", "mean", "lower", "upper", "n"])
