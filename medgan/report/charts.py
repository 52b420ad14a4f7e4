"""Plots of an evaluation: subjects, calibration and joint histogram."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medgan.evaluation.statistics import Interval
from medgan.pictures.curves import COLOURS
from medgan.report.figures import WIDTH_IN, plot

ARM_COLOURS = tuple(COLOURS[place] for place in (5, 6, 3, 1, 4, 7))
MARKERS = ("o", "D", "s", "^", "v", "P")
"""By arm, beside its colour; the first is filled."""
MOST_SUBJECTS = 40
"""Of a plot by subject; more have no room for their names."""
LONGEST_NAME = 22
"""Characters of a subject's name."""
LEAST_PERCENT = 1e-3
"""Of the voxels: what has less is no part of the line of means, and does not widen the axes."""


def subject_dots(values: pd.DataFrame, label: str) -> Figure:
    """A line a subject, in the order of the rows: its value in each arm, joined.

    ``values`` has a row a subject and a column an arm, the judged one first; ``label`` is said below the axis.
    """
    shown = values.head(MOST_SUBJECTS)
    with plot(1.2 + 0.24 * len(shown), grid="x", legend=True) as (figure, axes):
        for place, row in enumerate(shown.to_numpy(dtype=np.float64)):
            known = row[np.isfinite(row)]
            if known.size:
                axes.plot([known.min(), known.max()], [place, place], color="#bbbbbb", linewidth=1.2, zorder=1)
        for number, arm in enumerate(shown.columns):
            colour = ARM_COLOURS[number % len(ARM_COLOURS)]
            axes.plot(
                shown[arm], range(len(shown)), MARKERS[number % len(MARKERS)], color=colour,
                markerfacecolor=colour if number == 0 else "white", markersize=6, label=arm, zorder=3 - number / 10,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [_short(str(name)) for name in shown.index], fontsize=8)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(label)
    return figure


def bias_by_tissue(estimates: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Mean error with its interval, a line a tissue and arm; ``estimates`` by arm, then by tissue, in HU."""
    tissues = list(dict.fromkeys(tissue for own in estimates.values() for tissue in own))
    with plot(1.4 + 0.55 * len(tissues), grid="x", legend=True) as (figure, axes):
        for number, (arm, own) in enumerate(estimates.items()):
            colour = ARM_COLOURS[number % len(ARM_COLOURS)]
            shift = 0.22 * (number - (len(estimates) - 1) / 2)
            for tissue, estimate in own.items():
                place = tissues.index(tissue) + shift
                axes.plot([estimate.lower, estimate.upper], [place, place], color=colour, linewidth=1.8)
            places = [tissues.index(tissue) + shift for tissue in own]
            axes.plot(
                [estimate.mean for estimate in own.values()], places, MARKERS[number % len(MARKERS)], color=colour,
                markerfacecolor=colour if number == 0 else "white", markersize=5, label=arm,
            )  # fmt: skip
        axes.axvline(0.0, color="k", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(tissues)), [tissue.replace("_", " ") for tissue in tissues])
        axes.set_ylim(len(tissues) - 0.5, -0.5)
        axes.set_xlabel("mean error in HU, 95 % interval")
    return figure


def joint_histogram(counts: NDArray[np.float64], edges_hu: NDArray[np.float64]) -> Figure:
    """How often each pair of true (columns) and synthetic HU (rows) occurs: ``counts`` (true, synthetic).

    The dark line is the mean synthetic value at each true one.
    """
    centres = (edges_hu[:-1] + edges_hu[1:]) / 2
    share = 100 * counts / max(counts.sum(), np.finfo(float).tiny)
    total = share.sum(axis=1)
    known = total > LEAST_PERCENT
    seen = np.flatnonzero(known | (share.sum(axis=0) > LEAST_PERCENT))
    limits = (edges_hu[seen[0]], edges_hu[seen[-1] + 1]) if seen.size else (edges_hu[0], edges_hu[-1])
    with plot(0.8 * WIDTH_IN) as (figure, axes):
        norm = LogNorm(vmin=LEAST_PERCENT / 10, vmax=max(float(share.max()), LEAST_PERCENT))
        drawn = axes.pcolormesh(
            edges_hu, edges_hu, np.ma.masked_less_equal(share.T, 0), cmap="cividis_r", norm=norm, rasterized=True
        )
        axes.plot(limits, limits, color="#D55E00", linewidth=1, linestyle="--", label="right")
        axes.plot(
            centres[known], (share @ centres)[known] / total[known], color="k", linewidth=1.4, label="mean synthetic"
        )
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="true HU", ylabel="synthetic HU")
        axes.legend(loc="upper left", frameon=False, fontsize=8)
        bar = figure.colorbar(drawn, ax=axes, label="% of voxels", fraction=0.05)
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        bar.ax.yaxis.set_minor_formatter(lambda *_: "")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
