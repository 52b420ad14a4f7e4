"""One abdomen and one head without noise, on which most claims about the phantom are checked."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom.kinds import KINDS

Volumes = dict[str, NDArray]


@pytest.fixture(scope="session")
def subject() -> Volumes:
    """An abdomen with liver lesions, (96, 96, 24), noise-free: ``contrast`` and ``plain`` differ by iodine alone."""
    return KINDS["abdomen_ct"].render(3, 0, lesions=1.0, noise=False)


@pytest.fixture(scope="session")
def head() -> Volumes:
    """A head with lesions, (96, 112, 30), noise-free: ``t1`` and ``t1_gd`` differ by gadolinium alone."""
    return KINDS["head_mr"].render(4, 1, lesions=1.0, noise=False)


@pytest.fixture(scope="session")
def core() -> Callable[..., NDArray[np.bool_]]:
    """Voxels of tissues that touch no other one, where partial volume is least: ``core(subject, Tissue.LIVER)``."""

    def of(volumes, *tissues):
        inside = np.isin(volumes["labels"], tissues)
        eroded = ndimage.binary_erosion(inside)
        return eroded if eroded.any() else inside

    return of


@pytest.fixture(scope="session")
def centre(subject) -> Callable[..., NDArray[np.float64]]:
    """The centre of a tissue of the abdomen in voxels: larger to the right, to the front, to the head."""
    return lambda tissue: np.argwhere(subject["labels"] == tissue).mean(axis=0)


@pytest.fixture(scope="session")
def head_centre(head) -> Callable[..., NDArray[np.float64]]:
    """The centre of some tissues of the head in mm from the volume's: to the right, to the front, to the head."""
    middle = np.array([47.5, 55.5, 14.5])
    return lambda *tissues: (np.argwhere(np.isin(head["labels"], tissues)).mean(axis=0) - middle) * (2, 2, 4)
