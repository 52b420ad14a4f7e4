"""Whether a synthetic CT has the right Hounsfield units, and whether an uncertainty map tells where it has not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import stats

from medgan.data.layouts import stem
from medgan.evaluation.fidelity import Array, Mask

NAN = float("nan")
UNSURE_PERCENT = 90


def errors_in(synthetic: Array, reference: Array, where: Mask) -> tuple[float, float]:
    """Mean absolute and mean error in a region, in HU; not a number where it is empty."""
    error = np.subtract(synthetic[where], reference[where], dtype=np.float64)
    return (float(np.abs(error).mean()), float(error.mean())) if error.size else (NAN, NAN)


def calibration(synthetic: Array, reference: Array, tissues: Mapping[str, Mask]) -> dict[str, float]:
    """``mae_TISSUE_hu``, ``bias_TISSUE_hu`` and ``slope_TISSUE``; not a number for an absent tissue.

    The slope is that of the least-squares line of synthetic on true HU, over voxels: 1 is right, 0 tells nothing apart,
    and it is not a number where the true CT does not vary. Noise and misregistration of the true CT lower it as well,
    since they are in the regressor: compare it with the slope of the true CT shifted by a voxel, not with 1 alone.
    """
    figures = {}
    for name, where in tissues.items():
        figures[f"mae_{name}_hu"], figures[f"bias_{name}_hu"] = errors_in(synthetic, reference, where)
        fake, real = synthetic[where].astype(np.float64), reference[where].astype(np.float64)
        apart = real - real.mean() if real.size else real
        spread = float(np.square(apart).sum())
        figures[f"slope_{name}"] = float((apart * fake).sum() / spread) if spread > 0 else NAN
    return figures


def clipped_percent(synthetic: Array, reference: Array, where: Mask) -> float:
    """Share of a region whose true HU lie beyond the lowest or highest value that the synthetic volume has anywhere.

    A network with a window cannot reach them, however well it is trained.
    """
    real = reference[where]
    return float(100 * ((real < synthetic.min()) | (real > synthetic.max())).mean()) if real.size else NAN


def map_beside(image: Path) -> Path:
    """Where ``medgan convert --uncertainty`` writes the map of an image."""
    return image.with_name(f"{stem(image)}_uncertainty.nii.gz")


def uncertainty_figures(unsure: Array, error: Array, inside: Mask) -> dict[str, float]:
    """What an uncertainty map (X, Y, Z) is worth inside a region, where the absolute error is known.

    Returns:
        ``uncertainty_spearman``, the rank correlation of both; ``uncertainty_spearman_where_unsure``, the same only
        where the map is not 0, since it is known without a map that air, fat and bone do not change; and
        ``error_in_most_unsure_tenth``, the mean error there as a multiple of the mean over all.
    """
    moving = inside & (unsure > 0)
    most = inside & (unsure >= np.percentile(unsure[inside], UNSURE_PERCENT)) if inside.any() else inside
    mean = error[inside].mean(dtype=np.float64) if inside.any() else 0.0
    return {
        "uncertainty_spearman": spearman(unsure[inside], error[inside]),
        "uncertainty_spearman_where_unsure": spearman(unsure[moving], error[moving]),
        "error_in_most_unsure_tenth": float(error[most].mean(dtype=np.float64) / mean) if mean else NAN,
    }


def spearman(one: Array, other: Array) -> float:
    """Spearman's rank correlation; not a number where either does not vary."""
    return float(stats.spearmanr(one, other).statistic) if one.size and np.ptp(one) and np.ptp(other) else NAN
