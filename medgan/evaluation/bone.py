"""Bone of a synthetic CT against that of the true one: overlap, surface, and bone where there is none.

Bone is what exceeds 200 HU. Empty cases follow one rule: without bone in both there is nothing to judge (not a number),
with bone in one only the score is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from medgan.evaluation.fidelity import IN_PLANE, Array, Mask
from medgan.evaluation.tissues import BONE_HU, overlap

TOLERANCE_MM = 2.0
"""How far apart two surfaces may be and still agree: two pixels of a planning CT."""
NEAR_VOXELS = 2
"""Bone this near to true bone is misplaced rather than false."""


@dataclass(frozen=True, eq=False)
class Bone:
    """The bone of one CT; what is costly is computed once, and for the true CT serves every arm."""

    mask: Mask
    """(X, Y, Z)."""
    spacing_mm: Sequence[float]

    @classmethod
    def of(cls, hu: Array, spacing_mm: Sequence[float]) -> "Bone":
        """The voxels of a CT (X, Y, Z) above 200 HU."""
        return cls(np.asarray(hu > BONE_HU), spacing_mm)

    @cached_property
    def surface(self) -> Mask:
        """Bone voxels that have a face neighbour which is none; in a single slice only its four neighbours count."""
        faces = IN_PLANE if self.mask.shape[2] == 1 else ndimage.generate_binary_structure(3, 1)
        return np.asarray(self.mask & ~ndimage.binary_erosion(self.mask, faces))

    @cached_property
    def within_tolerance(self) -> Mask:
        """Voxels whose centre is at most 2 mm from that of a surface voxel."""
        within = np.zeros(self.mask.shape, dtype=bool)
        for bounds in ndimage.find_objects(self.mask.astype(np.uint8)):
            reach = [math.ceil(TOLERANCE_MM / spacing) for spacing in self.spacing_mm]
            box = tuple(slice(max(s.start - r, 0), s.stop + r) for s, r in zip(bounds, reach, strict=True))
            distance = ndimage.distance_transform_edt(~self.surface[box], sampling=self.spacing_mm)
            within[box] = distance <= TOLERANCE_MM
        return within

    @cached_property
    def near(self) -> Mask:
        """Bone and what is up to 2 steps between face neighbours away from it."""
        return np.asarray(ndimage.binary_dilation(self.mask, iterations=NEAR_VOXELS))


def bone_surface_dice(synthetic: Bone, true: Bone, where: Mask) -> float:
    """Share of both surfaces that has the other one within 2 mm.

    Surfaces and distances are those of the whole volume; the region only says which voxels count, so that its own
    border makes no surface.

    Source: Nikolov et al. 2021, doi:10.2196/26151, with boundary voxels for surface elements.
    """
    own, others = synthetic.surface & where, true.surface & where
    total = np.count_nonzero(own) + np.count_nonzero(others)
    agreeing = np.count_nonzero(own & true.within_tolerance) + np.count_nonzero(others & synthetic.within_tolerance)
    return agreeing / total if total else float("nan")


def bone_figures(synthetic: Bone, true: Bone, where: Mask) -> dict[str, float]:
    """Every figure about bone in a region; false bone has no true bone nearby."""
    false = int(np.count_nonzero(synthetic.mask & ~true.near & where))
    return {
        "bone_dice": overlap(synthetic.mask & where, true.mask & where),
        "bone_surface_dice": bone_surface_dice(synthetic, true, where),
        "false_bone_percent": 100 * false / voxels if (voxels := np.count_nonzero(where)) else float("nan"),
        "false_bone_ml": false * float(np.prod(synthetic.spacing_mm)) / 1000,
    }
