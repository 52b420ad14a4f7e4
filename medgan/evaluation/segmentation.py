"""How well a label map agrees with the truth, and that of a translation with that of its input.

What a translation keeps is told by a frozen segmenter of the source on its input and one of the target on its output:
where their maps disagree it has redrawn something, or a segmenter errs; what the segmenters alone cost is known from
the same figures of real pairs. A lesion that shrinks to a small part of itself is erased, and one that grows around
itself is invented: neither would be found where it was.

Empty masks. Where neither marks anything there was nothing to find, and every figure is undefined (not a number):
counted as perfect, such subjects would lift every mean. Where only one of the two marks something nothing agrees: Dice,
surface Dice and lesion F1 are 0, and the distance is the longest there is, the volume's diagonal, so that finding
nothing is never better than finding it badly. A volume error needs a true volume and is undefined without one. False
lesions are a count, and 0 is one: a healthy subject in which nothing is found has none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.masks import Numbers, components
from medgan.errors import GeometryError
from medgan.evaluation.fidelity import Mask
from medgan.evaluation.judging import LabelNames
from medgan.evaluation.tissues import overlap

LabelArray = NDArray[np.integer[Any]]
Scores = dict[str, float]
METRICS = ("dice", "hd95_mm", "surface_dice", "volume_error_percent", "lesion_f1", "false_lesions")

TOLERANCE_MM = 2.0
"""How far two surfaces may be apart and still agree."""
SMALLEST_MM3 = 500.0
"""A ball of 10 mm across, from which on a lesion in CT counts as measurable (RECIST 1.1: Eisenhauer et al. 2009,
doi:10.1016/j.ejca.2008.10.026)."""
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
    labels: LabelArray,
    truth: LabelArray,
    names: Mapping[int, str],
    spacing_mm: Sequence[float],
    *,
    lesions: Collection[str] = (),
) -> dict[str, Scores]:
    """The figures of each name in a label map (X, Y, Z) and the true one on the same grid.

    The names in ``lesions`` are counted one by one; others have no ``lesion_f1`` and no ``false_lesions``.
    """
    return {
        name: score_mask(labels == value, truth == value, spacing_mm, counted=name in lesions)
        for value, name in names.items()
    }


def score_mask(
    mask: Mask,
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
    if mask.shape != truth.shape:
        raise GeometryError(f"a label map of {mask.shape} voxels cannot be compared with a truth of {truth.shape}.")
    marked, true = int(np.count_nonzero(mask)), int(np.count_nonzero(truth))
    scores = dict.fromkeys(METRICS, float("nan"))
    if marked or true:
        scores["dice"] = float(overlap(mask, truth))
        scores |= _surfaces(mask, truth, spacing_mm, tolerance_mm)
    if true:
        scores["volume_error_percent"] = 100 * (marked - true) / true
    if counted:
        counts = lesion_counts(mask, truth)
        scores |= {"lesion_f1": counts.f1, "false_lesions": float(counts.apart)}
    return scores


def lesion_counts(mask: Mask, truth: Mask, *, smallest_voxels: float = 1) -> LesionCounts:
    """Which lesions were found: a lesion is where at least a tenth of its voxels is marked.

    A finding is false where less than a tenth of its own voxels is true: one that spreads over everything finds all
    lesions and is false itself. Connected parts of fewer than ``smallest_voxels`` are neither lesions nor findings.
    """
    return Pieces.of(truth, mask, smallest_voxels).counts(Pieces.of(mask, truth, smallest_voxels))


@dataclass(frozen=True)
class Pieces:
    """The connected parts of a mask that are large enough, and whether another mask marks them, too."""

    parts: Numbers
    """(X, Y, Z), the number of each voxel's part; also of those that are too small."""
    numbers: NDArray[np.intp]
    """Of the parts that count."""
    shares: NDArray[np.float64]
    """Of each of these, the share of its voxels that the other mask marks."""

    @classmethod
    def of(cls, mask: Mask, other: Mask, smallest_voxels: float = 1) -> Self:
        """Those of at least so many voxels; masks are (X, Y, Z) on one grid."""
        parts, count = components(mask)
        numbers = 1 + np.flatnonzero(np.bincount(parts.ravel(), minlength=count + 1)[1:] >= smallest_voxels)
        shares = ndimage.mean(other.astype(np.float64), parts, numbers) if numbers.size else []
        return cls(parts, numbers, np.asarray(shares, dtype=np.float64))

    def apart(self) -> NDArray[np.intp]:
        """The numbers of those of which the other mask marks less than a tenth."""
        return self.numbers[self.shares < LESION_OVERLAP]

    def counts(self, findings: Self) -> LesionCounts:
        """How many of these lesions were found, and how many findings are none."""
        missed = self.apart().size
        false, nowhere = findings.apart().size, int((findings.shares == 0).sum())
        return LesionCounts(self.numbers.size - missed, missed, false, nowhere)


def _surfaces(mask: Mask, truth: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> Scores:
    """Distance and agreement of two surfaces, of which one may be missing."""
    if not (mask.any() and truth.any()):
        extent_mm = np.array(mask.shape) * np.array(spacing_mm)
        return {"hd95_mm": float(np.linalg.norm(extent_mm)), "surface_dice": 0.0}
    # Take seconds: who judges translations waits for it where there are labels alone.
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    spacing = [float(size) for size in spacing_mm]  # a header's float32 is refused by MONAI
    if mask.ndim == 3 and mask.shape[2] == 1:  # in a volume of one slice every voxel would be surface
        mask, truth, spacing = mask[..., 0], truth[..., 0], spacing[:2]
    one, other = (torch.from_numpy(np.ascontiguousarray(each))[None, None] for each in (mask, truth))
    hd95 = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
    agreed = compute_surface_dice(
        one, other, [tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True
    )
    return {"hd95_mm": float(hd95), "surface_dice": float(agreed)}


@dataclass(frozen=True)
class LabelAgreement:
    """How far the labels of an output are those of its input."""

    dice: Mapping[str, float]
    """By organ: 1 where both maps agree, 0 where one of them lacks it, not a number where neither has it."""
    lesions: Mapping[str, LesionCounts]
    """By lesion label: those of the input that were found are kept, those missed erased, and false ones invented."""

    @property
    def worst(self) -> float:
        """The lowest Dice of an organ that either map has; not a number where there is none."""
        return min((value for value in self.dice.values() if not np.isnan(value)), default=float("nan"))

    def figures(self) -> dict[str, float]:
        """All of it as a row: ``dice_liver``, ``lesion_kept``, ``lesion_erased``, ``lesion_invented``."""
        row = {f"dice_{name}": value for name, value in self.dice.items()}
        for name, own in self.lesions.items():
            row |= {f"{name}_kept": own.found, f"{name}_erased": own.missed, f"{name}_invented": own.false}
        return row

    def objection(self, least_dice: float) -> str | None:
        """Why the image would teach labels that it no longer shows: a low Dice, or a lesion erased or invented."""
        low = {name: value for name, value in self.dice.items() if value < least_dice}
        if low:
            name = min(low, key=low.__getitem__)
            return f"dice of {name} {low[name]:.2f} is below {least_dice:g}"
        for what, part in (("erased", "missed"), ("invented", "false")):
            if count := sum(getattr(own, part) for own in self.lesions.values()):
                return f"{count} lesions {what}, more than 0"
        return None


def label_agreement(
    before: LabelArray,
    after: LabelArray,
    names: LabelNames,
    *,
    spacing_mm: Sequence[float],
    lesions: Collection[str] = (),
) -> LabelAgreement:
    """Compare the labels of an input with those of its translation, (X, Y, Z) on one grid and with the same values.

    The labels in ``lesions`` are counted in pieces; all others are organs.
    """
    if before.shape != after.shape:
        raise GeometryError(
            f"label maps of {before.shape} and {after.shape} voxels cannot be compared; segment the translation on the "
            "grid of its input."
        )
    smallest = SMALLEST_MM3 / float(np.prod(spacing_mm))
    masks = {name: (np.isin(before, value), np.isin(after, value)) for name, value in names.items()}
    return LabelAgreement(
        dice={name: overlap(*own) for name, own in masks.items() if name not in lesions},
        lesions={
            name: lesion_counts(later, earlier, smallest_voxels=smallest)
            for name, (earlier, later) in masks.items()
            if name in lesions
        },
    )
