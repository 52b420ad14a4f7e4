"""Whether a synthetic contrast-enhanced MR enhances where the true one does, and nowhere else.

MR intensities have no unit, so all scans of a subject are brought to the source's first: a scan is multiplied by the
median ratio of the source to it over the region, once over all voxels and again without those that enhance. The unit
is then percent of the source's 99.5th percentile in the region. A translator is not judged by the scale of its output.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import DataError
from medgan.evaluation.fidelity import Array, Mask, fidelity
from medgan.evaluation.tissues import overlap

UNIT_PERCENTILE = 99.5
THRESHOLD_PERCENT = 10.0
"""A voxel enhances where it exceeds the source by more: above the noise of most scans, below what a lesion takes up."""
DARK_PERCENT = 10.0
"""Voxels below it in either scan have ratios of noise, and set no scale."""

Floats = NDArray[np.floating[Any]]


class Enhancement:
    """What contrast medium did in truth, in percent of the source's 99.5th percentile.

    ``source`` and ``truth`` are the scans before and after it, (X, Y, Z) on one grid; ``where`` is the region to judge.
    """

    def __init__(self, source: Array, truth: Array, where: Mask) -> None:
        self.where = where
        self.source = _in_percent(source, where)
        plain = where & (_in_scale_of(self.source, truth, where) - self.source <= THRESHOLD_PERCENT)
        self.truth = _in_scale_of(self.source, truth, plain)
        """In the source's scale."""
        self.enhancing: Mask = np.asarray(where & (self.truth - self.source > THRESHOLD_PERCENT))

    def figures(self, synthetic: Array) -> dict[str, float]:
        """How far an image (X, Y, Z) of any scale is from the truth where that enhances, and what it adds elsewhere."""
        enhancing = self.enhancing
        elsewhere = self.where & ~enhancing
        scaled = _in_scale_of(self.source, synthetic, elsewhere if elsewhere.any() else self.where)
        change = scaled - self.source
        claimed = self.where & (change > THRESHOLD_PERCENT)
        return {
            "enhancing_mae_percent": _mean(np.abs(scaled - self.truth), enhancing),
            "enhancement_percent": _mean(change, enhancing),
            "true_enhancement_percent": _mean(self.truth - self.source, enhancing),
            "false_enhancement_percent_of_voxels": 100 * _mean(claimed, elsewhere),
            "false_enhancement_percent": _mean(np.maximum(scaled - np.maximum(self.truth, self.source), 0), elsewhere),
            "elsewhere_mae_percent": _mean(np.abs(scaled - self.truth), elsewhere),
            "enhancing_dice": overlap(claimed, enhancing),
            "enhancing_percent_of_voxels": 100 * _mean(enhancing, self.where),
        }


def mr_fidelity(synthetic: Array, reference: Array, where: Mask) -> dict[str, float]:
    """``mae_percent``, ``psnr_db`` and ``ssim`` of an MR in the true one's scale; PSNR and SSIM clip to 0..100."""
    figures = fidelity(*in_one_scale(synthetic, reference, where), where, (0.0, 100.0))
    return {"mae_percent": figures["mae_hu"], "psnr_db": figures["psnr_db"], "ssim": figures["ssim"]}


def in_one_scale(synthetic: Array, reference: Array, where: Mask) -> tuple[Floats, Floats]:
    """Both in percent of the true image's 99.5th percentile in the region, (X, Y, Z)."""
    true = _in_percent(reference, where)
    return _in_scale_of(true, synthetic, where), true


def _in_percent(volume: Array, where: Mask) -> Floats:
    """A volume in percent of its 99.5th percentile in a region."""
    unit = float(np.percentile(volume[where], UNIT_PERCENTILE)) if where.any() else 0.0
    if unit <= 0:
        raise DataError("the MR has no signal inside the body or mask; check its mask, and that it is an MR.")
    return np.asarray(volume * (100 / unit))


def _in_scale_of(standard: Floats, volume: Array, where: Mask) -> Floats:
    """A volume times the median ratio of the standard to it, over voxels of the region that are dark in neither.

    A volume without such voxels has no scale and stays as it is.
    """
    lit = where & (standard > DARK_PERCENT)
    lit &= volume > DARK_PERCENT / 100 * max(float(np.percentile(volume[where], UNIT_PERCENTILE)), 0.0)
    return np.asarray(volume * (float(np.median(standard[lit] / volume[lit])) if lit.any() else 1.0))


def _mean(values: NDArray[Any], where: Mask) -> float:
    return float(values[where].mean(dtype=np.float64)) if where.any() else float("nan")
