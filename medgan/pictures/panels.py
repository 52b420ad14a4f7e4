"""What a training shows after an epoch: slices of the same validation subjects, as rows of tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medgan.pictures.tiles import Picture, Row, sheet
from medgan.pictures.views import Plane, spread

CASES = 3
"""Subjects of a panel."""
AXIAL = 2
"""Axial slices of each."""
LEAST_HEIGHT = 0.4
"""Of the width, from which on a coronal slice follows: what is lower is a stripe."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows of tiles; they are drawn by whoever keeps them."""

    rows: Sequence[Row]
    caption: str
    """What the columns show, for a list of pictures."""

    def picture(self, title: str = "") -> Picture:
        """The panel as it is looked at."""
        return sheet(self.rows, self.caption, title=title)


def panel(rows: Sequence[Row], about: str) -> Panel:
    """Rows and what they are of, to which the titles of the columns are added; the patient's right is on the left."""
    titles = dict.fromkeys(tile.title for row in rows for tile in row.tiles if tile and tile.title)
    columns = f": {', '.join(titles)}" if titles else ""
    return Panel(rows, f"{about}{columns}; the patient's right is on the left")


def shown_slices(body: Sequence[tuple[int, int]], affine: NDArray[np.float64]) -> list[tuple[Plane, int]]:
    """Which slices of an upright volume are shown.

    Args:
        body: First and one-past-last index of what is of interest, along right, anterior and superior.
        affine: (4, 4), voxel index to RAS+ mm.

    Returns:
        Planes and places for :func:`medgan.pictures.views.view`; of a slice alone, itself.
    """
    axial: list[tuple[Plane, int]] = [("axial", place) for place in spread(body[2], AXIAL)]
    width, _, height = voxel_sizes(affine) * [last - first for first, last in body]
    coronal: list[tuple[Plane, int]] = [("coronal", spread(body[1], 1)[0])]
    return axial[::-1] + coronal * bool(height >= LEAST_HEIGHT * width)
