"""The arms of a study of augmentation: what each segmenter learns from beside its few real cases."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["healthy", "elastic", "copy-paste", "carve-mix", "generator"]
"""What makes more cases of the real ones; ``healthy`` adds healthy scans as they are."""
ArmName = Literal[
    "real",
    "standard",
    "copy-paste",
    "carve-mix",
    "generator",
    "standard+healthy",
    "standard+elastic",
    "standard+copy-paste",
    "standard+carve-mix",
    "standard+generator",
    "standard+shuffled",
]


@dataclass(frozen=True)
class Arm:
    """What one segmenter is trained on; network, steps and batches are the same in all arms."""

    name: ArmName
    method: Method | None
    """Makes the cases that the ratio's share of patches is drawn from; None has real cases alone."""
    standard: bool
    """Whether patches are varied as segmenters usually are: affine, mirroring, gamma, contrast, noise."""
    reference: ArmName | None
    """The arm that it is compared with; None for the first."""
    shuffled: bool = False
    """Whether synthetic images have the labels of other synthetic cases."""

    def share(self, ratio_percent: int) -> float:
        """Share of patches from synthetic cases with so many of them for a hundred real ones: 100 % is one half."""
        return ratio_percent / (100 + ratio_percent) if self.method else 0.0


ARMS = (
    Arm("real", None, standard=False, reference=None),
    Arm("standard", None, standard=True, reference="real"),
    Arm("copy-paste", "copy-paste", standard=False, reference="real"),
    Arm("carve-mix", "carve-mix", standard=False, reference="real"),
    Arm("generator", "generator", standard=False, reference="real"),
    Arm("standard+healthy", "healthy", standard=True, reference="standard"),
    Arm("standard+elastic", "elastic", standard=True, reference="standard"),
    Arm("standard+copy-paste", "copy-paste", standard=True, reference="standard"),
    Arm("standard+carve-mix", "carve-mix", standard=True, reference="standard"),
    Arm("standard+generator", "generator", standard=True, reference="standard"),
    Arm("standard+shuffled", "generator", standard=True, reference="standard", shuffled=True),
)
"""In the order of every table."""

FURTHER: tuple[tuple[ArmName, ArmName], ...] = (
    ("generator", "copy-paste"),
    ("standard+copy-paste", "standard+healthy"),
    ("standard+generator", "standard+healthy"),
    ("standard+generator", "standard+elastic"),
    ("standard+generator", "standard+copy-paste"),
    ("standard+generator", "standard+carve-mix"),
    ("standard+generator", "generator"),
    ("standard+generator", "standard+shuffled"),
)
"""Comparisons beside each arm's own: is it the lesions or only the heads that they lie in, is it the generator or only
more variety, does it add to what is usual, and must images and labels fit."""

BY_NAME = {arm.name: arm for arm in ARMS}


def swept(method: Method, names: tuple[ArmName, ...]) -> Arm:
    """The arm whose validation chooses a method's ratio: on top of standard augmentation, if that is asked for.

    Args:
        method: Of an arm in ``names`` that is not shuffled.
        names: The arms that are trained.
    """
    own = [arm for arm in ARMS if arm.method == method and arm.name in names and not arm.shuffled]
    return min(own, key=lambda arm: not arm.standard)
