"""The cells side by side: means with intervals over subjects, and paired differences to the reference."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import KEYS
from medgan.evaluation.statistics import LEVEL, interval_text, summarise

HEADLINES = (
    "core_mae_hu",
    "mae_hu",
    "core_bone_dice",
    "bone_dice",
    "psnr_db",
    "ssim",
    "soft_tissue_distance_hu",
    "mae_percent",
    "enhancing_mae_percent",
)
"""Metrics that are printed, where the evaluation has them; the files hold all."""
OTHERWISE = 3
"""How many of the metrics are printed where it has none of them."""
BETTER_WHEN_HIGHER = ("dice", "psnr", "ssim")
NOT_COMPARED = (SYNTHETIC, "real")
"""Arms that are no baseline: the cells themselves, and real images of other subjects."""


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The columns that hold figures."""
    return [str(column) for column in rows.columns if column not in ("cell", "seed", *KEYS)]


def headlines(metrics: Sequence[str]) -> list[str]:
    """The metrics that are printed."""
    return [metric for metric in HEADLINES if metric in metrics] or list(metrics[:OTHERWISE])


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better: of likeness, not of error."""
    return any(word in metric for word in BETTER_WHEN_HIGHER)


def paired_table(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every metric of every cell over subjects, and its difference to the reference cell in the same subjects.

    A subject's images and seeds are averaged first: intervals are over subjects, the unit of evidence. The baselines
    that need no network follow the cells; they are the same for all.

    Args:
        rows: As ``medgan.study.children.read_rows`` gives them.
        reference: The cell that the others are compared with.

    Returns:
        The columns of ``medgan.evaluation.statistics.summarise`` with ``cell`` in place of ``arm``, and ``seeds``: how
        many of them the figures are from, 0 for baselines.
    """
    metrics = metrics_of(rows)
    own = rows[rows["arm"] == SYNTHETIC]
    frame = own.drop(columns="arm").rename(columns={"cell": "arm"})
    first = rows[(rows["cell"] == own["cell"].iloc[0]) & (rows["seed"] == own["seed"].iloc[0])]
    frame = pd.concat([frame, first[~first["arm"].isin(NOT_COMPARED)]], ignore_index=True)
    table = summarise(frame, metrics, baseline=reference).rename(columns={"arm": "cell"})
    table.insert(1, "seeds", table["cell"].map(own.groupby("cell")["seed"].nunique()).fillna(0).astype(int))
    return table[table["mean"].notna()].reset_index(drop=True)


def render(table: pd.DataFrame, reference: str, metrics: Sequence[str]) -> Group:
    """The table for people: one a metric, a line a cell; no difference is left out for being small."""
    note = f"Means over subjects, seeds averaged within each, with Student's {LEVEL:.0%} intervals over subjects."
    return Group(*(_of_metric(table[table["metric"] == metric], reference, metric) for metric in metrics), Text(note))


def _of_metric(rows: pd.DataFrame, reference: str, metric: str) -> Table:
    shown = Table(Column("cell", overflow="fold", min_width=18), "seeds", title=escape(metric), title_justify="left")
    for column in ("mean", escape(f"difference to {reference}"), "p"):
        shown.add_column(column, justify="right")
    for row in rows.to_dict("records"):
        shown.add_row(
            Text(str(row["cell"])),
            str(row["seeds"] or ""),
            _with_interval(row, "mean", "lower", "upper"),
            _with_interval(row, "difference", "difference_lower", "difference_upper", sign="+"),
            "" if math.isnan(row["p_value"]) else f"{row['p_value']:.2g}",
        )
    return shown


def _with_interval(row: Mapping[Hashable, Any], value: str, lower: str, upper: str, sign: str = "") -> str:
    digits = 3 if row["metric"].endswith(("ssim", "dice")) else 2
    return interval_text(row[value], row[lower], row[upper], f"{sign}.{digits}f")
