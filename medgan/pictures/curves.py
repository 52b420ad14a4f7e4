"""The curves of a training: its loss terms, its validation metrics and its learning rate, by epoch."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8C8C8C")
"""Told apart by the colour-blind, too: Okabe & Ito 2008, with grey for their yellow, which paper swallows."""
STYLE: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "medgan", "font.size": 9, "text.parse_math": False}
"""A name with dollar signs is a name, and no formula that may not parse."""
TRAIN, VALIDATION, RATE = "train/", "val/", "train/learning_rate_share"
COLUMNS = 3
WIDE_RANGE = 30.0
"""Terms whose largest value is so many times the smallest are drawn on a logarithmic scale."""


def progress(
    history: Sequence[Mapping[str, float]], best_epoch: int = 0, title: str = "", *, columns: int = COLUMNS
) -> bytes:
    """A PNG of a training: all loss terms in one plot, each validation metric in its own, and the learning rate.

    Args:
        history: A row an epoch, as in ``metrics.csv``; an epoch may lack a metric.
        best_epoch: Marked in every plot; 0 marks none.
        title: Over all plots.
        columns: Plots side by side, at most.
    """
    keys = list(dict.fromkeys(key for row in history for key in row))
    terms = [key for key in keys if key.startswith(TRAIN) and key != RATE]
    plots = [("training: loss terms", terms)] if terms else []
    plots += [(f"validation: {key.removeprefix(VALIDATION)}", [key]) for key in keys if key.startswith(VALIDATION)]
    plots += [("learning rate, share of the first", [RATE])] if RATE in keys else []
    columns = min(columns, max(1, len(plots)))
    rows = math.ceil(max(1, len(plots)) / columns)
    with mpl.rc_context(STYLE):
        high, wide = 0.4 + 2.9 * rows, 4.2 * columns
        figure = Figure(figsize=(wide, high))
        # By hand, since matplotlib's own layout takes longer than all the rest.
        figure.subplots_adjust(0.6 / wide, 0.5 / high, 1 - 0.15 / wide, 1 - 0.6 / high, wspace=0.2, hspace=0.36)
        for place, (name, shown) in enumerate(plots, start=1):
            _plot(figure.add_subplot(rows, columns, place), name, shown, history, best_epoch)
        figure.suptitle(title or f"epoch {len(history)}", fontsize=10, x=0.6 / wide, y=1 - 0.08 / high, ha="left")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _plot(axes: Axes, name: str, keys: Sequence[str], history: Sequence[Mapping[str, float]], best_epoch: int) -> None:
    """Some keys by epoch; where there are several, a legend tells them apart."""
    values = [row[key] for row in history for key in keys if math.isfinite(row.get(key, math.nan))]
    for place, key in enumerate(keys):
        points = [(row["epoch"], row[key]) for row in history if key in row]
        colour, dashes = COLOURS[place % len(COLOURS)], ("-", "--", ":")[place // len(COLOURS) % 3]
        marker = "o" if len(points) < 20 else ""  # an epoch alone has no line
        axes.plot(*zip(*points, strict=True), dashes, color=colour, linewidth=1.4, marker=marker, markersize=3,
                  label=key.removeprefix(TRAIN))  # fmt: skip
    if len(keys) > 1:
        axes.legend(fontsize=7, frameon=False)
        if values and min(values) > 0 and max(values) > WIDE_RANGE * min(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
    if best_epoch:
        axes.axvline(best_epoch, color=COLOURS[6], linewidth=1, linestyle="--")
        side = ("right", -2) if best_epoch > len(history) / 2 else ("left", 2)
        axes.annotate(f"best: {best_epoch}", (best_epoch, 1), (side[1], -9), xycoords=("data", "axes fraction"),
                      textcoords="offset points", fontsize=7, color=COLOURS[6], ha=side[0])  # fmt: skip
    axes.set_title(name, fontsize=9, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.set_xlabel("epoch", fontsize=8)
