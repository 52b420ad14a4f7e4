"""What the children of a benefit study found, side by side: figures, curves, paired comparisons, worst cases."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.benefit.arms import SWEPT, ArmName
from medgan.benefit.children import Child
from medgan.benefit.judge import FIGURES, KEYS, LABEL_MAPS, METRICS, TRUTH, tested_images
from medgan.benefit.plan import BenefitPlan
from medgan.evaluation.statistics import bootstrap_interval, paired_difference

COMPARED = ("arm", "reference", "test_set", "organ", "metric", "mean", "lower", "upper", "n", "p_value", "p_holm")
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


def by_subject(rows: pd.DataFrame) -> pd.DataFrame:
    """Each subject's means over seeds and subsets: index (arm, test_set, organ, subject), a column per metric.

    Seeds and subsets of one subject are no independent evidence, so they are averaged before anything is compared.
    """
    return rows.groupby(["arm", "test_set", "organ", "subject"], sort=False)[list(METRICS)].mean()


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Every metric of every arm over subjects: ``arm, test_set, organ, metric, mean, lower, upper, n``."""
    found = []
    for (arm, test_set, organ), own in by_subject(rows).groupby(level=["arm", "test_set", "organ"], sort=False):
        for metric in METRICS:
            interval = bootstrap_interval(own[metric])
            if interval.n:
                found.append({"arm": arm, "test_set": test_set, "organ": organ, "metric": metric} | asdict(interval))
    return pd.DataFrame(found, columns=["arm", "test_set", "organ", "metric", "mean", "lower", "upper", "n"])


def compare(rows: pd.DataFrame, pairs: Sequence[tuple[ArmName, ArmName]]) -> pd.DataFrame:
    """Paired differences of arms to their references over subjects: ``COMPARED``, a row a set, organ and metric.

    Args:
        rows: As :func:`read_figures` gives them.
        pairs: Arm and reference. The p-values of all pairs in one test set, organ and metric are corrected together.
    """
    table = by_subject(rows)
    found = []
    for (test_set, organ), own in table.groupby(level=["test_set", "organ"], sort=False):
        values = own.droplevel(["test_set", "organ"])
        known = set(values.index.get_level_values("arm"))
        for metric in METRICS:
            differences = [
                {"arm": arm, "reference": other, "test_set": test_set, "organ": organ, "metric": metric}
                | asdict(paired_difference(values.loc[arm][metric], values.loc[other][metric]))
                for arm, other in pairs
                if arm in known and other in known
            ]
            family = [each for each in differences if each["n"]]
            corrected = holm([each["p_value"] for each in family])
            found += [each | {"p_holm": float(p)} for each, p in zip(family, corrected, strict=True)]
    return pd.DataFrame(found, columns=list(COMPARED))


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
    for tested in tested_images(plan):
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


def holm(p):
    return p
