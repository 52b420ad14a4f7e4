"""Whether a synthetic CT is as sharp as the true one, by its power at high spatial frequencies."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from medgan.evaluation.fidelity import Array, Mask

HIGH_CYCLES_PER_VOXEL = 0.25
"""Half of the Nyquist frequency: what repeats in fewer than four voxels."""
FLOOR_HU = -200.0
"""Air counts as this, a little below fat: else a body's outline, ten times as steep as any tissue's, would decide."""
TAPER_VOXELS = 4
"""Over how many voxels a region fades in from its edge, so that the edge itself has no high frequency."""


def taper(where: Mask) -> NDArray[np.float32]:
    """Weights from 0 outside a region to 1 four voxels inside it, a squared sine in each slice, (X, Y, Z)."""
    distance = [
        ndimage.distance_transform_edt(np.pad(where[..., z], 1))[1:-1, 1:-1] / TAPER_VOXELS
        for z in range(where.shape[2])
    ]
    faded = np.square(np.sin(np.pi / 2 * np.minimum(np.stack(distance, axis=2), 1)))
    return np.asarray(faded, dtype=np.float32)


def high_frequency_power(volume: Array, weights: NDArray[np.float32]) -> float:
    """Power of a volume (X, Y, Z) above half Nyquist in the plane of its slices, where the weights are.

    Of each slice the weighted mean is taken off, so that its level does not count; air counts as -200 HU.
    """
    box = ndimage.find_objects((weights > 0).astype(np.uint8))
    if not box:
        return 0.0
    part, weight = np.maximum(volume[box[0]], np.float32(FLOOR_HU)), weights[box[0]]
    total = weight.sum(axis=(0, 1))
    mean = (part * weight).sum(axis=(0, 1)) / np.where(total > 0, total, 1)
    size = [fft.next_fast_len(side, real=True) for side in part.shape[:2]]
    spectrum = fft.rfft2((part - mean) * weight, size, axes=(0, 1))
    x, y = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None, :]
    # Of a real signal only half of the columns is computed; those in between stand for two.
    twice = np.where((y == 0) | (y == 0.5), 1, 2)
    power = np.square(np.abs(spectrum)).sum(axis=2) * twice
    return float(power[np.hypot(x, y) > HIGH_CYCLES_PER_VOXEL].sum() / np.prod(size))
