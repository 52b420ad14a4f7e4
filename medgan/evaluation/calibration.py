"""Whether a synthetic CT has the right Hounsfield units in each tissue of the true CT."""

from collections.abc import Mapping

import numpy as np

from medgan.evaluation.fidelity import Array, Mask

NAN = float("nan")


def calibration(synthetic: Array, reference: Array, tissues: Mapping[str, Mask]) -> dict[str, float]:
    """``mae_TISSUE_hu``, ``bias_TISSUE_hu`` and ``slope_TISSUE``; not a number for an absent tissue.

    Args:
        synthetic: The translated volume, (X, Y, Z) in HU.
        reference: The true CT on the same grid.
        tissues: Where each tissue is in the true CT.
    """
    figures = {}
    for name, where in tissues.items():
        fake, real = synthetic[where].astype(np.float64), reference[where].astype(np.float64)
        figures[f"mae_{name}_hu"] = float(np.abs(fake - real).mean()) if fake.size else NAN
        figures[f"bias_{name}_hu"] = float((fake - real).mean()) if fake.size else NAN
        figures[f"slope_{name}"] = slope(fake, real)
    return figures


def slope(synthetic: Array, reference: Array) -> float:
    """Slope of the least-squares line of synthetic on true HU, over voxels: 1 is right, 0 tells nothing apart.

    Noise and misregistration of the true CT lower it as well, since they are in the regressor: compare it with the
    slope of the true CT shifted by a voxel, not with 1 alone.

    Returns:
        Not a number where the true CT does not vary.
    """
    if reference.size == 0:
        return NAN
    apart = reference - reference.mean(dtype=np.float64)
    spread = float(np.square(apart).sum())
    return float((apart * synthetic).sum() / spread) if spread > 0 else NAN


def clipped_percent(synthetic: Array, reference: Array, where: Mask) -> float:
    """Share of a region whose true HU lie beyond the lowest or highest value that the synthetic volume has anywhere.

    A network with a window cannot reach them, however well it is trained.
    """
    if not where.any():
        return NAN
    real = reference[where]
    return float(100 * ((real < synthetic.min()) | (real > synthetic.max())).mean())
