"""Where figures are measured: the body, its core that source and reference agree on, and the tissues of the true CT.

A misregistered pair differs most at its rim, where air meets skin; over the whole body such voxels decide which
translation looks best. In the core they do not count.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy import ndimage

from medgan.data import body as network_body
from medgan.data.agreement import MARGIN_VOXELS, eroded_in_plane
from medgan.data.domains import Domain, Window
from medgan.evaluation.fidelity import BODY_HU, IN_PLANE, Array, Mask, body_mask

Modality = Literal["CT", "MR"]

AROUND_VOXELS = 5
"""How far from the body air still counts as around it, in each slice."""
BONE_HU = 200.0
"""Above it a voxel of a CT without contrast medium is bone."""

_MR = Domain(
    name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.5, upper=99.5, percentiles=True)
)  # fmt: skip


def body(volume: Array, modality: Modality) -> Mask:
    """The patient, (X, Y, Z): from -300 HU in a CT, above the noise of the background in an MR."""
    return body_mask(volume) if modality == "CT" else network_body.body_mask(volume.astype(np.float32), _MR)


def core(one: Mask, other: Mask) -> Mask:
    """Where two bodies overlap and no voxel up to 3 rows and columns away in the slice lies outside, (X, Y, Z).

    Where the edge of the image cuts the body there is no rim, so nothing is taken off there.
    """
    return eroded_in_plane(one & other, MARGIN_VOXELS)


def true_tissues(reference: Array, where: Mask) -> Mapping[str, Mask]:
    """The tissues of a true CT in a region: bone above 200 HU, air below -300 HU, soft tissue between them.

    Args:
        reference: The true CT, (X, Y, Z) in HU.
        where: The region.
    """
    bone, air = reference > BONE_HU, reference < BODY_HU
    return {"soft_tissue": where & ~bone & ~air, "bone": where & bone, "air_inside": where & air}


def air_around(reference: Array, inside: Mask) -> Mask:
    """True air up to 5 voxels outside the body in its slice: where a body that is drawn too large shows, (X, Y, Z)."""
    near = ndimage.binary_dilation(inside, IN_PLANE, iterations=AROUND_VOXELS)
    return np.asarray(near & ~inside & (reference < BODY_HU))


def overlap(one: Mask, other: Mask) -> float:
    """Dice's coefficient, twice the shared voxels over the sum of both; not a number where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else float("nan")
