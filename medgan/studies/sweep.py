"""Every combination of a translator's settings, each against the first: KEY=A,B."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar

import pandas as pd
from rich.console import Console, RenderableType
from rich.text import Text

from medgan.errors import ConfigError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import KEYS
from medgan.evaluation.statistics import LEVEL, plain, summarise
from medgan.studies.base import Stages, StudyKind, StudyOrder, StudySummary
from medgan.studies.tables import differences, summarised
from medgan.studies.tables import table as shown_table
from medgan.studies.translator import Cell, Translators

OPENING, CLOSING, QUOTES = "[{", "]}", "\"'"
TABLE = "table.csv"
HEADLINES = (
    "core_mae_hu", "mae_hu", "core_bone_dice", "bone_dice", "psnr_db", "ssim", "soft_tissue_distance_hu", "mae_percent",
    "enhancing_mae_percent",
)  # fmt: skip
"""Metrics that are printed, where the evaluation has them; the files hold all."""
OTHERWISE = 3
"""How many of the metrics are printed where it has none of them."""
BETTER_WHEN_HIGHER = ("dice", "psnr", "ssim")
NOT_COMPARED = (SYNTHETIC, "real")
"""Arms that are no baseline: the cells themselves, and real images of other subjects."""


class Sweep(StudyKind):
    """Every cell is trained with every seed, and compared with the first on the same test subjects."""

    heeds: ClassVar[tuple[str, ...]] = ("data",)
    keys = ("cell", "seed", *KEYS)
    rows_file = "study.csv"
    recorded = ("reference", "seeds")

    def __init__(self, order: StudyOrder, console: Console) -> None:
        super().__init__(order, console)
        self.shared, cells = self.cells()
        self.translators = Translators(order, cells, self.shared, order.folder, order.data)
        self.reference = next(iter(self.translators.cells))
        self.tags = self.translators.tags

    @classmethod
    def default_name(cls, order: StudyOrder) -> str:
        """The keys that vary; of a study that has cells of its own, its kind."""
        if cls is not Sweep:
            return order.kind
        _, cells = grid(order.overrides)
        return "-".join(["sweep", *(setting.partition("=")[0] for setting in cells[0].settings)])

    def cells(self) -> tuple[Sequence[str], Sequence[Cell]]:
        """The settings that all cells share, and the cells; the first is the reference."""
        return grid(self.order.overrides)

    def findings(self, rows: pd.DataFrame) -> Mapping[str, str]:  # noqa: ARG002
        """What follows beside the table, in words."""
        return {}

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        own = self.translators
        return {
            **super().description,
            **self.tags,
            "seeds": list(self.seeds),
            "shared": list(self.shared),
            "cells": {name: list(cell.settings) for name, cell in own.cells.items()},
            "reference": self.reference,
            "left_out": dict(own.left_out),
        }

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        return {"cells": "; ".join(self.translators.cells), **super().parameters}

    def notes(self) -> Sequence[str]:
        """See ``StudyKind``."""
        phantom = ["no --data: training on the built-in phantom, which never stands for a patient"]
        left_out = [f"left out: {cell}: {reason}" for cell, reason in self.translators.left_out.items()]
        return [*(phantom if self.phantom else ()), *left_out]

    def stages(self) -> Stages:
        """One: all translators."""
        yield self.translators.tasks(self.seeds)

    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """See ``StudyKind``."""
        if rows.empty:
            return StudySummary({"table": [], "findings": {}}, {TABLE: pd.DataFrame()}, artifacts=[TABLE])
        table, findings = _paired_table(rows, self.reference), dict(self.findings(rows))
        metrics, words = headlines(metrics_of(rows)), [Text(f"{name}: {words}") for name, words in findings.items()]
        return StudySummary(
            {"table": plain(table), "findings": findings},
            {TABLE: table},
            [*_tables(table, self.reference, metrics), *words],
            findings,
            differences(table, "cell", self.reference),
            tuple(metrics),
            {} if findings else {"metric": metrics[0]},
            artifacts=[TABLE],
            tags=findings,
        )


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The columns that hold figures."""
    return [str(column) for column in rows.columns if column not in Sweep.keys]


def headlines(metrics: Sequence[str]) -> list[str]:
    """The metrics that are printed."""
    return [metric for metric in HEADLINES if metric in metrics] or list(metrics[:OTHERWISE])


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better: of likeness, not of error."""
    return any(word in metric for word in BETTER_WHEN_HIGHER)


def _paired_table(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every metric of every cell over subjects, and its difference to the reference cell in the same subjects.

    A subject's images and seeds are averaged first: intervals are over subjects, the unit of evidence. The baselines
    that need no network follow the cells; they are the same for all.

    Returns:
        The columns of ``medgan.evaluation.statistics.summarise`` with ``cell`` in place of ``arm``, and ``seeds``: how
        many of them the figures are from, 0 for baselines.
    """
    own = rows[rows["arm"] == SYNTHETIC]
    cells = own.drop(columns="arm").rename(columns={"cell": "arm"})
    first = rows[(rows["cell"] == own["cell"].iloc[0]) & (rows["seed"] == own["seed"].iloc[0])]
    frame = pd.concat([cells, first[~first["arm"].isin(NOT_COMPARED)]], ignore_index=True)
    table = summarise(frame, metrics_of(rows), baseline=reference).rename(columns={"arm": "cell"})
    table.insert(1, "seeds", table["cell"].map(own.groupby("cell")["seed"].nunique()).fillna(0).astype(int))
    return table[table["mean"].notna()].reset_index(drop=True)


def _tables(table: pd.DataFrame, reference: str, metrics: Sequence[str]) -> Iterator[RenderableType]:
    """One a metric, a line a cell; no difference is left out for being small."""
    for metric in metrics:
        own = table[table["metric"] == metric]
        digits = 3 if metric.endswith(("ssim", "dice")) else 2
        lines = summarised(own, lambda row: (str(row["cell"]), str(row["seeds"] or "")), digits)
        yield shown_table(metric, ["cell", "seeds"], ["mean", f"difference to {reference}", "p"], lines)
    yield Text(f"Means over subjects, seeds averaged within each, with Student's {LEVEL:.0%} intervals over subjects.")


def grid(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[Cell]]:
    """``["pix2pix.l1=10,100", "fit.epochs=3"]`` as ``["fit.epochs=3"]``, which all cells share, and two cells.

    The first key varies slowest. Of a key that is given twice the last counts, as in every command.

    Raises:
        ConfigError: No ``KEY=VALUE``, a value that is missing or does not end, or seeds as an axis.
    """
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"{argument!r} is not a setting; write KEY=VALUE or KEY=A,B, as in `fit.epochs=3,6`.")
        if key == "seed":
            raise ConfigError("seed is no axis of a grid: every cell is trained with every seed; give them as --seeds.")
        axes[key] = _values(argument, text)
    varying = {key: options for key, options in axes.items() if len(options) > 1}
    shared = [f"{key}={options[0]}" for key, options in axes.items() if len(options) == 1]
    combinations = product(*([f"{key}={value}" for value in options] for key, options in varying.items()))
    return shared, [Cell(",".join(settings) or "as_configured", settings) for settings in combinations]


def _values(argument: str, text: str) -> list[str]:
    """The values of one key: ``text`` cut at its commas, but for those within brackets and quotes."""
    parts, quote, depth = [""], "", 0
    for character in text:
        before = parts[-1].rstrip()[-1:]
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES and (not before or before in "[{,:"):
            # Elsewhere it is an apostrophe, as in YAML.
            quote = character
        else:
            depth += (character in OPENING) - (character in CLOSING)
        if character == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if quote or depth:
        raise ConfigError(f"{argument!r} has {quote or 'a bracket'} without its end; close it, or quote the value.")
    values = [part.strip() for part in parts]
    if len(values) > 1 and not all(values):
        raise ConfigError(f"{argument!r} has no value between two commas; write KEY=A,B without a gap.")
    return values
