"""The plots of a benefit report, drawn without a display and embedded in the page."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medgan.evaluation.statistics import verdict

WIDTH_IN = 4.8
"""So narrow that letters of 9 points can still be read where a telephone shows the plot 9 cm wide."""
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8C8C8C")
"""Told apart by the colour-blind, too: Okabe & Ito 2008, with grey for their yellow, which paper swallows."""
STYLE: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "medgan", "font.size": 9, "text.parse_math": False}
"""A name with dollar signs is a name, and no formula that may not parse."""
MARKS = {"higher": ("#0072B2", "o"), "lower": ("#D55E00", "s"), "not shown": ("#6B6B6B", "D"), "unknown": ("k", "x")}


def embedded(figure: Figure, *, kind: str = "svg") -> str:
    """A figure as the ``src`` of an image, ``png`` where there are voxels in it; equal figures give equal text."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    media = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{media};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def forest(
    effects: pd.DataFrame, title: str, limits: tuple[float, float] | None = None, of: str = "difference in Dice"
) -> Figure:
    """Differences with their intervals, a line a pair of arms, in the order of the rows.

    Args:
        effects: Rows of ``Findings.comparisons``: one organ, test set and metric.
        title: Above.
        limits: Of the difference; the same in plots that stand side by side.
        of: What is plotted.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.8 + 0.42 * max(1, len(effects))), layout="constrained")
        axes = figure.add_subplot()
        for place, effect in enumerate(effects.to_dict("records")):
            colour, marker = MARKS[verdict(effect)]
            axes.plot([effect["lower"], effect["upper"]], [place, place], color=colour, linewidth=1.8)
            filled = colour if verdict(effect) != "not shown" else "white"
            axes.plot(effect["mean"], place, marker, color=colour, markerfacecolor=filled, markersize=5)
        axes.axvline(0.0, color="k", linewidth=0.8, linestyle=":")
        names = [f"{arm}\nagainst {other}" for arm, other in zip(effects["arm"], effects["reference"], strict=True)]
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        if limits:
            axes.set_xlim(*limits)
        axes.set_xlabel(f"{of}, 95 % interval")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    return figure


def common_limits(effects: pd.DataFrame) -> tuple[float, float] | None:
    """The span that holds every interval and 0, with a margin; None if there is nothing to span."""
    values = effects[["mean", "lower", "upper"]].stack().dropna()
    low, high = min(0.0, values.min()), max(0.0, values.max())
    if not len(values) or low == high:
        return None
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def learning_curves(curves: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Validation Dice by epoch as in ``curves.csv``: a thin line a training, a thick one the mean of an arm."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for place, arm in enumerate(arms):
            own, colour = curves[curves["arm"] == arm], COLOURS[place % len(COLOURS)]
            if own.empty:
                continue
            for _, training in own.groupby(["seed", "subset"]):
                axes.plot(training["epoch"], training["val_dice"], color=colour, linewidth=0.5, alpha=0.45)
            mean = own.groupby("epoch")["val_dice"].mean()
            # a mark, too: a training that validates once has no line
            axes.plot(mean.index, mean, color=colour, linewidth=2, marker="o", markersize=3.5, label=arm)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("Dice of validation subjects")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(linewidth=0.4, alpha=0.5)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure
