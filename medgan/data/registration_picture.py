"""One glance at a registered pair: a checkerboard of both scans in the three middle planes."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medgan.data.domains import Domain, Window
from medgan.data.streams import replacing

WINDOWS = {"CT": Window(lower=-200.0, upper=400.0), "MR": Window(lower=1.0, upper=99.0, percentiles=True)}
FIELDS = 8
"""Of the checkerboard, along the shorter edge of a plane."""
PLANES = ("sagittal", "coronal", "axial")


def checkerboard(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two slices (X, Y) as the fields of one board; the first field, at index 0, 0, shows ``one``."""
    edge = max(1, min(one.shape) // FIELDS)
    x, y = np.indices(one.shape) // edge
    return np.where((x + y) % 2 == 0, one, other)


def draw_pair(
    fixed: NDArray[np.float32],
    moved: NDArray[np.float32],
    domains: tuple[Domain, Domain],
    spacing_mm: tuple[float, float, float],
    path: Path,
    title: str,
) -> None:
    """Write a PNG: above the checkerboards through the middle, below the fixed and the moved scan in the last plane.

    Args:
        fixed: (X, Y, Z).
        moved: (X, Y, Z), on the same grid.
        domains: Of the fixed and of the moved scan.
        spacing_mm: So that the planes are not stretched.
        path: The file, replaced whole.
        title: What it says above.
    """
    scans = [_grey(voxels, domain) for voxels, domain in zip((fixed, moved), domains, strict=True)]
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, parse_math=False)  # dollar signs of a name are no formula
    for column, plane in enumerate(PLANES):
        one, other = (scan.take(scan.shape[column] // 2, axis=column) for scan in scans)
        first, second = (spacing for axis, spacing in enumerate(spacing_mm) if axis != column)
        rows = [("checkerboard, " + plane, checkerboard(one, other))]
        rows.append((f"edges of {domains[1].name} on {domains[0].name}", one))
        for row, (text, picture) in enumerate(rows):
            axes = figure.add_subplot(2, 3, 1 + column + 3 * row)
            axes.imshow(picture.T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=second / first)
            axes.set_title(text)
            axes.axis("off")
        axes.contour(other.T, levels=[0.2, 0.7], colors=["tab:red", "tab:orange"], linewidths=0.7)
    with replacing(path) as stream:
        figure.savefig(stream, format="png")


def _grey(voxels: NDArray[np.float32], domain: Domain) -> NDArray[np.float64]:
    lower, upper = WINDOWS[domain.modality].bounds(voxels)
    return np.asarray(np.clip((voxels - lower) / (upper - lower), 0, 1), dtype=np.float64)
