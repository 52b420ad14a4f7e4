"""One abdomen and one head without noise, on which most claims about the phantom are checked."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import HeadTissue, Tissue

Volumes = dict[str, NDArray]
Place = tuple[float, float, float]


@pytest.fixture(scope="session")
def subject() -> Volumes:
    """An abdomen with liver lesions, (96, 96, 24), noise-free: ``contrast`` and ``plain`` differ by iodine alone."""
    return KINDS["abdomen_ct"].render(3, 0, lesions=1.0, noise=False)


@pytest.fixture(scope="session")
def core(subject) -> Callable[[Tissue], NDArray[np.bool_]]:
    """The voxels of a tissue that touch no other tissue, where partial volume and blur are least."""

    def of(tissue: Tissue) -> NDArray[np.bool_]:
        inside = subject["labels"] == tissue
        eroded = ndimage.binary_erosion(inside)
        return eroded if eroded.any() else inside

    return of


@pytest.fixture(scope="session")
def centre(subject) -> Callable[[Tissue], Place]:
    """The centre of a tissue in voxels: larger to the right, to the front, to the head."""

    def of(tissue: Tissue) -> Place:
        x, y, z = np.argwhere(subject["labels"] == tissue).mean(axis=0)
        return float(x), float(y), float(z)

    return of


@pytest.fixture(scope="session")
def head_render() -> tuple[Volumes, float]:
    """A head of the default shape, (96, 112, 30), with lesions and without noise, and the seconds that it took."""
    start = time.process_time()
    volumes = KINDS["head_mr"].render(4, 1, lesions=1.0, noise=False)
    return volumes, time.process_time() - start


@pytest.fixture(scope="session")
def head(head_render) -> Volumes:
    """That head; ``t1`` and ``t1_gd`` differ by gadolinium alone."""
    return head_render[0]


@pytest.fixture(scope="session")
def head_centre(head) -> Callable[..., Place]:
    """The centre of some tissues of the head in mm from the volume's: to the right, to the front, to the head."""

    def of(*tissues: HeadTissue) -> Place:
        x, y, z = np.argwhere(np.isin(head["labels"], tissues)).mean(axis=0)
        return float(x - 47.5) * 2, float(y - 55.5) * 2, float(z - 14.5) * 4

    return of
