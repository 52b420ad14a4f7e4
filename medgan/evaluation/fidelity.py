"""How close a synthetic CT is to the true one, by the protocol of the SynthRAD2023 challenge.

All volumes are (X, Y, Z) in HU, Z = 1 for a slice. Source of the protocol: Huijben et al. 2024, arXiv:2403.08447.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity

from medgan.data.components import components
from medgan.errors import DataError, GeometryError

Array = NDArray[np.floating[Any] | np.integer[Any]]
Mask = NDArray[np.bool_]
Limits = tuple[float, float]

LOWEST_HU, HIGHEST_HU = -1024.0, 3000.0
"""The range to which PSNR and SSIM clip; MAE does not clip."""
LIMITS_HU = (LOWEST_HU, HIGHEST_HU)
RANGE_HU = HIGHEST_HU - LOWEST_HU
WINDOW_VOXELS = 7
"""Side of the uniform window of SSIM."""
BODY_HU = -300.0
"""Above it a voxel is tissue: well over lung, foam and blankets, well under fat."""

IN_PLANE = ndimage.generate_binary_structure(2, 1)[..., np.newaxis]
"""The four neighbours of a voxel in its slice, (3, 3, 1)."""


def fidelity(synthetic: Array, reference: Array, mask: Array | Mask | None = None) -> dict[str, float]:
    """Every figure of the protocol, by name.

    Args:
        synthetic: The translated volume, (X, Y, Z) in HU.
        reference: The true volume on the same grid.
        mask: Where to measure, non-zero inside; by default the reference's body.

    Returns:
        ``mae_hu``, ``bias_hu``, ``psnr_db`` (infinite for identical volumes) and ``ssim``.

    Raises:
        GeometryError: The shapes differ.
        DataError: The mask is empty.
    """
    inside = body_mask(reference) if mask is None else mask.astype(bool)
    return {
        "mae_hu": mae_hu(synthetic, reference, inside),
        "bias_hu": bias_hu(synthetic, reference, inside),
        "psnr_db": psnr_db(synthetic, reference, inside),
        "ssim": ssim(synthetic, reference, inside),
    }


def mae_hu(synthetic: Array, reference: Array, mask: Mask) -> float:
    """Mean absolute error over the mask in HU, unclipped."""
    fake, real = _inside(synthetic, reference, mask)
    return float(np.abs(fake - real).mean())


def bias_hu(synthetic: Array, reference: Array, mask: Mask) -> float:
    """Mean error over the mask in HU: positive where the synthetic volume is too bright."""
    fake, real = _inside(synthetic, reference, mask)
    return float((fake - real).mean())


def psnr_db(synthetic: Array, reference: Array, mask: Mask, limits: Limits = LIMITS_HU) -> float:
    """Peak signal-to-noise ratio over the mask in dB; infinite without error.

    Both volumes are clipped to the limits, and the peak is the distance between these, 4024 HU for CT.
    """
    fake, real = _inside(synthetic, reference, mask)
    error = np.square(np.clip(fake, *limits) - np.clip(real, *limits)).mean()
    return float(10 * np.log10((limits[1] - limits[0]) ** 2 / error)) if error > 0 else float("inf")


def ssim(synthetic: Array, reference: Array, mask: Mask, limits: Limits = LIMITS_HU) -> float:
    """Mean structural similarity inside the mask, what lies outside set to air (the lower limit) in both volumes.

    The window is 7 voxels cubed; in a stack of fewer than 7 slices, which has no such window, 7 × 7 in each slice. As
    in the challenge, voxels whose window leaves the volume do not count; not a number where that leaves none.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, on intensities shifted to start at 0.
    """
    _check(synthetic, reference, mask)
    margin = WINDOW_VOXELS // 2
    thickness = margin if mask.shape[2] >= WINDOW_VOXELS else 0
    inner = (slice(margin, -margin), slice(margin, -margin), slice(thickness, -thickness or None))
    counted = np.zeros_like(mask)
    counted[inner] = mask[inner]
    if not counted.any():
        return float("nan")
    box = ndimage.find_objects(counted.astype(np.uint8))[0]
    box = tuple(slice(side.start - m, side.stop + m) for side, m in zip(box, (margin, margin, thickness), strict=True))
    fake, real = (clipped_inside(volume[box], mask[box], limits) for volume in (synthetic, reference))
    span = limits[1] - limits[0]
    if thickness:
        return float(_similarity(fake, real, span)[counted[box]].mean())
    slices = [_similarity(fake[..., z], real[..., z], span) for z in range(fake.shape[2])]
    return float(np.stack(slices, axis=2)[counted[box]].mean())


def clipped_inside(volume: Array, mask: Mask, limits: Limits = LIMITS_HU) -> NDArray[np.float64]:
    """A volume clipped to the limits, air outside the mask, shifted to start at 0, (X, Y, Z)."""
    return np.where(mask, np.clip(volume, *limits), limits[0]).astype(np.float64) - limits[0]


def body_mask(hu: Array) -> Mask:
    """The patient without table and air: the largest piece above -300 HU, closed and filled slice by slice.

    A first opening by one voxel cuts the thin contacts with the table; lungs and bowel gas belong to the body.

    Args:
        hu: A CT volume, (X, Y, Z) in HU.

    Returns:
        True inside, (X, Y, Z); nowhere if nothing is denser than -300 HU.
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


def _inside(synthetic: Array, reference: Array, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _check(synthetic, reference, mask)
    return synthetic[mask].astype(np.float64), reference[mask].astype(np.float64)


def _check(synthetic: Array, reference: Array, mask: Mask) -> None:
    if not synthetic.shape == reference.shape == mask.shape:
        raise GeometryError(
            f"synthetic {synthetic.shape}, reference {reference.shape} and mask {mask.shape} are not on one grid; "
            "compare volumes of the same shape."
        )
    if not mask.any():
        raise DataError("the mask is empty: there is nothing to compare; give a mask that covers the body.")


def _similarity(fake: NDArray[np.float64], real: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    _, similarity = structural_similarity(fake, real, win_size=WINDOW_VOXELS, data_range=span, full=True)
    return np.asarray(similarity)
