"""How well a label map agrees with the truth: overlap, distance of surfaces, volume, and lesions counted one by one.

Empty masks. Where neither marks anything there was nothing to find, and every figure is undefined (not a number):
counted as perfect, such subjects would lift every mean. Where only one of the two marks something nothing agrees: Dice,
surface Dice and lesion F1 are 0, and the distance is the longest there is, the volume's diagonal, so that finding
nothing is never better than finding it badly. A volume error needs a true volume and is undefined without one. False
lesions are a count, and 0 is one: a healthy subject in which nothing is found has none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.masks import components
from medgan.errors import GeometryError
from medgan.evaluation.tissues import overlap

Mask = NDArray[np.bool_]
Scores = dict[str, float]

METRICS = ("dice", "hd95_mm", "surface_dice", "volume_error_percent", "lesion_f1", "false_lesions")

TOLERANCE_MM = 2.0
"""How far two surfaces may be apart and still agree."""

LESION_OVERLAP = 0.1
"""Share of a lesion's voxels that must be marked for it to be found, and of a finding's that must be true."""


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one subject: connected true voxels, corners included; findings likewise."""

    found: int
    missed: int
    false: int
    """Findings that are no lesion."""
    apart: int
    """Of these, findings that share no voxel with any lesion."""

    @property
    def f1(self) -> float:
        """Harmonic mean of the share of lesions found and of findings that are true; undefined without either."""
        total = 2 * self.found + self.missed + self.false
        return 2 * self.found / total if total else float("nan")


def score_labels(
    found: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    names: Mapping[int, str],
    spacing_mm: Sequence[float],
    *,
    lesions: Collection[str] = (),
) -> dict[str, Scores]:
    """The figures of each name in a label map (X, Y, Z) and the true one on the same grid.

    The names in ``lesions`` are counted one by one; others have no ``lesion_f1`` and no ``false_lesions``.
    """
    return {
        name: score_mask(found == value, truth == value, spacing_mm, counted=name in lesions)
        for value, name in names.items()
    }


def score_mask(
    found: Mask,
    truth: Mask,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = TOLERANCE_MM,
    counted: bool = False,
) -> Scores:
    """``METRICS`` of one mask; what is undefined is not a number.

    Masks are (X, Y, Z), and Z = 1 is judged as a picture; only with ``counted`` are lesions counted one by one.

    Returns:
        ``dice``: twice the shared voxels over the sum of both. ``hd95_mm``: the larger of the two 95th percentiles of
        the distances from one surface's voxels to the other's. ``surface_dice``: the share of both surfaces, by area,
        that the other comes within the tolerance of (Nikolov et al. 2021, doi:10.2196/26151). ``volume_error_percent``:
        found minus true volume over the true one. ``lesion_f1``: see :func:`lesion_counts`. ``false_lesions``:
        how many findings share no voxel with any lesion, also where there is none; a finding that is larger than the
        lesion it lies on is not among them, whatever the F1 says of it.
    """
    if found.shape != truth.shape:
        raise GeometryError(f"a label map of {found.shape} voxels cannot be compared with a truth of {truth.shape}.")
    marked, true = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    scores = dict.fromkeys(METRICS, float("nan"))
    if marked or true:
        scores["dice"] = float(overlap(found, truth))
        scores |= _surfaces(found, truth, spacing_mm, tolerance_mm)
    if true:
        scores["volume_error_percent"] = 100 * (marked - true) / true
    if counted:
        counts = lesion_counts(found, truth)
        scores |= {"lesion_f1": counts.f1, "false_lesions": float(counts.apart)}
    return scores


def lesion_counts(found: Mask, truth: Mask, *, smallest_voxels: float = 1) -> LesionCounts:
    """Which lesions were found: a lesion is where at least a tenth of its voxels is marked.

    A finding is false where less than a tenth of its own voxels is true: one that spreads over everything finds all
    lesions and is false itself. Connected parts of fewer than ``smallest_voxels`` are neither lesions nor findings.
    """
    hits = _shares(truth, found, smallest_voxels) >= LESION_OVERLAP
    true = _shares(found, truth, smallest_voxels)
    return LesionCounts(int(hits.sum()), int((~hits).sum()), int((true < LESION_OVERLAP).sum()), int((true == 0).sum()))


def _shares(mask: Mask, other: Mask, smallest_voxels: float) -> NDArray[np.float64]:
    """Of each connected part of a mask that is large enough, the share of its voxels that the other marks too."""
    parts, count = components(mask)
    if not count:
        return np.zeros(0)
    shares = ndimage.mean(other.astype(np.float64), parts, np.arange(1, count + 1))
    return np.asarray(shares)[np.bincount(parts.ravel())[1:] >= smallest_voxels]


def _surfaces(found: Mask, truth: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> Scores:
    """Distance and agreement of two surfaces, of which one may be missing."""
    if not (found.any() and truth.any()):
        extent_mm = np.array(found.shape) * np.array(spacing_mm)
        return {"hd95_mm": float(np.linalg.norm(extent_mm)), "surface_dice": 0.0}
    spacing = [float(size) for size in spacing_mm]  # a header's float32 is refused by MONAI
    if found.ndim == 3 and found.shape[2] == 1:  # in a volume of one slice every voxel would be surface
        found, truth, spacing = found[..., 0], truth[..., 0], spacing[:2]
    one, other = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (found, truth))
    hd95 = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
    agreed = compute_surface_dice(
        one, other, [tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True
    )
    return {"hd95_mm": float(hd95), "surface_dice": float(agreed)}
