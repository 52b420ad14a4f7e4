"""Places in the body's box, one way for lesions that are inserted and for patches that are asked for."""

import numpy as np
from numpy.typing import NDArray

from medgan.data.preparation import Prepared
from medgan.synthesis.shapes import Voxel


def body_coordinates(image: Prepared, voxels: NDArray[np.number] | tuple[float, float, float]) -> NDArray[np.float64]:
    """Voxels (..., 3) as places in the body's box, -1 to 1 along right, anterior and superior.

    The ends are the outer faces of the first and last voxel, so that the one slice of a flat image lies in the middle.
    What lies beside the body is beyond -1 or 1.
    """
    first, last = np.array(image.body, dtype=np.float64).T
    return np.asarray((np.asarray(voxels) + 0.5 - first) / (last - first) * 2 - 1)


def voxel_at(image: Prepared, place: NDArray[np.float64]) -> Voxel:
    """The voxel at a place (3,) in the body's box."""
    first, last = np.array(image.body, dtype=np.float64).T
    x, y, z = np.floor((place + 1) / 2 * (last - first) + first).astype(int).tolist()
    return x, y, z
