"""Labelled subjects: a prepared study and its label map on the networks' grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.grid import apart, same_grid
from medgan.data.masks import LABELS_JSON, Labels, carried, labels_of, merged, named_labels
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_grid, read_volume
from medgan.documents import read_json
from medgan.errors import DataError, GeometryError
from medgan.training.learner import HeldOut

__all__ = [
    "LABELS_JSON", "Labelled", "LabelledHeldOut", "Labels", "carried", "is_phantom", "labels_of", "merged",
    "named_labels", "read_labelled",
]  # fmt: skip


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


def read_labelled(study: Study, domain: Domain, grid: GridConfig, labels: Labels, cache: Cache) -> Labelled:
    """A study with its mask on the networks' grid.

    Raises:
        DataError: The study has no mask, or a mask whose values are no labels.
        GeometryError: The mask lies on another voxel grid than the image.
    """
    if study.mask is None:
        raise DataError(f"{study.image} has no mask to learn from; name one in the cohort's `mask` column.")
    mask = read_volume(study.mask)
    own = read_grid(study.image)
    if not same_grid(mask.grid, own):
        raise GeometryError(
            f"{study.mask} and {study.image} are on different voxel grids ({apart(mask.grid, own)}); resample the mask "
            "to its image's grid."
        )
    image = cache.prepared(study, domain, grid)
    return Labelled(study.subject, image, carried(merged(mask, labels), mask.grid.affine, image))


def is_phantom(cohort: Cohort) -> bool:
    """Whether a cohort is the built-in phantom, whose ``labels.json`` says so."""
    try:
        content = read_json(cohort.beside(LABELS_JSON))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("phantom") is True
