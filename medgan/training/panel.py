"""Pictures of validation cases, the same cases at the same window in every epoch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def panel(rows: Sequence[Sequence[NDArray[np.floating]]], lower: float, upper: float) -> NDArray[np.uint8]:
    """Pictures of fixed cases: one row a case, one column an image, all at one fixed window.

    Args:
        rows: For each case its (X, Y, Z) images; the middle slice is shown, seen from the feet (radiological).
        lower: Shown black.
        upper: Shown white.
    """
    tiles = [[_picture(image, lower, upper) for image in row] for row in rows]
    height = max(tile.shape[0] for row in tiles for tile in row)
    width = max(tile.shape[1] for row in tiles for tile in row)
    return np.vstack([np.hstack([_framed(tile, height, width) for tile in row]) for row in tiles])


def _picture(image: NDArray[np.floating], lower: float, upper: float) -> NDArray[np.uint8]:
    # RAS+ to a picture: rows from anterior to posterior, columns from the patient's right to left.
    middle = image[::-1, ::-1, image.shape[2] // 2].T
    grey = np.clip((middle - lower) / (upper - lower), 0, 1) * 255
    return np.asarray(np.rint(grey), dtype=np.uint8)


def _framed(tile: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    missing = (height - tile.shape[0], width - tile.shape[1])
    return np.pad(tile, [(0, missing[0]), (0, missing[1])])
