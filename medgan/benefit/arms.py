"""The arms of a benefit study: what each segmenter is trained on, in one table."""

from dataclasses import dataclass
from typing import Literal

ArmName = Literal[
    "real",
    "real+standard",
    "real+matched",
    "real+synthetic",
    "real+standard+synthetic",
    "synthetic-only",
    "oracle",
    "real+shuffled",
]
Kind = Literal["source", "target", "synthetic", "matched", "shuffled"]
"""Labelled images: real ones of either domain, translated ones, ones with the target's histogram, and translated ones
with the masks of other subjects."""


@dataclass(frozen=True)
class Arm:
    """What one segmenter is trained on; everything else is the same in all arms."""

    name: ArmName
    images: Kind
    """What patches are drawn from."""
    extra: Kind | None
    """What the share of patches that the ratio gives is drawn from instead."""
    standard: bool
    """Whether patches are varied as segmenters usually are: affine, gamma, contrast, noise."""
    reference: ArmName | None
    """The arm that it is compared with; None for the first."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Everything that it needs."""
        return (self.images, self.extra) if self.extra else (self.images,)

    @property
    def translates(self) -> bool:
        """Whether it needs a translator."""
        return bool({"synthetic", "shuffled"} & set(self.kinds))

    def share(self, ratio_percent: int) -> float:
        """Share of patches from ``extra`` with so many extra images for a hundred real ones: 100 % is one half."""
        return ratio_percent / (100 + ratio_percent) if self.extra else 0.0


ARMS = (
    Arm("real", "source", None, standard=False, reference=None),
    Arm("real+standard", "source", None, standard=True, reference="real"),
    Arm("real+matched", "source", "matched", standard=False, reference="real"),
    Arm("real+synthetic", "source", "synthetic", standard=False, reference="real"),
    Arm("real+standard+synthetic", "source", "synthetic", standard=True, reference="real+standard"),
    Arm("synthetic-only", "synthetic", None, standard=False, reference="real"),
    Arm("oracle", "target", None, standard=True, reference="real+standard"),
    Arm("real+shuffled", "source", "shuffled", standard=False, reference="real"),
)
"""In the order of every table. A ceiling has all that a segmenter of the target could have, so the oracle is varied."""

FURTHER: tuple[tuple[ArmName, ArmName], ...] = (
    ("real+standard+synthetic", "real+matched"),
    ("real+standard+synthetic", "oracle"),
    ("real+synthetic", "real+shuffled"),
)
"""Comparisons beside each arm's own: does translation beat a histogram, what is missing to the ceiling, and is it the
images or only more of them."""

BY_NAME = {arm.name: arm for arm in ARMS}
SWEPT: tuple[ArmName, ...] = ("real+standard+synthetic", "real+synthetic")
"""The arm whose validation chooses the ratio of all: the first of these that is asked for."""
