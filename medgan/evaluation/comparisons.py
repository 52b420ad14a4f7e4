"""Arms of a benefit study against each other: effects by organ, paired by subject, corrected over the arms."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from medgan.errors import DataError
from medgan.evaluation.statistics import holm, signed_rank_p, t_interval

TRAINING = ["seed", "subset"]
"""What tells the trainings of one arm apart."""
FAMILY = ["test_set", "organ"]
"""Within these, and a metric, the p-values of all pairs of arms are corrected together."""
FOUND = (
    *("arm", "reference", "test_set", "organ", "metric", "mean", "lower", "upper", "n", "p_value", "p_holm"),
    *("trainings", "lowest_training", "highest_training"),
)


def compare_arms(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> pd.DataFrame:
    """How much each arm exceeds its reference on the same subjects.

    The subject is the unit: seeds and subsets of one are no independent evidence, so differences are taken within a
    training (seed and subset) and averaged within the subject before anything is estimated.

    Args:
        rows: A row per arm, seed, subset, subject, test set and organ, with these columns and the metrics; a metric
            that is not a number is not defined there.
        pairs: Arm and reference; those of which an arm is not in ``rows`` are passed over.
        metrics: Columns to compare.

    Returns:
        ``FOUND``, a row per pair, test set, organ and metric that has a value. ``lower`` and ``upper`` are Student's
        95 % interval of the mean over ``n`` subjects; ``p_value`` is of Wilcoxon's signed-rank test, ``p_holm`` the
        same corrected over the pairs. All of these hold for the segmenters as they were trained; ``lowest_training``
        and ``highest_training`` say how far the mean difference of single trainings goes, of which there are
        ``trainings``.

    Raises:
        DataError: An arm with more than one row for a subject: several ratios, say.
    """
    _refuse_repeated(rows)
    found = []
    for family, own in rows.groupby(FAMILY, sort=False):
        values = own.set_index(["arm", *TRAINING, "subject"])[list(metrics)]
        known = set(own["arm"])
        trained = [(arm, other) for arm, other in pairs if arm in known and other in known]
        for metric in metrics:
            named = dict(zip(FAMILY, family, strict=True)) | {"metric": metric}
            each = [
                {"arm": arm, "reference": other} | named | _difference(values[metric], arm, other)
                for arm, other in trained
            ]
            found += _corrected([row for row in each if row["n"]])
    return pd.DataFrame(found, columns=list(FOUND))


def _refuse_repeated(rows: pd.DataFrame) -> None:
    keys = ["arm", *FAMILY, *TRAINING, "subject"]
    twice = rows[rows.duplicated(keys)]
    if len(twice):
        what = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
        raise DataError(f"more than one row for {what}; compare one ratio of synthetic images at a time.")


def _difference(values: pd.Series, arm: str, reference: str) -> dict[str, Any]:
    """The figures of one pair of arms from the values of one metric by arm, seed, subset and subject."""
    with np.errstate(invalid="ignore"):
        difference = values.loc[arm].sub(values.loc[reference]).dropna()
    by_subject = difference.groupby(level="subject").mean()
    by_training = difference.groupby(level=TRAINING).mean()
    return asdict(t_interval(by_subject)) | {
        "p_value": signed_rank_p(by_subject),
        "trainings": len(by_training),
        "lowest_training": by_training.min(),
        "highest_training": by_training.max(),
    }


def _corrected(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = holm([pair["p_value"] for pair in pairs])
    return [pair | {"p_holm": float(p)} for pair, p in zip(pairs, corrected, strict=True)]
