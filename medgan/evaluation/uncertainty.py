"""Whether an uncertainty map says where an image is wrong: its order of the voxels against that of their errors."""

from pathlib import Path

import numpy as np
from scipy import stats

from medgan.data.layouts import stem
from medgan.evaluation.fidelity import Array, Mask

UNSURE_PERCENT = 90


def map_beside(image: Path) -> Path:
    """Where ``medgan convert --uncertainty`` writes the map of an image."""
    return image.with_name(f"{stem(image)}_uncertainty.nii.gz")


def uncertainty_figures(unsure: Array, error: Array, inside: Mask) -> dict[str, float]:
    """What a map is worth where the truth is known.

    Args:
        unsure: The map, (X, Y, Z); 0 where the output cannot be otherwise.
        error: The absolute error of the image.
        inside: Where both are compared.

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
        "error_in_most_unsure_tenth": float(error[most].mean(dtype=np.float64) / mean) if mean else float("nan"),
    }


def spearman(one: Array, other: Array) -> float:
    """Spearman's rank correlation; not a number where either does not vary."""
    return float(stats.spearmanr(one, other).statistic) if one.size and np.ptp(one) and np.ptp(other) else float("nan")
