"""What the children of a benefit study found, side by side: figures, curves, paired comparisons, worst cases."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.benefit.arms import SWEPT
from medgan.benefit.judge import KEYS, LABEL_MAPS, TRUTH, images_to_test
from medgan.benefit.plan import BenefitPlan
from medgan.benefit.tasks import FIGURES, Child
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import t_interval

CURVES = ("arm", "seed", "subset", "epoch", "val_dice")
WORST = 6
"""Cases that are shown."""


def read_figures(children: Sequence[Child]) -> pd.DataFrame:
    """The figures of all finished children: ``KEYS``, then ``METRICS``; empty means not defined."""
    frames = []
    for child in children:
        if child.finished:
            # Text first: a subject called NA or 007 stays one.
            frame = pd.read_csv(child.folder / FIGURES, dtype=str, keep_default_na=False)
            numbers = ["seed", "subset", "ratio_percent", *METRICS]
            frame[numbers] = frame[numbers].apply(pd.to_numeric)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*KEYS, *METRICS])


def read_curves(children: Sequence[Child]) -> pd.DataFrame:
    """Mean Dice of the validation subjects by epoch: ``CURVES``."""
    frames = []
    for child in children:
        path = child.folder / "metrics.csv"
        if path.is_file() and "val/dice" in (told := pd.read_csv(path)):
            frame = told[["epoch", "val/dice"]].dropna().rename(columns={"val/dice": "val_dice"})
            frame = frame.assign(arm=child.arm.name, seed=child.seed, subset=child.subset)
            frames.append(frame.astype({"epoch": int})[list(CURVES)])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(CURVES))


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
