"""Where the patient is: the body in a CT, what is not background in an MR."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from medgan.data.domains import Domain

CT_BODY_HU = -300.0
"""Between fat (-100) and lung or air; the lungs return when holes are filled."""

RANGE_PERCENTILES = (0.5, 99.5)
MR_AIR_SHARES = (0.02, 0.12)
"""In MR the brightest air lies between these shares of the range: over noise, under muscle and fluid in T1."""

Box = tuple[tuple[int, int], ...]


def body_mask(voxels: NDArray[np.floating], domain: Domain) -> NDArray[np.bool_]:
    """The largest connected thing that is not air, its holes filled slice by slice.

    Args:
        voxels: (X, Y, Z) in the domain's unit.
        domain: CT is cut at -300 HU, MR at Otsu's threshold of the logarithm of all intensities, which parts tissue
            from noise as well as from the zeros around a stripped skull; where a crop holds hardly any air that
            threshold would part fat from muscle, and it is kept within a share of the study's range.

    Returns:
        (X, Y, Z); empty where everything is air, or all alike in MR.
    """
    solid = ndimage.binary_opening(_not_air(voxels, domain), ndimage.generate_binary_structure(3, 1) & _IN_PLANE)
    parts, count = ndimage.label(solid)
    if count == 0:
        return np.zeros(voxels.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = np.asarray(parts == sizes.argmax())
    for z in range(body.shape[2]):
        body[:, :, z] = ndimage.binary_fill_holes(body[:, :, z])
    return body


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
    logarithm = np.log1p(np.maximum(voxels, 0))
    threshold = np.expm1(threshold_otsu(logarithm.ravel()))
    lowest, highest = np.percentile(voxels, RANGE_PERCENTILES)
    least, most = (lowest + share * (highest - lowest) for share in MR_AIR_SHARES)
    return np.asarray(voxels > np.clip(threshold, least, most))
