"""Where something lies in a patient: RAS mm and slice numbers, for tables and for whoever looks it up in a viewer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from medgan.data.grid import Grid
from medgan.pictures.views import PLANES

KINDS = ("lost", "invented", "changed", "beyond_change_map", "unexplained", "uncertain")
"""Of places, in the order in which people should look at them."""
COLUMNS = (
    *("subject", "image", "structure", "kind", "x_mm", "y_mm", "z_mm", "axial_slice", "coronal_slice"),
    *("sagittal_slice", "volume_ml", "contrast", "source_contrast", "score", "false_alarms_per_study", "picture"),
)  # fmt: skip
"""Of ``places.csv``."""


@dataclass(frozen=True, eq=False)
class Place:
    """Something that was lost, invented or is not explained, and where it lies."""

    structure: str
    """The label's name; empty where no label says what it is."""
    kind: str
    """Of ``KINDS``."""
    position_mm: tuple[float, float, float]
    """In RAS+ mm, the middle of one of its own voxels, the nearest to its middle."""
    slices: Mapping[str, int]
    """By plane, the slice through that voxel: from 1, counted from the patient's left, back or feet."""
    volume_ml: float
    figures: Mapping[str, Any]
    """What else is known of it, as ``COLUMNS`` call it."""
    voxels: NDArray[np.integer[Any]]
    """All of it, (N, 3)."""

    def row(self) -> dict[str, Any]:
        """As the table holds it, but for whose it is."""
        place = dict(zip(("x_mm", "y_mm", "z_mm"), np.round(self.position_mm, 1).tolist(), strict=True))
        numbers = {f"{plane}_slice": number for plane, number in self.slices.items()}
        own = {"structure": self.structure, "kind": self.kind, **place, **numbers}
        return own | {"volume_ml": round(self.volume_ml, 3), **self.figures}


def place_of(voxels: NDArray[np.integer[Any]], grid: Grid, *, structure: str, kind: str, **figures: object) -> Place:
    """The place of some voxels (N, 3) of a grid."""
    from_middle = (voxels - voxels.mean(axis=0)) * grid.spacing_mm
    x, y, z = voxels[np.argmin((from_middle**2).sum(axis=1))].tolist()
    position = apply_affine(grid.affine, (x, y, z)).tolist()
    slices = {}
    for axis, (across, way) in enumerate(io_orientation(grid.affine).astype(int).tolist()):
        index, size = (x, y, z)[axis], grid.size[axis]
        slices[PLANES[across]] = index + 1 if way > 0 else size - index
    volume_ml = len(voxels) * float(np.prod(grid.spacing_mm)) / 1000
    place = position[0], position[1], position[2]
    return Place(structure, kind, place, slices, volume_ml, figures, voxels)
