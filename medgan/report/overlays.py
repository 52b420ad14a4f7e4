"""The worst cases of a study to look at: one slice each, with the outlines of the true and the found label."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from medgan.data.grid import Volume, same_grid
from medgan.data.volumes import read_volume
from medgan.errors import DataError, GeometryError
from medgan.report.figures import STYLE

TRUTH_COLOUR, FOUND_COLOUR = "#00E5A0", "#FF4FD8"
MARGIN = 0.6
"""Shown around both outlines, in multiples of their extent."""
LEAST_MARGIN_VOXELS = 12
GREY_PERCENTILES = (1.0, 99.0)
"""Of the intensities between and around the outlines; black and white lie half their distance beyond."""


def overlay(case: Mapping[str, Any], folder: Path, value: int) -> Figure:
    """The axial slice in which truth and label map differ most, cut out around both; the patient's right is left.

    Args:
        case: An entry of ``worst`` in ``benefit.json``: ``image``, ``truth`` and ``label_map`` relative to the folder.
        folder: Of the study.
        value: The organ's number in both label maps.

    Raises:
        MedganError: Files that are unreadable or on different grids, or neither label in either map.
    """
    image, truth, found = (read_volume(folder / case[name]) for name in ("image", "truth", "label_map"))
    for labels in (truth, found):
        if not same_grid(image.grid, labels.grid):
            raise GeometryError(f"{labels.path} is not on the grid of {image.path}; run the study again.")
    grey = _upright(image)
    true, given = (_upright(labels) == value for labels in (truth, found))
    place = _worst_slice(true, given)
    label = (true | given)[..., place]
    if not label.any():
        raise DataError(f"{found.path}: the organ is neither in the true nor in the found label map.")
    (x, y), tight = _around(label, MARGIN), _around(label, 0.0)
    low, high = np.percentile(grey[(*tight, place)], GREY_PERCENTILES)
    axes_mm = dict(zip(io_orientation(image.grid.affine)[:, 0].tolist(), image.grid.spacing_mm, strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 3.4), layout="constrained", facecolor="black")
        axes = figure.add_subplot()
        black, white = float(low - (high - low) / 2), float(high + (high - low) / 2)
        aspect = axes_mm[1] / axes_mm[0]
        axes.imshow(grey[x, y, place].T, cmap="gray", vmin=black, vmax=white, origin="upper", aspect=aspect)
        for mask, colour, dashes in ((true, TRUTH_COLOUR, "solid"), (given, FOUND_COLOUR, "dashed")):
            shown = mask[x, y, place]
            if shown.any() and not shown.all():
                axes.contour(shown.T, levels=[0.5], colors=colour, linewidths=1.6, linestyles=dashes)
        axes.set_axis_off()
    return figure


def _worst_slice(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> int:
    """The slice, along the last axis, with the most voxels that only one of two labels (X, Y, Z) has.

    Where both are equal, the one with the most voxels.
    """
    differing = (truth ^ found).sum(axis=(0, 1))
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
