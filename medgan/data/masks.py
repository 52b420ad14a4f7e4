"""Masks: connected components, the body of a patient, and what the values of label maps mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from medgan.data.domains import Domain
from medgan.data.grid import apart, same_grid
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import Volume, read_grid, read_volume
from medgan.documents import read_json
from medgan.errors import DataError, GeometryError

if TYPE_CHECKING:
    from medgan.data.preparation import Prepared

CT_BODY_HU = -300.0
"""Between fat (-100) and lung or air; the lungs return when holes are filled."""

RANGE_PERCENTILES = (0.5, 99.5)
MR_AIR_SHARES = (0.02, 0.12)
"""In MR the brightest air lies between these shares of the range: over noise, under muscle and fluid in T1."""

SECOND_PART = 0.1
"""Share of the largest thing in an MR from which another one is a part of the patient and no artefact."""

_IN_PLANE = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], axis=2).astype(bool)
"""Opening acts within a slice only: stacks may be one slice thin."""

Numbers = NDArray[np.int32]
"""0 is background, n the n-th component."""
Labels = Mapping[str, tuple[int, ...]]
"""The values of a label map by the name of what they mark; several values may be one organ."""

LABELS_JSON = "labels.json"
"""Beside a cohort, what its label values mean: {"labels": {"5": "liver"}}."""


def body_mask(voxels: NDArray[np.floating], domain: Domain, *, to_the_edge: bool = False) -> NDArray[np.bool_]:
    """What is not air in (X, Y, Z), without the table, its holes filled slice by slice; empty where all is alike.

    CT is cut at -300 HU, MR at Otsu's threshold of the logarithm of all intensities, which parts tissue from noise as
    well as from the zeros around a stripped skull; where a crop holds hardly any air that threshold would part fat from
    muscle, and it is kept within a share of the study's range. In CT the patient is the largest connected thing; MR
    shows no table, and other large things (the second leg) count, too. In MR bone is as dark as air, and where it
    touches the edge of the image it is a notch and no hole: ``to_the_edge`` fills notches, too. Some air in the image's
    corners then counts as body.
    """
    solid = ndimage.binary_opening(_not_air(voxels, domain), ndimage.generate_binary_structure(3, 1) & _IN_PLANE)
    parts, count = components(solid, corners=False)
    if count == 0:
        return np.zeros(voxels.shape, dtype=bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = np.asarray((sizes >= (1.0 if domain.modality == "CT" else SECOND_PART) * sizes.max())[parts])
    for z in range(body.shape[2]):
        plane = body[:, :, z]
        framed = np.pad(plane, 1)
        if to_the_edge and domain.modality == "MR":  # an edge that the body reaches closes notches
            framed[0, 1:-1], framed[-1, 1:-1] = plane[0].any(), plane[-1].any()
            framed[1:-1, 0], framed[1:-1, -1] = plane[:, 0].any(), plane[:, -1].any()
        body[:, :, z] = np.asarray(ndimage.binary_fill_holes(framed))[1:-1, 1:-1]
    return body


def body_box(voxels: NDArray[np.floating], domain: Domain) -> tuple[tuple[int, int], ...]:
    """First and one-past-last index of the body along each axis; the whole volume where no body is found."""
    extents = ndimage.find_objects(body_mask(voxels, domain).astype(np.uint8))
    box = extents[0] if extents else [slice(0, size) for size in voxels.shape]
    return tuple((int(extent.start), int(extent.stop)) for extent in box)


def _not_air(voxels: NDArray[np.floating], domain: Domain) -> NDArray[np.bool_]:
    if domain.modality == "CT":
        return np.asarray(voxels > CT_BODY_HU)
    logarithm = np.maximum(voxels, 0)
    threshold = np.expm1(threshold_otsu(np.log1p(logarithm, out=logarithm).ravel()))
    del logarithm
    lowest, highest = np.percentile(voxels, RANGE_PERCENTILES)
    least, most = (lowest + share * (highest - lowest) for share in MR_AIR_SHARES)
    return np.asarray(voxels > np.clip(threshold, least, most))


def components(mask: NDArray[Any], *, corners: bool = True) -> tuple[Numbers, int]:
    """Number the connected components of what is not 0, whatever its label; and how many there are.

    With ``corners`` voxels that touch at an edge or a corner belong together, as for lesions. Without, only those that
    share a face do, as for bodies, whose thin contacts with other things shall not count.
    """
    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if corners else 1)
    numbers, count = ndimage.label(mask, structure)
    return numbers, int(count)


def boxes(numbers: Numbers) -> list[tuple[slice, ...]]:
    """The bounding box of each component, in their order."""
    return list(ndimage.find_objects(numbers))


def voxels_of(mask: NDArray[Any]) -> list[NDArray[np.intp]]:
    """The voxels (N, axes) of each component, corners included."""
    numbers, _ = components(mask)
    return [
        np.argwhere(numbers[box] == number) + np.array([extent.start for extent in box])
        for number, box in enumerate(boxes(numbers), start=1)
    ]


def labels_of(cohort: Cohort) -> dict[str, tuple[int, ...]]:
    """What a cohort's masks mark: the names in ``labels.json`` beside it, else ``label_1`` and so on as found."""
    path = cohort.beside(LABELS_JSON)
    if path.is_file():
        return named_labels(path)
    masks = [study.mask for study in cohort.studies if study.mask]
    values = {value for mask in masks for value in label_values(read_volume(mask))} - {0}
    if not values:
        raise DataError(f"{cohort.root}: no mask marks anything; name masks in the cohort's `mask` column.")
    return {f"label_{value}": (value,) for value in sorted(values)}


def named_labels(path: Path) -> dict[str, tuple[int, ...]]:
    """The names in a ``labels.json``, background (0) left out."""
    try:
        return {str(name): (int(value),) for value, name in read_json(path)["labels"].items() if int(value)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DataError(f'{path}: does not say what labels mean; write {{"labels": {{"5": "liver"}}}}.') from None


def merged(mask: Volume, labels: Labels) -> NDArray[np.uint8]:
    """A label map as (X, Y, Z) of 0 to n: the n-th name's values become n, all others background."""
    label_values(mask)
    result = np.zeros(mask.voxels.shape, dtype=np.uint8)
    for number, values in enumerate(labels.values(), start=1):
        result[np.isin(mask.voxels, values)] = number
    return result


def labels_on(study: Study, labels: Labels, onto: "Prepared") -> NDArray[np.uint8]:
    """A study's mask as :func:`merged`, on the grid of its prepared image: each voxel has the nearest one's label."""
    if study.mask is None:
        raise DataError(f"{study.image} has no mask; name one in the cohort's `mask` column.")
    mask, own = read_volume(study.mask), read_grid(study.image)
    if not same_grid(mask.grid, own):
        both = f"{study.mask} and {study.image} are on different voxel grids ({apart(mask.grid, own)})"
        raise GeometryError(f"{both}; resample the mask to its image's grid.")
    index, numbers, shape = np.linalg.inv(mask.grid.affine) @ onto.affine, merged(mask, labels), onto.voxels.shape
    return np.asarray(ndimage.affine_transform(numbers, index[:3, :3], index[:3, 3], shape, order=0, mode="nearest"))


def label_values(mask: Volume) -> list[int]:
    """The values in a label map, sorted; negative ones and fractions are refused."""
    values = np.unique(mask.voxels)
    if not np.array_equal(values, np.rint(values)) or values[0] < 0:
        lowest, highest = values[[0, -1]]
        raise DataError(f"{mask.path}: holds values that are no labels ({lowest:g} to {highest:g}, or fractions).")
    return [int(value) for value in values]
