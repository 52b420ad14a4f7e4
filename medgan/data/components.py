"""Connected components, one way for all that counts, cuts or drops them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Numbers = NDArray[np.int32]
"""0 is background, n the n-th component."""


def components(mask: NDArray[Any], *, corners: bool = True) -> tuple[Numbers, int]:
    """Number the connected components of what is not 0.

    Args:
        mask: Of any shape; which label a voxel has does not matter.
        corners: Whether voxels that touch at an edge or a corner belong together, as for lesions. Without, only those
            that share a face do, as for bodies, whose thin contacts with other things shall not count.

    Returns:
        The numbers, in the mask's shape, and how many components there are.
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
