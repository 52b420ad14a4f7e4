"""Labelled subjects: a prepared study and its label map on the networks' grid, whole or in patches by number."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medgan.data.augmentation import Batch
from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.masks import LABELS_JSON, Labels, labels_of, labels_on, merged, named_labels
from medgan.data.patches import PatchConfig, Patches, chances, item
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.studies import Cohort, Study
from medgan.documents import read_json
from medgan.training.learner import HeldOut

__all__ = [
    "IMAGE", "LABELS", "LABELS_JSON", "Labelled", "LabelledHeldOut", "LabelledPatches", "Labels",
    "is_phantom", "labels_of", "merged", "named_labels", "read_all", "read_labelled",
]  # fmt: skip

IMAGE, LABELS = "image", "labels"


@dataclass(frozen=True, eq=False)
class Labelled:
    """A subject to train, validate or test on."""

    subject: str
    image: Prepared
    labels: NDArray[np.uint8]
    """(X, Y, Z) on the image's grid: 0 is background, n the n-th name of the settings' ``labels``."""


@dataclass(frozen=True)
class LabelledHeldOut(HeldOut):
    """Validation subjects, images as ``source``, with their label maps."""

    labels: Sequence[NDArray[np.uint8]] = field(default=())

    @classmethod
    def of(cls, subjects: Sequence[Labelled]) -> "LabelledHeldOut":
        """The subjects as the training loop hands them to its learner."""
        return cls([each.image for each in subjects], (), labels=[each.labels for each in subjects])

    def subjects(self) -> list[Labelled]:
        """The subjects again, by number."""
        couples = enumerate(zip(self.source, self.labels, strict=True))
        return [Labelled(f"held out {number}", image, labels) for number, (image, labels) in couples]


def read_labelled(study: Study, domain: Domain, grid: GridConfig, labels: Labels, cache: Cache) -> Labelled:
    """A study with its mask on the networks' grid."""
    image = cache.prepared(study, domain, grid)
    return Labelled(study.subject, image, labels_on(study, labels, image))


def read_all(
    studies: Sequence[Study], domain: Domain, grid: GridConfig, labels: Labels, cache: Cache
) -> list[Labelled]:
    """:func:`read_labelled` of many studies, prepared side by side."""
    cache.fill(((study, domain) for study in studies), grid)
    return [read_labelled(study, domain, grid, labels, cache) for study in studies]


def is_phantom(cohort: Cohort) -> bool:
    """Whether a cohort is the built-in phantom, whose ``labels.json`` says so."""
    try:
        content = read_json(cohort.beside(LABELS_JSON))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("phantom") is True


class LabelledPatches(Patches):
    """Patches of images and their labels, each a pure function of the seed and its number.

    The share ``extra_share`` of them is drawn from the subjects in ``extra``; ``config`` says how all are varied.
    """

    def __init__(
        self,
        subjects: Sequence[Labelled],
        config: PatchConfig,
        *,
        seed: int,
        extra: Sequence[Labelled] = (),
        extra_share: float = 0.0,
    ) -> None:
        self.groups = subjects, extra
        self.config, self.seed, self.extra_share, self.shape = config, seed, extra_share, config.shape
        self.chance = [chances([each.image for each in group]) if group else None for group in self.groups]

    def __getitem__(self, number: int) -> Batch:
        """Item ``number``, of which come "image" (C, *shape) in [-1, 1] and "labels" (1, *shape) of whole numbers."""
        random = np.random.default_rng([self.seed, number])
        which = int(random.random() < self.extra_share)
        group = self.groups[which]
        subject = group[int(random.choice(len(group), p=self.chance[which]))]
        result = item({IMAGE: subject.image, LABELS: subject.labels}, self.config, random, varied=IMAGE)
        if self.config.spatial == 2:
            middle = self.config.channels // 2
            result[LABELS] = result[LABELS][..., middle : middle + 1]
        return result
