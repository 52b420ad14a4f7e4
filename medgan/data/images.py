"""PNG and TIFF pictures as slices: grey only, 8 or 16 bit, on a made-up grid of 1 mm."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from medgan.data.grid import LPS_TO_RAS, Grid, Volume, made_up_grid
from medgan.errors import DataError

SUFFIXES = (".png", ".tif", ".tiff")

GREY_MODES = ("L", "I;16", "I;16B")
SIGNED_MODE = "I"
BITS_PER_SAMPLE = 258
"""The TIFF tag that tells a signed 16-bit picture (HU) from a 32-bit one: Pillow opens both as ``SIGNED_MODE``."""


def read(path: Path) -> Volume:
    """A grey picture as voxels (X, Y, 1), intensities as stored.

    Columns run along X and rows along Y, as in ITK: towards the patient's left and posterior, on a grid of 1 mm that is
    made up, since these formats do not tell. Any resolution that is stored (dots per inch) speaks of paper.

    Raises:
        DataError: Not a picture, truncated, colour or palette, several pages, or neither 8 nor 16 bit.
    """
    with _opened(path) as picture:
        pixels = np.asarray(picture, dtype=np.float32)  # (rows, columns)
    return Volume(pixels.T[..., np.newaxis], _grid(picture.size), path)


def read_grid(path: Path) -> Grid:
    """The grid of a picture, after the same checks of its header as in ``read``."""
    with _opened(path) as picture:
        return _grid(picture.size)


def _grid(size: tuple[int, int]) -> Grid:
    return made_up_grid((*size, 1), LPS_TO_RAS.copy())


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose kind has been checked; whatever breaks while it is decoded is a DataError."""
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as picture:
            _check_kind(path, picture)
            yield picture
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever a broken file provokes: OSError, SyntaxError, TypeError, ...
        raise DataError(f"{path}: cannot be read as PNG or TIFF ({error}); copy or export it again.") from None


def _check_kind(path: Path, picture: Image.Image) -> None:
    if getattr(picture, "n_frames", 1) > 1:
        raise DataError(f"{path}: several pages; save each as its own picture, or the stack as NIfTI.")
    if picture.mode in GREY_MODES:
        return
    if picture.mode == SIGNED_MODE and getattr(picture, "tag_v2", {}).get(BITS_PER_SAMPLE) == (16,):
        return
    if picture.mode in (SIGNED_MODE, "F", "1"):
        raise DataError(f"{path}: pixels of mode {picture.mode}, not 8 or 16 bit; save it so, or as NIfTI.")
    raise DataError(f"{path}: a colour picture (mode {picture.mode}), not intensities; save it grey with 8 or 16 bit.")
