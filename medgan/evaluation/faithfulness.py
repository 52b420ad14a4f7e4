"""What a translation keeps of the labels: organs that stay as they were, lesions that it invents or erases.

A frozen segmenter of the source labels the input, a frozen one of the target labels the output. Where their maps
disagree the translation has redrawn something, or a segmenter errs; what the segmenters alone cost is known from the
same figures of real pairs, with the target's real image as the output.

Lesions are counted one by one as in :func:`medgan.evaluation.segmentation.lesion_counts`, from ``SMALLEST_MM3`` on:
smaller pieces are noise of a segmenter. A lesion of the input is *kept* if at least a tenth of its voxels carry the
label in the output, too, else it was *erased*; one of the output of which less than a tenth carries it in the input was
*invented*. A lesion that shrinks to a small part of itself is therefore erased, and one that grows around itself is
invented: neither would be found where it was.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from medgan.config import Config
from medgan.errors import GeometryError
from medgan.evaluation.judging import LabelNames
from medgan.evaluation.segmentation import LesionCounts, lesion_counts
from medgan.evaluation.tissues import overlap

SMALLEST_MM3 = 500.0
"""A ball of 10 mm across, from which on a lesion in CT counts as measurable (RECIST 1.1: Eisenhauer et al. 2009,
doi:10.1016/j.ejca.2008.10.026)."""

LabelMap = NDArray[np.integer]


@dataclass(frozen=True)
class Keeping:
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


class KeepingRule(Config):
    """When a synthetic image is rejected: it would teach labels that it no longer shows."""

    dice: float = Field(default=0.7, ge=0, le=1)
    """Lowest Dice of any organ that either map has."""
    erased: NonNegativeInt | None = 0
    """Most lesions that may be erased; null does not count them."""
    invented: NonNegativeInt | None = 0
    """Most lesions that may be invented; null does not count them."""

    def objection(self, keeping: Keeping) -> str | None:
        """Why an image is rejected, or nothing if it is not."""
        low = {name: value for name, value in keeping.dice.items() if value < self.dice}
        if low:
            name = min(low, key=low.__getitem__)
            return f"dice of {name} {low[name]:.2f} is below {self.dice:g}"
        for what, part, most in (("erased", "missed", self.erased), ("invented", "false", self.invented)):
            count = sum(getattr(own, part) for own in keeping.lesions.values())
            if most is not None and count > most:
                return f"{count} lesions {what}, more than {most}"
        return None


def label_keeping(
    before: LabelMap,
    after: LabelMap,
    names: LabelNames,
    *,
    spacing_mm: Sequence[float],
    lesions: Collection[str] = (),
) -> Keeping:
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
    return Keeping(
        dice={name: overlap(*own) for name, own in masks.items() if name not in lesions},
        lesions={
            name: lesion_counts(later, earlier, smallest_voxels=smallest)
            for name, (earlier, later) in masks.items()
            if name in lesions
        },
    )
