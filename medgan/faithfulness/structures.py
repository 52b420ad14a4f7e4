"""What becomes of one structure between a study and its translation: kept, lost, invented, and where."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import Grid
from medgan.data.masks import boxes, components
from medgan.evaluation.fidelity import Mask
from medgan.evaluation.segmentation import SMALLEST_MM3, LabelAgreement, LesionCounts, Pieces
from medgan.evaluation.tissues import overlap
from medgan.faithfulness.places import Place, place_of

MOST_PLACES = 10
"""Of one structure in one study, the largest: whoever has more has another problem."""


@dataclass(frozen=True)
class Rule:
    """What counts as kept."""

    lesions: Collection[str] = ()
    """Structures that are counted piece by piece."""
    least_dice: float = 0.7
    """Of an organ."""
    smallest_mm3: float = SMALLEST_MM3
    """Of a piece of a lesion that counts."""


@dataclass(frozen=True)
class Structure:
    """One structure in one study."""

    row: dict[str, Any]
    """Of ``structures.csv``, but for whose it is."""
    places: tuple[Place, ...]
    dice: float
    lesions: LesionCounts | None
    """Of a lesion, its pieces."""


def compare_structure(name: str, before: Mask, after: Mask, grid: Grid, rule: Rule) -> Structure:
    """A structure's mask in a study and in its translation, (X, Y, Z) on one grid."""
    box = (*boxes((before | after).astype(np.int32)), tuple(slice(0, 1) for _ in before.shape))[0]
    corner = np.array([part.start for part in box])
    before, after = before[box], after[box]
    ml = float(np.prod(grid.spacing_mm)) / 1000
    volumes = {"input_ml": before.sum() * ml, "output_ml": after.sum() * ml}
    change = 100 * (volumes["output_ml"] / volumes["input_ml"] - 1) if volumes["input_ml"] else np.nan
    dice = overlap(before, after)
    figures = {"dice": dice, **volumes, "volume_change_percent": change}
    if name not in rule.lesions:
        kind = _fate(dice, before, after, rule.least_dice)
        counts = {each: int(kind == each) for each in ("kept", "changed", "lost", "invented")}
        where = [] if kind in ("kept", "absent") else _largest(before ^ after)
        places = tuple(place_of(voxels + corner, grid, structure=name, kind=kind) for voxels in where)
        return Structure({"structure": name, "counted": "whole", **counts, **figures}, places, dice, None)
    smallest = rule.smallest_mm3 / 1000 / ml
    truth, findings = Pieces.of(before, after, smallest), Pieces.of(after, before, smallest)
    lesions = truth.counts(findings)
    counts = {"kept": lesions.found, "changed": 0, "lost": lesions.missed, "invented": lesions.false}
    sides = {"lost": truth, "invented": findings}
    places = tuple(
        place_of(np.argwhere(side.parts == number) + corner, grid, structure=name, kind=kind)
        for kind, side in sides.items()
        for number in side.apart()
    )
    largest = tuple(sorted(places, key=lambda place: -place.volume_ml)[:MOST_PLACES])
    return Structure({"structure": name, "counted": "pieces", **counts, **figures}, largest, dice, lesions)


def _fate(dice: float, before: Mask, after: Mask, least_dice: float) -> str:
    """What became of an organ."""
    if not before.any() and not after.any():
        return "absent"
    if not after.any():
        return "lost"
    if not before.any():
        return "invented"
    return "kept" if dice >= least_dice else "changed"


def _largest(mask: Mask) -> list[NDArray[np.intp]]:
    """The voxels (N, 3) of a mask's largest connected part."""
    parts, _ = components(mask)
    return [np.argwhere(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))]


def agreement(structures: Collection[Structure]) -> LabelAgreement:
    """All structures of a study, as two segmenters' label maps are judged."""
    return LabelAgreement(
        dice={each.row["structure"]: each.dice for each in structures if each.lesions is None},
        lesions={each.row["structure"]: each.lesions for each in structures if each.lesions is not None},
    )
