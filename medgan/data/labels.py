"""Label maps: what their values mean, several values as one name, and onto another grid."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.preparation import Prepared
from medgan.data.studies import Cohort
from medgan.data.volumes import Volume, read_volume
from medgan.documents import read_json
from medgan.errors import DataError

Labels = Mapping[str, tuple[int, ...]]
"""The values of a label map by the name of what they mark; several values may be one organ."""

LABELS_JSON = "labels.json"
"""Beside a cohort, what its label values mean: {"labels": {"5": "liver"}}."""


def labels_of(cohort: Cohort) -> dict[str, tuple[int, ...]]:
    """What a cohort's masks mark: the names in ``labels.json`` beside it, else ``label_1`` and so on as found.

    Raises:
        DataError: A file that names nothing, or no mask with a label in it.
    """
    path = cohort.beside(LABELS_JSON)
    if path.is_file():
        return named_labels(path)
    found = {value for study in cohort.studies if study.mask for value in label_values(read_volume(study.mask))} - {0}
    if not found:
        raise DataError(f"{cohort.root}: no mask marks anything; name masks in the cohort's `mask` column.")
    return {f"label_{value}": (value,) for value in sorted(found)}


def named_labels(path: Path) -> dict[str, tuple[int, ...]]:
    """The names in a ``labels.json``, background (0) left out.

    Raises:
        DataError: The file cannot be read as {"labels": {"5": "liver"}}.
    """
    try:
        names = read_json(path)["labels"]
        found: dict[str, tuple[int, ...]] = {str(name): (int(value),) for value, name in names.items() if int(value)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DataError(f'{path}: does not say what labels mean; write {{"labels": {{"5": "liver"}}}}.') from None
    return found


def merged(mask: Volume, labels: Labels) -> NDArray[np.uint8]:
    """A label map as (X, Y, Z) of 0 to n: the n-th name's values become n, all others background."""
    label_values(mask)
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


def label_values(mask: Volume) -> list[int]:
    """The values in a label map, sorted.

    Raises:
        DataError: They are no labels: negative, or fractions.
    """
    found = np.unique(mask.voxels)
    if not np.array_equal(found, np.rint(found)) or found[0] < 0:
        raise DataError(f"{mask.path}: holds values that are no labels ({found[0]:g} to {found[-1]:g}, or fractions).")
    return [int(value) for value in found]
