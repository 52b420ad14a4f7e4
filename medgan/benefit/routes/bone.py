"""Bone as this study labels and judges it: what a CT shows above 200 HU in the body, without cracks and specks.

The clean-up is the same for the true CT, whose result is the label, and for whatever a route finds: gaps of up to two
voxels are closed slice by slice, then connected parts under 0.1 ml go. Marrow under 200 HU is no bone.
"""

import numpy as np
from scipy import ndimage

from medgan.data.masks import components
from medgan.evaluation.bone import Bone, bone_surface_dice
from medgan.evaluation.fidelity import IN_PLANE, Array, Mask
from medgan.evaluation.tissues import BONE_HU, body, overlap

LABEL = "bone"
LEAST_ML = 0.1
"""Parts of less volume are streaks and noise of a low-dose CT; the least bones of a hand and a foot are larger."""
METRICS = ("dice", "surface_dice")


def thresholded(hu: Array) -> Mask:
    """The voxels of a body that a CT, true or synthetic, shows above 200 HU, (X, Y, Z); not yet cleaned.

    Args:
        hu: (X, Y, Z) in HU.
    """
    return np.asarray((hu > BONE_HU) & body(hu, "CT"))


def cleaned(mask: Mask, voxel_ml: float) -> Mask:
    """A mask without cracks and specks; where the edge of the image cuts bone, nothing is taken off.

    Args:
        mask: (X, Y, Z).
        voxel_ml: Volume of a voxel.
    """
    around = [(1, 1), (1, 1), (0, 0)]
    closed = ndimage.binary_closing(np.pad(mask, around), IN_PLANE)[1:-1, 1:-1]
    parts, _ = components(closed)
    large = np.bincount(parts.ravel()) * voxel_ml >= LEAST_ML
    large[0] = False
    return np.asarray(large[parts])


def bone_scores(found: Bone, true: Bone, where: Mask) -> dict[str, float]:
    """``METRICS`` of a route's bone within a region; not a number where neither has any there.

    ``dice`` is twice the shared voxels over the sum of both, ``surface_dice`` the share of both surfaces within 2 mm of
    the other one, see :func:`medgan.evaluation.bone.bone_surface_dice`: the region's own border makes no surface.
    """
    return {
        "dice": overlap(found.mask & where, true.mask & where),
        "surface_dice": bone_surface_dice(found, true, where),
    }
