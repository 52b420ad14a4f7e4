"""Plots of a report, and slices of its worst cases with the outlines of the true and the found label.

They are drawn without a display and embedded in the page.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medgan.data.grid import same_grid, upright
from medgan.data.volumes import read_volume
from medgan.errors import DataError, GeometryError
from medgan.evaluation.statistics import verdict
from medgan.pictures.curves import COLOURS, STYLE
from medgan.pictures.tiles import OUTLINES, Outline, Picture, Row, Tile, sheet
from medgan.pictures.views import view_of
from medgan.pictures.windows import DisplayWindow

WIDTH_IN = 4.8
"""So narrow that letters of 9 points can still be read where a telephone shows the plot 9 cm wide."""
MARKS = {"higher": ("#0072B2", "o"), "lower": ("#D55E00", "s"), "not shown": ("#6B6B6B", "D"), "unknown": ("k", "x")}
MARKS_NOTE = "Circle: the interval is above 0. Square: below. Open diamond: no difference is shown."
TRUTH, FOUND = (OUTLINES[0], "truth", False), (OUTLINES[1], "label map", True)
OVERLAY = 340
"""Pixels of a worst case's edge."""
MARGIN = 0.6
"""Shown around both outlines, in multiples of their extent."""
LEAST_MARGIN_VOXELS = 12
GREY_PERCENTILES = (1.0, 99.0)
"""Of the intensities between and around the outlines; black and white lie half their distance beyond."""


def embedded(figure: Figure | Picture) -> str:
    """A figure as the ``src`` of an image, a picture as a PNG; equal figures give equal text."""
    if isinstance(figure, Picture):
        return f"data:image/png;base64,{base64.b64encode(figure.png()).decode()}"
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@contextmanager
def plot(high_in: float, *, grid: Literal["both", "x"] = "both", legend: bool = False) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one plot, as all plots of a page look; its lines are explained below it where there is a legend."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, high_in), layout="constrained")
        axes = figure.add_subplot()
        yield figure, axes
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis=grid, linewidth=0.4, alpha=0.5)
        if legend:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def forest(
    effects: pd.DataFrame, title: str, limits: tuple[float, float] | None = None, of: str = "difference in Dice"
) -> Figure:
    """Differences with their intervals, a line a pair of arms, in the order of the rows.

    ``effects`` are ``comparisons`` of one organ, test set and metric; plots side by side have the same ``limits``.
    """
    with plot(0.8 + 0.42 * max(1, len(effects)), grid="x") as (figure, axes):
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
    return figure


def common_limits(effects: pd.DataFrame) -> tuple[float, float] | None:
    """The span that holds every interval and 0, with a margin; None if there is nothing to span."""
    values = effects[["mean", "lower", "upper"]].stack().dropna()
    low, high = min(0.0, values.min()), max(0.0, values.max())
    if not len(values) or low == high:
        return None
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def learning_curves(
    curves: pd.DataFrame, arms: Sequence[str], value: str = "val_dice", label: str = "Dice of validation subjects"
) -> Figure:
    """Validation Dice by epoch as in ``curves.csv``: a thin line a training, a thick one the mean of an arm.

    Another figure is in the column ``value``, and called ``label``.
    """
    with plot(4.4, legend=True) as (figure, axes):
        for place, arm in enumerate(arms):
            own, colour = curves[curves["arm"] == arm], COLOURS[place % len(COLOURS)]
            if own.empty:
                continue
            for _, training in own.groupby(["seed", "subset"]):
                axes.plot(training["epoch"], training[value], color=colour, linewidth=0.5, alpha=0.45)
            mean = own.groupby("epoch")[value].mean()
            # a mark, too: a training that validates once has no line
            axes.plot(mean.index, mean, color=colour, linewidth=2, marker="o", markersize=3.5, label=arm)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
    return figure


def overlay(case: Mapping[str, Any], folder: Path, value: int) -> Picture:
    """The axial slice in which truth and label map differ most, cut out around both; see :func:`worst_tile`."""
    tile = worst_tile(case, folder, value)
    return sheet([Row([tile], tile.view.caption)], f"{tile.view.caption}; truth solid, label map dashed", side=OVERLAY)


def worst_tile(case: Mapping[str, Any], folder: Path, value: int) -> Tile:
    """The slice of :func:`overlay`.

    Args:
        case: An entry of ``worst`` in ``benefit.json``: ``image``, ``truth`` and ``label_map`` relative to the folder.
        folder: Of the study.
        value: The organ's number in both label maps.

    Raises:
        MedganError: Files that are unreadable or on different grids, or neither label in either map.
    """
    image, truth, prediction = (read_volume(folder / case[name]) for name in ("image", "truth", "label_map"))
    for labels in (truth, prediction):
        if not same_grid(image.grid, labels.grid):
            raise GeometryError(f"{labels.path} is not on the grid of {image.path}; run the study again.")
    place = _worst_slice(*(upright(labels).voxels == value for labels in (truth, prediction)))
    shown, *views = (view_of(volume, "axial", place) for volume in (image, truth, prediction))
    true, marked = (each.pixels == value for each in views)
    label = true | marked
    if not label.any():
        raise DataError(f"{prediction.path}: the organ is neither in the true nor in the found label map.")
    low, high = np.percentile(shown.pixels[_around(label, 0.0)], GREY_PERCENTILES)
    half = float(high - low) / 2 or 1.0
    unit = "HU" if image.modality == "CT" else "as stored"
    window = DisplayWindow("around the organ", float(low) - half, float(high) + half, unit)
    around = _around(label, MARGIN)
    outlines = [
        Outline(mask[around], colour, name, dashed) for mask, colour, name, dashed in ((true, *TRUTH), (marked, *FOUND))
    ]
    return Tile(shown.cut(*around), window, outlines=outlines)


def _worst_slice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> int:
    """The slice, along the last axis, with the most voxels that only one of two labels (X, Y, Z) has.

    Where both are equal, the one with the most voxels.
    """
    differing = (truth ^ prediction).sum(axis=(0, 1))
    return int(np.argmax(differing if differing.any() else truth.sum(axis=(0, 1))))


def _around(label: NDArray[np.bool_], margin: float) -> tuple[slice, slice]:
    """A window around a label (rows, columns) that is not empty; the margin is in multiples of its extent."""
    window = []
    for axis in (0, 1):
        places = np.flatnonzero(label.any(axis=1 - axis))
        beyond = max(LEAST_MARGIN_VOXELS, int(margin * (places[-1] - places[0] + 1))) if margin else 0
        window.append(slice(max(0, int(places[0]) - beyond), int(places[-1]) + beyond + 1))
    return window[0], window[1]
