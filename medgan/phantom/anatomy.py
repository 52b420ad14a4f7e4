"""What lies where in a subject, before any scanner looks at it, and how it is laid on a grid.

An anatomy knows nothing of voxels, so that one subject can be rendered on any grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.shapes import Shape, coverage
from medgan.phantom.space import Box, Field, Point, Space, Waves
from medgan.phantom.tissues import Label


@dataclass(frozen=True)
class Layer:
    """A tissue laid over whatever was there before."""

    tissue: Label
    shape: Shape
    offset_hu: float = 0.0  # how much denser this piece is than its tissue is in this subject
    filling: Label | None = None
    """What MR finds in it, where that is not the tissue of its label: the marrow of a rib."""


@dataclass(frozen=True)
class Anatomy:
    """One subject's layers, the lowest first, and how the subject's build bends the average coordinates."""

    layers: tuple[Layer, ...]
    build: Point  # how much larger than average the subject is, along x, y and z
    bend: tuple[Waves, ...]  # a smooth displacement (mm) along each axis, which makes no two subjects alike anywhere

    def coordinates(self, scanner: Space) -> Space:
        """The average subject's coordinates of the scanner's points."""
        fields = zip((scanner.x, scanner.y, scanner.z), self.build, self.bend, strict=True)
        x, y, z = (field / scale + bend(scanner) for field, scale, bend in fields)
        return Space(x, y, z, scanner.spacing_mm)


class Scanner(Protocol):
    """One examination of a subject in the making: attenuation, or magnetisation."""

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:
        """Lay one tissue over the voxels of a box, their points and the share of each that it fills."""


def lay(layers: Iterable[Layer], at: Space, *scanners: Scanner) -> NDArray[np.uint8]:
    """Lay layers over each other, the lowest first, before all scanners, which see the same share of each voxel.

    ``at`` holds the grid's points in the layers' coordinates. The result is the label of the tissue that last filled
    half of a voxel or more, (X, Y, Z); 0 where none did.
    """
    labels = np.zeros(at.x.shape, dtype=np.uint8)
    for layer in layers:
        box = at.box(layer.shape.low, layer.shape.high)
        near = at[box]
        if not near.x.size:
            continue
        share = coverage(layer.shape.distance(near), near.spacing_mm)
        for scanner in scanners:
            scanner.lay(layer, box, near, share)
        labels[box][share >= 0.5] = layer.tissue
    return labels
