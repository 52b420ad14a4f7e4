"""Multi-scale structural similarity inside a mask, slice by slice."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.evaluation.fidelity import LIMITS_HU, WINDOW_VOXELS, Array, Limits, Mask, clipped_inside

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, finest first; they sum to 1."""
SMALLEST_VOXELS = 2 ** (len(WEIGHTS) - 1) * WINDOW_VOXELS
"""A side of 112 voxels still holds a window at the coarsest scale."""

Floats = NDArray[np.float32]


def ms_ssim(synthetic: Array, reference: Array, mask: Mask, limits: Limits = LIMITS_HU) -> float:
    """Contrast and structure at five scales, luminance at the coarsest, averaged inside the mask at each scale.

    What lies outside the mask is air in both volumes. Scales are halved within the slices, which are thinner and fewer
    than any volume with five scales would need; windows are 7 × 7 voxels and must lie in the image. A negative average
    counts as 0.

    Args:
        synthetic: The translated volume, (X, Y, Z).
        reference: The true volume on the same grid.
        mask: Where to measure.
        limits: To which both are clipped; their distance is the dynamic range.

    Returns:
        Not a number where slices are smaller than 112 voxels, or no window at some scale has its centre in the mask.

    Source: Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216, with the uniform window of the challenge.
    """
    if min(mask.shape[:2]) < SMALLEST_VOXELS:
        return float("nan")
    fake, real = (
        (clipped_inside(volume, mask, limits) / (limits[1] - limits[0])).astype(np.float32)
        for volume in (synthetic, reference)
    )
    share, product = mask.astype(np.float32), 1.0
    for scale, weight in enumerate(WEIGHTS):
        counted = _inner(share) >= 0.5
        if not counted.any():
            return float("nan")
        similarity, structure = _maps(fake, real)
        values = similarity if scale == len(WEIGHTS) - 1 else structure
        product *= max(float(values[counted].mean(dtype=np.float64)), 0.0) ** weight
        fake, real, share = _halved(fake), _halved(real), _halved(share)
    return product


def _maps(fake: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Structural similarity, and its contrast-structure factor alone, of every window; the range is 1."""
    mean_fake, mean_real = _windowed(fake), _windowed(real)
    variances = _windowed(fake * fake) - mean_fake**2 + _windowed(real * real) - mean_real**2
    covariance = _windowed(fake * real) - mean_fake * mean_real
    structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    luminance = (2 * mean_fake * mean_real + 0.01**2) / (mean_fake**2 + mean_real**2 + 0.01**2)
    return luminance * structure, structure


def _windowed(volume: Floats) -> Floats:
    return _inner(ndimage.uniform_filter(volume, (WINDOW_VOXELS, WINDOW_VOXELS, 1)))


def _inner(volume: Floats) -> Floats:
    margin = WINDOW_VOXELS // 2
    return volume[margin:-margin, margin:-margin]


def _halved(volume: Floats) -> Floats:
    """The mean of each 2 × 2 voxels of a slice; an odd last row or column is left out."""
    x, y = (2 * (side // 2) for side in volume.shape[:2])
    return np.asarray(volume[:x, :y].reshape(x // 2, 2, y // 2, 2, -1).mean(axis=(1, 3)))
