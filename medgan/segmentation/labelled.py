"""Labelled subjects: a prepared study and its label map on the networks' grid."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.grid import Volume, same_grid
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_grid, read_volume
from medgan.errors import DataError, GeometryError
from medgan.training.learner import HeldOut

Labels = Mapping[str, tuple[int, ...]]
"""The values of a label map by the name of what they mark; several values may be one organ."""

LABELS_JSON = "labels.json"
"""Beside a cohort, what its label values mean: {"labels": {"5": "liver"}}."""


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
    if not same_grid(mask.grid, read_grid(study.image)):
        raise GeometryError(
            f"{study.mask} and {study.image} are on different voxel grids; resample the mask to its image's grid."
        )
    image = cache.prepared(study, domain, grid)
    return Labelled(study.subject, image, carried(merged(mask, labels), mask.grid.affine, image))


def labels_of(cohort: Cohort) -> dict[str, tuple[int, ...]]:
    """What a cohort's masks mark: the names in ``labels.json`` beside it, else ``label_1`` and so on as found.

    Raises:
        DataError: A file that names nothing, or no mask with a label in it.
    """
    path = cohort.root / LABELS_JSON
    if path.is_file():
        return named_labels(path)
    found = {value for study in cohort.studies if study.mask for value in _values(read_volume(study.mask))} - {0}
    if not found:
        raise DataError(f"{cohort.root}: no mask marks anything; name masks in the cohort's `mask` column.")
    return {f"label_{value}": (value,) for value in sorted(found)}


def named_labels(path: Path) -> dict[str, tuple[int, ...]]:
    """The names in a ``labels.json``, background (0) left out.

    Raises:
        DataError: The file cannot be read as {"labels": {"5": "liver"}}.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["labels"]
        found: dict[str, tuple[int, ...]] = {str(name): (int(value),) for value, name in names.items() if int(value)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DataError(f'{path}: does not say what labels mean; write {{"labels": {{"5": "liver"}}}}.') from None
    return found


def merged(mask: Volume, labels: Labels) -> NDArray[np.uint8]:
    """A label map as (X, Y, Z) of 0 to n: the n-th name's values become n, all others background."""
    _values(mask)
    result = np.zeros(mask.voxels.shape, dtype=np.uint8)
    for number, values in enumerate(labels.values(), start=1):
        result[np.isin(mask.voxels, values)] = number
    return result


def carried(labels: NDArray[np.uint8], affine: NDArray[np.float64], onto: Prepared) -> NDArray[np.uint8]:
    """A label map on a study's grid: each voxel has the label of the nearest one.

    Args:
        labels: (X, Y, Z) on a grid of its own.
        affine: (4, 4), its voxel index to RAS+ mm.
        onto: The study.
    """
    index = np.linalg.inv(affine) @ onto.affine
    result = ndimage.affine_transform(
        labels, index[:3, :3], index[:3, 3], output_shape=onto.voxels.shape, order=0, mode="nearest"
    )
    return np.asarray(result)


def _values(mask: Volume) -> list[int]:
    found = np.unique(mask.voxels)
    if not np.array_equal(found, np.rint(found)) or found[0] < 0:
        raise DataError(f"{mask.path}: holds values that are no labels ({found[0]:g} to {found[-1]:g}, or fractions).")
    return [int(value) for value in found]
