"""One phantom subject without noise, which most claims about the phantom are checked on."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom import head_mr
from medgan.phantom.ct import render_subject
from medgan.phantom.tissues import HeadTissue, Tissue

Volumes = dict[str, NDArray]
Place = tuple[float, float, float]


@pytest.fixture(scope="session")
def subject() -> Volumes:
    """A subject with liver lesions, (96, 96, 24), noise-free: the scans differ by iodine alone."""
    return render_subject(3, 0, lesions=1.0, noise=False)


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
def head() -> Volumes:
    """A head with lesions, (96, 112, 30), noise-free: ``t1`` and ``t1_gd`` differ by gadolinium alone."""
    return head_mr.render_subject(4, 1, lesions=1.0, noise=False)


@pytest.fixture(scope="session")
def head_centre(head) -> Callable[..., Place]:
    """The centre of some tissues of the head in mm from the volume's: to the right, to the front, to the head."""

    def of(*tissues: HeadTissue) -> Place:
        x, y, z = np.argwhere(np.isin(head["labels"], tissues)).mean(axis=0)
        return float(x - 47.5) * 2, float(y - 55.5) * 2, float(z - 14.5) * 4

    return of
