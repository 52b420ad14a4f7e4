"""Where the two images of a pair show the same body: the voxels whose error says something about a translation.

Pairs are aligned rigidly and patients move, so that at the rim one image shows skin where the other shows air. Such
voxels teach a network to blur the skin, and in a test they decide over a mean error that all else hardly moves.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.body import body_mask
from medgan.data.domains import DomainPair
from medgan.data.preparation import Prepared

MARGIN_VOXELS = 3
"""How far in plane the region stays away from the nearer of the two skins."""


def agreement(source: Prepared, target: Prepared, pair: DomainPair, margin_voxels: int = MARGIN_VOXELS) -> Prepared:
    """The region inside both bodies, in the form of a study, so that it is cut and turned as the pair is.

    Args:
        source: A study of the source domain, (X, Y, Z).
        target: The same subject in the target domain, on the same grid.
        pair: The two domains.
        margin_voxels: How much is taken off the common body in plane.

    Returns:
        Voxels of 1 inside and 0 outside, (X, Y, Z), float32; as a patch -1 is outside and +1 inside.
    """
    common = body_mask(source.voxels, pair.source, to_the_edge=True) & body_mask(target.voxels, pair.target)
    inside = eroded_in_plane(common, margin_voxels)
    return Prepared(inside.astype(np.float32), target.affine, target.body, bounds=(0.0, 1.0))


def eroded_in_plane(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) without its outermost voxels, slice by slice; the edge of the volume is no rim."""
    if voxels == 0:
        return mask
    square = np.ones((3, 3, 1), dtype=bool)
    return np.asarray(ndimage.binary_erosion(mask, square, iterations=voxels, border_value=1))
