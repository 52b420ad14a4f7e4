"""Where the two images of a pair show the same body: the voxels whose error says something about a translation.

Pairs are aligned rigidly and patients move, so that at the rim one image shows skin where the other shows air. Such
voxels teach a network to blur the skin, and in a test they decide over a mean error that all else hardly moves.
"""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.domains import DomainPair
from medgan.data.masks import body_mask
from medgan.data.preparation import Prepared

MARGIN_VOXELS = 3
"""How far in plane the region stays away from the nearer of the two skins."""
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Along the axes only: every shift has the wanted length to the voxel, and nothing is interpolated."""


def agreement(source: Prepared, target: Prepared, pair: DomainPair, margin_voxels: int = MARGIN_VOXELS) -> Prepared:
    """The region inside both bodies, less a margin in plane, as a study, so that it is cut and turned as the pair is.

    Both are of one subject on one grid. Voxels (X, Y, Z) are 1 inside and 0 outside, as a patch +1 and -1.
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


def on_scale_of(source: Prepared, target: Prepared, inside: Prepared) -> Prepared:
    """``target`` divided by its gain over ``source``, and windowed like it.

    The gain is the median ratio of the two ``inside`` the body, see :func:`agreement`. Contrast agent changes a
    minority of voxels, which does not move a median; what remains of the difference is enhancement.
    """
    usable = (inside.voxels > 0) & (source.voxels > 0) & (target.voxels > 0)
    if not usable.any():
        return replace(target, bounds=source.bounds)
    gain = np.float32(np.median(target.voxels[usable] / source.voxels[usable]))
    return replace(target, voxels=target.voxels / gain, bounds=source.bounds)


def misaligned(study: Prepared, voxels: int, *, subject: str, seed: int) -> Prepared:
    """A study moved so many voxels in plane in its subject's direction, its edges repeated; affine and body stay."""
    if voxels == 0:
        return study
    sides = zip(study.voxels.shape, direction(subject, seed), strict=False)
    along = [np.clip(np.arange(size) - voxels * step, 0, size - 1) for size, step in sides]
    return replace(study, voxels=np.ascontiguousarray(study.voxels[np.ix_(*along)]))


def direction(subject: str, seed: int) -> tuple[int, int]:
    """One of the four directions, as steps to the right and to the front; a function of the seed and the name alone."""
    digest = hashlib.sha256(f"{seed} {subject}".encode()).digest()
    return DIRECTIONS[digest[0] % len(DIRECTIONS)]
