"""How close and how sharp a synthetic CT is, first by the protocol of the SynthRAD2023 challenge.

All volumes are (X, Y, Z) in HU, Z = 1 for a slice. Source of the protocol: Huijben et al. 2024, arXiv:2403.08447.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage.metrics import structural_similarity

from medgan.data.masks import components
from medgan.errors import DataError, GeometryError

Array = NDArray[np.floating[Any] | np.integer[Any]]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Bounds = tuple[float, float]

LIMITS_HU = (-1024.0, 3000.0)
"""The range to which PSNR and SSIM clip; MAE does not clip."""
WINDOW_VOXELS = 7
"""Side of the uniform window of SSIM."""
BODY_HU = -300.0
"""Above it a voxel is tissue: well over lung, foam and blankets, well under fat."""
IN_PLANE = ndimage.generate_binary_structure(2, 1)[..., np.newaxis]
"""The four neighbours of a voxel in its slice, (3, 3, 1)."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of MS-SSIM, finest first; they sum to 1."""
SMALLEST_VOXELS = 2 ** (len(SCALE_WEIGHTS) - 1) * WINDOW_VOXELS
"""A side of 112 voxels still holds a window at the coarsest scale."""

HIGH_CYCLES_PER_VOXEL = 0.25
"""Half of the Nyquist frequency: what repeats in fewer than four voxels."""
FLOOR_HU = -200.0
"""Air counts as this, a little below fat: else a body's outline, ten times as steep as any tissue's, would decide."""
TAPER_VOXELS = 4
"""Over how many voxels a region fades in from its edge, so that the edge itself has no high frequency."""


def fidelity(synthetic: Array, reference: Array, mask: Mask, limits: Bounds = LIMITS_HU) -> dict[str, float]:
    """Every figure of the protocol: ``mae_hu``, ``bias_hu``, ``psnr_db`` and ``ssim``.

    PSNR and SSIM clip both volumes, (X, Y, Z), to ``limits``, whose distance is the peak, 4024 HU for CT. PSNR is
    infinite for identical volumes; the bias is positive where the synthetic one is too bright.
    """
    fake, real = _inside(synthetic, reference, mask)
    squared = np.square(np.clip(fake, *limits) - np.clip(real, *limits)).mean()
    return {
        "mae_hu": float(np.abs(fake - real).mean()),
        "bias_hu": float((fake - real).mean()),
        "psnr_db": float(10 * np.log10((limits[1] - limits[0]) ** 2 / squared)) if squared > 0 else float("inf"),
        "ssim": _ssim(synthetic, reference, mask, limits),
    }


def mae_hu(synthetic: Array, reference: Array, mask: Mask) -> float:
    """Mean absolute error over the mask in HU, unclipped."""
    fake, real = _inside(synthetic, reference, mask)
    return float(np.abs(fake - real).mean())


def _inside(synthetic: Array, reference: Array, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not synthetic.shape == reference.shape == mask.shape:
        raise GeometryError(
            f"synthetic {synthetic.shape}, reference {reference.shape} and mask {mask.shape} are not on one grid; "
            "compare volumes of the same shape."
        )
    if not mask.any():
        raise DataError("the mask is empty: there is nothing to compare; give a mask that covers the body.")
    return synthetic[mask].astype(np.float64), reference[mask].astype(np.float64)


def _ssim(synthetic: Array, reference: Array, mask: Mask, limits: Bounds) -> float:
    """Mean structural similarity inside the mask, what lies outside set to air (the lower limit) in both volumes.

    The window is 7 voxels cubed; in a stack of fewer than 7 slices, which has no such window, 7 × 7 in each slice. As
    in the challenge, voxels whose window leaves the volume do not count; not a number where that leaves none.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, on intensities shifted to start at 0.
    """
    margin = WINDOW_VOXELS // 2
    thickness = margin if mask.shape[2] >= WINDOW_VOXELS else 0
    inner = (slice(margin, -margin), slice(margin, -margin), slice(thickness, -thickness or None))
    counted = np.zeros_like(mask)
    counted[inner] = mask[inner]
    if not counted.any():
        return float("nan")
    box = ndimage.find_objects(counted.astype(np.uint8))[0]
    box = tuple(slice(side.start - m, side.stop + m) for side, m in zip(box, (margin, margin, thickness), strict=True))
    fake, real = (_clipped_inside(volume[box], mask[box], limits) for volume in (synthetic, reference))
    options = {"win_size": WINDOW_VOXELS, "data_range": limits[1] - limits[0], "full": True}
    if thickness:
        similarity = structural_similarity(fake, real, **options)[1]
    else:
        slices = [structural_similarity(fake[..., z], real[..., z], **options)[1] for z in range(fake.shape[2])]
        similarity = np.stack(slices, axis=2)
    return float(similarity[counted[box]].mean())


def _clipped_inside(volume: Array, mask: Mask, limits: Bounds) -> NDArray[np.float64]:
    """A volume clipped to the limits, air outside the mask, shifted to start at 0, (X, Y, Z)."""
    return np.where(mask, np.clip(volume, *limits), limits[0]).astype(np.float64) - limits[0]


def ms_ssim(synthetic: Array, reference: Array, mask: Mask, limits: Bounds = LIMITS_HU) -> float:
    """Contrast and structure at five scales, luminance at the coarsest, averaged inside the mask at each scale.

    What lies outside the mask is air in both volumes. Scales are halved within the slices, which are thinner and fewer
    than any volume with five scales would need; windows are 7 × 7 voxels and must lie in the image. A negative average
    counts as 0. Not a number where slices are smaller than 112 voxels, or no window at some scale has its centre in
    the mask.

    Source: Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216, with the uniform window of the challenge.
    """
    if min(mask.shape[:2]) < SMALLEST_VOXELS:
        return float("nan")
    fake, real = (
        (_clipped_inside(volume, mask, limits) / (limits[1] - limits[0])).astype(np.float32)
        for volume in (synthetic, reference)
    )
    share, product = mask.astype(np.float32), 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        counted = _inner(share) >= 0.5
        if not counted.any():
            return float("nan")
        similarity, structure = _similarity_maps(fake, real)
        values = similarity if scale == len(SCALE_WEIGHTS) - 1 else structure
        product *= max(float(values[counted].mean(dtype=np.float64)), 0.0) ** weight
        fake, real, share = _halved(fake), _halved(real), _halved(share)
    return product


def _similarity_maps(fake: Floats, real: Floats) -> tuple[Floats, Floats]:
    """Structural similarity, and its contrast-structure factor alone, of every window; the range is 1."""
    windows = [ndimage.uniform_filter(each, (WINDOW_VOXELS, WINDOW_VOXELS, 1)) for each in
               (fake, real, fake * fake, real * real, fake * real)]  # fmt: skip
    mean_fake, mean_real, square_fake, square_real, product = map(_inner, windows)
    variances = square_fake - mean_fake**2 + square_real - mean_real**2
    covariance = product - mean_fake * mean_real
    structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    luminance = (2 * mean_fake * mean_real + 0.01**2) / (mean_fake**2 + mean_real**2 + 0.01**2)
    return luminance * structure, structure


def _inner(volume: Floats) -> Floats:
    margin = WINDOW_VOXELS // 2
    return volume[margin:-margin, margin:-margin]


def _halved(volume: Floats) -> Floats:
    """The mean of each 2 × 2 voxels of a slice; an odd last row or column is left out."""
    x, y = (2 * (side // 2) for side in volume.shape[:2])
    return np.asarray(volume[:x, :y].reshape(x // 2, 2, y // 2, 2, -1).mean(axis=(1, 3)))


def taper(where: Mask) -> Floats:
    """Weights from 0 outside a region to 1 four voxels inside it, a squared sine in each slice, (X, Y, Z)."""
    distance = [
        ndimage.distance_transform_edt(np.pad(where[..., z], 1))[1:-1, 1:-1] / TAPER_VOXELS
        for z in range(where.shape[2])
    ]
    faded = np.square(np.sin(np.pi / 2 * np.minimum(np.stack(distance, axis=2), 1)))
    return np.asarray(faded, dtype=np.float32)


def high_frequency_power(volume: Array, weights: Floats) -> float:
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


def body_mask(hu: Array) -> Mask:
    """The patient without table and air: the largest piece above -300 HU, closed and filled slice by slice, (X, Y, Z).

    A first opening by one voxel cuts the thin contacts with the table; lungs and bowel gas belong to the body. Nothing
    is inside where nothing is denser than -300 HU.
    """
    tissue = ndimage.binary_opening(hu > BODY_HU, IN_PLANE)
    pieces, count = components(tissue, corners=False)
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return closed_in_plane(pieces == sizes.argmax(), 2)


def closed_in_plane(mask: Mask, voxels: int) -> Mask:
    """A mask with its gaps of up to twice ``voxels`` closed, then its holes filled, slice by slice, (X, Y, Z)."""
    around = [(2 * voxels, 2 * voxels)] * 2 + [(0, 0)]
    closed = ndimage.binary_closing(np.pad(mask, around), IN_PLANE, iterations=voxels)
    return np.asarray(ndimage.binary_fill_holes(closed, IN_PLANE))[tuple(slice(a, -a or None) for a, _ in around)]
