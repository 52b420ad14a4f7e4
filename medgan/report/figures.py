"""Plots of a report, and slices of its worst cases with the outlines of the true and the found label.

They are drawn without a display and embedded in the page.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from medgan.data.grid import Volume, same_grid
from medgan.data.volumes import read_volume
from medgan.errors import DataError, GeometryError
from medgan.evaluation.statistics import verdict

WIDTH_IN = 4.8
"""So narrow that letters of 9 points can still be read where a telephone shows the plot 9 cm wide."""
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#8C8C8C")
"""Told apart by the colour-blind, too: Okabe & Ito 2008, with grey for their yellow, which paper swallows."""
STYLE: dict[Any, Any] = {"svg.fonttype": "path", "svg.hashsalt": "medgan", "font.size": 9, "text.parse_math": False}
"""A name with dollar signs is a name, and no formula that may not parse."""
MARKS = {"higher": ("#0072B2", "o"), "lower": ("#D55E00", "s"), "not shown": ("#6B6B6B", "D"), "unknown": ("k", "x")}
TRUTH_COLOUR, FOUND_COLOUR = "#00E5A0", "#FF4FD8"
MARGIN = 0.6
"""Shown around both outlines, in multiples of their extent."""
LEAST_MARGIN_VOXELS = 12
GREY_PERCENTILES = (1.0, 99.0)
"""Of the intensities between and around the outlines; black and white lie half their distance beyond."""


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

    ``effects`` are ``comparisons`` of one organ, test set and metric; plots side by side have the same ``limits``.
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


def overlay(case: Mapping[str, Any], folder: Path, value: int) -> Figure:
    """The axial slice in which truth and label map differ most, cut out around both; the patient's right is left.

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
    grey = _upright(image)
    true, marked = (_upright(labels) == value for labels in (truth, prediction))
    place = _worst_slice(true, marked)
    label = (true | marked)[..., place]
    if not label.any():
        raise DataError(f"{prediction.path}: the organ is neither in the true nor in the found label map.")
    (x, y), tight = _around(label, MARGIN), _around(label, 0.0)
    low, high = np.percentile(grey[(*tight, place)], GREY_PERCENTILES)
    axes_mm = dict(zip(io_orientation(image.grid.affine)[:, 0].tolist(), image.grid.spacing_mm, strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 3.4), layout="constrained", facecolor="black")
        axes = figure.add_subplot()
        black, white = float(low - (high - low) / 2), float(high + (high - low) / 2)
        aspect = axes_mm[1] / axes_mm[0]
        axes.imshow(grey[x, y, place].T, cmap="gray", vmin=black, vmax=white, origin="upper", aspect=aspect)
        for mask, colour, dashes in ((true, TRUTH_COLOUR, "solid"), (marked, FOUND_COLOUR, "dashed")):
            shown = mask[x, y, place]
            if shown.any() and not shown.all():
                axes.contour(shown.T, levels=[0.5], colors=colour, linewidths=1.6, linestyles=dashes)
        axes.set_axis_off()
    return figure


def _worst_slice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> int:
    """The slice, along the last axis, with the most voxels that only one of two labels (X, Y, Z) has.

    Where both are equal, the one with the most voxels.
    """
    differing = (truth ^ prediction).sum(axis=(0, 1))
    return int(np.argmax(differing if differing.any() else truth.sum(axis=(0, 1))))


def _upright(volume: Volume) -> NDArray[np.float32]:
    """Voxels whose first axis runs to the patient's left, the second to the back, the third upwards."""
    turn = ornt_transform(io_orientation(volume.grid.affine), axcodes2ornt(("L", "P", "S")))
    return np.asarray(apply_orientation(volume.voxels, turn))


def _around(label: NDArray[np.bool_], margin: float) -> tuple[slice, slice]:
    """A window around a label (X, Y) that is not empty; the margin is in multiples of its extent, 0 for none."""
    window = []
    for axis in (0, 1):
        places = np.flatnonzero(label.any(axis=1 - axis))
        beyond = max(LEAST_MARGIN_VOXELS, int(margin * (places[-1] - places[0] + 1))) if margin else 0
        window.append(slice(max(0, int(places[0]) - beyond), int(places[-1]) + beyond + 1))
    return window[0], window[1]
