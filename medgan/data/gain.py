"""One scale for two MR images of a subject: each scan has a gain of its own, which says nothing about the tissue."""

from dataclasses import replace

import numpy as np

from medgan.data.preparation import Prepared


def on_scale_of(source: Prepared, target: Prepared, inside: Prepared) -> Prepared:
    """``target`` divided by its gain over ``source``, and windowed like it.

    The gain is the median ratio of the two inside the body. Contrast agent changes a minority of voxels, which does
    not move a median; what remains of the difference is enhancement.

    Args:
        source: (X, Y, Z) in arbitrary units.
        target: The same subject on the same grid.
        inside: Where both show the body, above 0; see :func:`medgan.data.agreement.agreement`.
    """
    usable = (inside.voxels > 0) & (source.voxels > 0) & (target.voxels > 0)
    if not usable.any():
        return replace(target, bounds=source.bounds)
    gain = np.float32(np.median(target.voxels[usable] / source.voxels[usable]))
    return replace(target, voxels=target.voxels / gain, bounds=source.bounds)
