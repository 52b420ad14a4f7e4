"""Tissues laid over each other on a grid, each by the share of a voxel that it fills."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.shapes import coverage
from medgan.phantom.space import Box, Field, Space
from medgan.phantom.tissues import Layer

Piece = tuple[Layer, Space]
"""A layer, and the grid's points in its coordinates."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where a layer comes to lie."""

    box: Box
    """The voxels that it may touch."""
    near: Space
    """Their points."""
    share: Field
    """The share of each that it fills, 0 to 1."""


class Scanner(Protocol):
    """What a kind of scanner sees of the tissues: attenuation, or magnetisation."""

    def lay(self, layer: Layer, place: Footprint) -> None:
        """Lay one tissue over what is there."""


def laid(grid: Space, pieces: Iterable[Piece], *scanners: Scanner) -> NDArray[np.uint8]:
    """Lay pieces over each other before all of the scanners.

    Args:
        grid: The voxels.
        pieces: The lowest first.
        scanners: See the same shares of the same tissues in each voxel.

    Returns:
        The label of the tissue that last filled half of a voxel or more, (X, Y, Z); 0 where none did.
    """
    labels = np.zeros(grid.x.shape, dtype=np.uint8)
    for layer, space in pieces:
        box = space.box(layer.shape.low, layer.shape.high)
        near = space[box]
        if not near.x.size:
            continue
        share = coverage(layer.shape.distance(near), near.spacing_mm)
        for scanner in scanners:
            scanner.lay(layer, Footprint(box, near, share))
        labels[box][share >= 0.5] = layer.tissue
    return labels
