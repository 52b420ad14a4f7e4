"""Where the patient is: the body in a CT, what is not background in an MR."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from medgan.data.components import components
from medgan.data.domains import Domain

CT_BODY_HU = -300.0
"""Between fat (-100) and lung or air; the lungs return when holes are filled."""

RANGE_PERCENTILES = (0.5, 99.5)
MR_AIR_SHARES = (0.02, 0.12)
"""In MR the brightest air lies between these shares of the range: over noise, under muscle and fluid in T1."""

SECOND_PART = 0.1
"""Share of the largest thing in an MR from which another one is a part of the patient and no artefact."""

Box = tuple[tuple[int, int], ...]


def body_mask(voxels: NDArray[np.floating], domain: Domain, *, to_the_edge: bool = False) -> NDArray[np.bool_]:
    """What is not air, without the table, its holes filled slice by slice.

    Args:
        voxels: (X, Y, Z) in the domain's unit.
        domain: CT is cut at -300 HU, MR at Otsu's threshold of the logarithm of all intensities, which parts tissue
            from noise as well as from the zeros around a stripped skull; where a crop holds hardly any air that
            threshold would part fat from muscle, and it is kept within a share of the study's range. In CT the patient
            is the largest connected thing; MR shows no table, and other large things (the second leg) count, too.

        to_the_edge: In MR bone is as dark as air, and where it touches the edge of the image it is a notch and no
            hole: fill notches, too. Some air in the image's corners then counts as body.

    Returns:
        (X, Y, Z); empty where everything is air, or all alike in MR.
    """
    solid = ndimage.binary_opening(_not_air(voxels, domain), ndimage.generate_binary_structure(3, 1) & _IN_PLANE)
    parts, count = components(solid, corners=False)
    if count == 0:
        return np.zeros(voxels.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    least = sizes.max() if domain.modality == "CT" else SECOND_PART * sizes.max()
    body = np.asarray((sizes >= least)[parts])
    for z in range(body.shape[2]):
        body[:, :, z] = _filled(body[:, :, z], to_the_edge and domain.modality == "MR")
    return body


def _filled(body: NDArray[np.bool_], to_the_edge: bool) -> NDArray[np.bool_]:
    """One slice (X, Y) without holes, and without notches where an edge that the body reaches closes them."""
    framed = np.pad(body, 1)
    if to_the_edge:
        framed[0, 1:-1], framed[-1, 1:-1] = body[0].any(), body[-1].any()
        framed[1:-1, 0], framed[1:-1, -1] = body[:, 0].any(), body[:, -1].any()
    return np.asarray(ndimage.binary_fill_holes(framed))[1:-1, 1:-1]


def body_box(voxels: NDArray[np.floating], domain: Domain) -> Box:
    """First and one-past-last index of the body along each axis; the whole volume where no body is found."""
    mask = body_mask(voxels, domain)
    if not mask.any():
        return tuple((0, size) for size in voxels.shape)
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple((int(extent.start), int(extent.stop)) for extent in found)


_IN_PLANE = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], axis=2).astype(bool)
"""Opening acts within a slice only: stacks may be one slice thin."""


def _not_air(voxels: NDArray[np.floating], domain: Domain) -> NDArray[np.bool_]:
    if domain.modality == "CT":
        return np.asarray(voxels > CT_BODY_HU)
    logarithm = np.maximum(voxels, 0)
    threshold = np.expm1(threshold_otsu(np.log1p(logarithm, out=logarithm).ravel()))
    del logarithm
    lowest, highest = np.percentile(voxels, RANGE_PERCENTILES)
    least, most = (lowest + share * (highest - lowest) for share in MR_AIR_SHARES)
    return np.asarray(voxels > np.clip(threshold, least, most))
