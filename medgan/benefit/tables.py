"""What the children of a benefit study found, side by side: figures, curves, paired comparisons, worst cases."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.benefit.arms import SWEPT
from medgan.benefit.judge import LABEL_MAPS, TRUTH, images_to_test
from medgan.benefit.plan import BenefitPlan
from medgan.benefit.tasks import Child
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import t_interval

WORST = 6
"""Cases that are shown."""


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every arm over subjects: ``arm, test_set, organ, metric, mean, lower, upper, n``.

    Seeds and subsets of one subject are no independent evidence, so they are averaged before anything is estimated.
    """
    keys = ["arm", "test_set", "organ"]
    found = []
    for key, own in rows.groupby([*keys, "subject"], sort=False)[list(METRICS)].mean().groupby(level=keys, sort=False):
        for metric in METRICS:
            interval = t_interval(own[metric])
            if interval.n:
                found.append(dict(zip(keys, key, strict=True)) | {"metric": metric} | asdict(interval))
    return pd.DataFrame(found, columns=[*keys, "metric", "mean", "lower", "upper", "n"])


def worst_cases(plan: BenefitPlan, children: Sequence[Child], rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The lowest Dice of the arm with all that translation gives, with the files to look at, relative to the study."""
    trained = [child.arm.name for child in children if child.finished]
    if not trained:
        return []
    shown = next((name for name in SWEPT if name in trained), trained[-1])
    first = next(child for child in children if child.arm.name == shown and child.finished)
    own = rows[(rows["arm"] == shown) & (rows["seed"] == first.seed) & (rows["subset"] == first.subset)]
    lowest = own.sort_values("dice", kind="stable").head(WORST)
    return [case for row in lowest.to_dict("records") for case in _cases(plan, first, row)]


def _cases(plan: BenefitPlan, child: Child, row: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    numbers = {organ: number for number, organ in enumerate(plan.segmenter.labels, start=1)}
    for tested in images_to_test(plan):
        if (tested.study.subject, tested.test_set) == (row["subject"], row["test_set"]):
            yield {
                "arm": row["arm"],
                "seed": int(row["seed"]),
                "subject": row["subject"],
                "test_set": row["test_set"],
                "organ": row["organ"],
                "value": numbers[row["organ"]],
                "dice": row["dice"],
                "image": _relative(tested.study.image, plan.order.folder),
                "truth": f"{TRUTH}/{tested.file}",
                "label_map": f"{child.name}/{LABEL_MAPS}/{tested.file}",
            }


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
