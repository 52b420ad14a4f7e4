"""Made-up labelled heads, flat and deep: a grey brain in air, in it brighter lesions or an organ of two parts."""

import numpy as np
import pytest

from medgan.data.domains import Domain, Window
from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled

SHAPES = {"2d": (48, 48, 1), "3d": (36, 36, 12)}
BOUNDS = (0.0, 200.0)


def ball(shape, centre, radius):
    """A ball in millimetres of slices twice as thick; a disc in a single slice."""
    grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    reach = (1, 1, 2)
    return sum(((axis - at) * step / radius) ** 2 for axis, at, step in zip(grid, centre, reach, strict=True)) <= 1


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(scope="session")
def domain():
    return Domain(
        name="flair", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.0, upper=100.0, percentiles=True)
    )


def head(shape, random):
    voxels = np.where(ball(shape, np.array(shape) // 2, shape[0] // 2 - 2), 100.0, 0.0)
    return voxels + random.normal(0, 2, shape) * (voxels > 0)


def labelled(subject, voxels, labels, bounds=BOUNDS, affine=None):
    body = tuple((int(at.min()), int(at.max()) + 1) for at in np.nonzero(voxels > 50))
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    return Labelled(subject, Prepared(voxels.astype(np.float32), affine, body, bounds), labels.astype(np.uint8))


@pytest.fixture(scope="session")
def with_lesions():
    """Cases with bright lesions: ``with_lesions(shape, 3, radii=(2, 3))``; none where there are no radii."""

    def make(shape, count, radii=(1.5, 2.5), first=0):
        cases = []
        for seed in range(first, first + count):
            random = np.random.default_rng(seed)
            voxels, labels = head(shape, random), np.zeros(shape, dtype=np.uint8)
            places = [(0.35, 0.4), (0.62, 0.6), (0.4, 0.66)][: len(radii)]
            for radius, place in zip(radii, places, strict=True):
                centre = [*np.rint(np.array(place) * shape[:2] + random.uniform(-1.5, 1.5, 2)), shape[2] // 2]
                labels[ball(shape, centre, radius)] = 1
            cases.append(labelled(f"s{seed}", voxels + 60 * labels, labels))
        return cases

    return make


@pytest.fixture(scope="session")
def with_organ():
    """Cases with an organ of two parts, 1 in front and 2 behind: ``with_organ(shape, 3)``."""

    def make(shape, count, first=0):
        cases = []
        for seed in range(first, first + count):
            random = np.random.default_rng(seed)
            centre = [size // 2 for size in shape]
            organ = ball(shape, centre, random.uniform(4, 6))
            labels = np.where(organ, np.where(np.arange(shape[1])[None, :, None] < centre[1], 1, 2), 0)
            cases.append(labelled(f"s{seed}", head(shape, random) + 20 * labels, labels))
        return cases

    return make
