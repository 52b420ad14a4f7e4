"""Contact sheets: samples beside their nearest training patches, with the outlines of what is labelled."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medgan.data.streams import replacing
from medgan.evaluation.synthesis.memorisation import Nearest
from medgan.evaluation.synthesis.patches import Patches

MOST, COLUMNS = 40, 5
"""Pairs on a sheet, and in a row of it."""
TILE_PIXELS = 96
"""A patch is enlarged by a whole factor to about this."""
COLOURS = ((0, 229, 160), (255, 79, 216), (255, 196, 0), (64, 156, 255))
"""Of the labels' outlines, by number."""
SUSPECT = (220, 30, 30)
"""The frame of a pair whose sample is suspected to be a copy."""

Picture = NDArray[np.uint8]
"""(rows, columns, 3)."""


def contact_sheet(
    samples: Patches, training: Patches, found: Nearest, suspects: NDArray[np.bool_], order: Sequence[int], path: Path
) -> None:
    """Write pairs of a sample, on the left, and its nearest training patch as PNG; of blocks the middle slice.

    The first 40 samples in ``order`` are shown; pairs of ``suspects``, (N,), are framed in red.

    Raises:
        DataError: It cannot be written.
    """
    tiles = []
    for number in order[:MOST]:
        pair = [(samples, number), (training, int(found.which[number]))]
        images = [_tile(patches.images[at], patches.labels[at]) for patches, at in pair]
        tiles.append(_framed(np.hstack(images), SUSPECT if suspects[number] else (0, 0, 0)))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % min(COLUMNS, len(tiles)))
    width = min(COLUMNS, len(tiles))
    rows = [np.hstack(tiles[first : first + width]) for first in range(0, len(tiles), width)]
    with replacing(path) as stream:
        Image.fromarray(np.vstack(rows)).save(stream, format="PNG")


def _tile(image: NDArray[np.float32], labels: NDArray[np.uint8]) -> Picture:
    """A patch upright, enlarged, with its outlines; RAS+ as a radiologist looks at it."""
    if image.ndim == 3:
        middle = image.shape[2] // 2
        image, labels = image[..., middle], labels[..., middle]
    factor = max(TILE_PIXELS // max(image.shape), 1)
    grey, marks = (np.kron(each[::-1, ::-1].T, np.ones((factor, factor))) for each in (image, labels))
    values = np.rint((np.clip(grey, -1, 1) + 1) / 2 * 255).astype(np.uint8)
    picture = np.repeat(values[..., None], 3, axis=2)
    for number in range(1, int(marks.max()) + 1):
        inside = marks == number
        picture[inside & ~ndimage.binary_erosion(inside)] = COLOURS[(number - 1) % len(COLOURS)]
    return picture


def _framed(picture: Picture, colour: tuple[int, int, int]) -> Picture:
    framed = np.full((picture.shape[0] + 6, picture.shape[1] + 6, 3), colour, dtype=np.uint8)
    framed[3:-3, 3:-3] = picture
    return framed
