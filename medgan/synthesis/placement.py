"""Where a lesion may lie: tissue like that around real lesions, at places where real lesions are, over no label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy import ndimage

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.masks import body_mask
from medgan.data.preparation import Prepared
from medgan.errors import InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.shapes import Voxel, lesions_of, organ_of

BINS = 32
"""Cells of the density of places along each axis of the body."""
NARROWEST = 0.05
"""Least deviation of the density's Gaussian, in half extents of the body: few lesions say little of others' places."""
SHELL_VOXELS = (2, 3)
"""Distance from a lesion at which its surroundings are measured: not its own blurred rim."""
IN_PLANE_SMOOTHING = 0.7
"""Deviation in voxels: noise is no other tissue."""
MOST_SAMPLES = 4000
"""Voxels of a case's surroundings that are kept."""


def body_coordinates(image: Prepared, voxels: NDArray[np.number] | tuple[float, ...]) -> NDArray[np.float64]:
    """Voxels (..., 3) as places in the body's box, -1 to 1 along right, anterior and superior.

    The ends are the outer faces of the first and last voxel, so that the one slice of a flat image lies in the middle.
    What lies beside the body is beyond -1 or 1.
    """
    first, last = np.array(image.body, dtype=np.float64).T
    return np.asarray((np.asarray(voxels) + 0.5 - first) / (last - first) * 2 - 1)


def voxel_at(image: Prepared, place: NDArray[np.float64]) -> Voxel:
    """The voxel at a place (3,) in the body's box."""
    first, last = np.array(image.body, dtype=np.float64).T
    return tuple(np.floor((place + 1) / 2 * (last - first) + first).astype(int).tolist())


class PlacementConfig(Config):
    """Where a lesion may be inserted."""

    rim_mm: NonNegativeFloat = 3.0
    """How far from the body's surface."""
    tissue_percent: float = Field(default=70.0, gt=0, le=100)
    """Share of real surroundings whose intensities count as tissue: the narrowest range that holds so many, since most
    lesions lie in one tissue, and what else they touch (cortex, fluid) is brighter or darker."""
    tries: PositiveInt = 2000
    """Places that are tried for a lesion, drawn where real lesions are likelier more often."""


@dataclass(frozen=True, eq=False)
class LesionSites:
    """Where the real lesions of some cases lie, and in which tissue: others may lie there, too.

    A place is allowed where the body, its rim taken off, has intensities of the tissue around most of the real lesions
    (each image in its own window, noise smoothed, single voxels closed and opened away), and where no label is nearer
    than the blending reaches. Among the allowed places one is drawn by the density of the real lesions' centres in body
    coordinates.
    """

    tissue: tuple[float, float]
    """Lowest and highest intensity around real lesions, in [-1, 1] over the window."""
    density: NDArray[np.float64]
    """(BINS, BINS, BINS) over the body's box, adding up to 1."""

    @classmethod
    def of(cls, cases: Sequence[Labelled], tissue_percent: float) -> Self:
        """Measured on labelled cases."""
        around = np.concatenate([np.empty(0, np.float32), *(_surroundings(case) for case in cases)])
        if not around.size:
            raise InsertionError("no donor has a lesion with tissue around it; give cases with lesions.")
        places = [body_coordinates(case.image, lesion.centre) for case in cases for lesion in lesions_of(case)]
        return cls(_narrowest(around, tissue_percent), _density(np.array(places)))

    def allowed(self, case: Labelled, domain: Domain, *, rim_mm: float, gap_mm: float) -> NDArray[np.bool_]:
        """Where new lesions may lie, (X, Y, Z): ``rim_mm`` from the body's surface and ``gap_mm`` from every label."""
        spacing_mm = voxel_sizes(case.image.affine)
        body = body_mask(case.image.voxels, domain)
        if not body.all():
            body &= ndimage.distance_transform_edt(body, sampling=spacing_mm) > rim_mm
        smooth = _smooth(case.image)
        like = (smooth >= self.tissue[0]) & (smooth <= self.tissue[1])
        plane = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
        like = ndimage.binary_opening(ndimage.binary_closing(like, plane), plane)
        if case.labels.any():
            like &= ndimage.distance_transform_edt(case.labels == 0, sampling=spacing_mm) > gap_mm
        return np.asarray(body & like)

    def find_place(
        self,
        allowed: NDArray[np.bool_],
        lesion: NDArray[np.bool_],
        image: Prepared,
        tries: int,
        rng: np.random.Generator,
    ) -> Voxel | None:
        """Where the middle of a lesion goes so that all of it lies in allowed tissue; None where no place was found.

        ``allowed`` is (X, Y, Z) of the recipient; the lesion, (x, y, z), is odd along each axis.
        """
        places = np.argwhere(allowed)
        cells = np.floor((body_coordinates(image, places) + 1) / 2 * BINS).astype(int)
        inside = ((cells >= 0) & (cells < BINS)).all(axis=1)
        places, likely = places[inside], self.density[tuple(cells[inside].T)]
        places, likely = places[likely > 0], likely[likely > 0]
        if not len(places):
            return None
        # The largest of log-density plus Gumbel noise are a draw without replacement by density.
        keys = -(np.log(likely) + rng.gumbel(size=len(places)))
        first = np.argpartition(keys, tries)[:tries] if tries < len(keys) else np.arange(len(keys))
        order = first[np.argsort(keys[first])]
        offsets = np.argwhere(lesion) - np.array(lesion.shape) // 2
        for place in places[order]:
            voxels = offsets + place
            if (voxels >= 0).all() and (voxels < allowed.shape).all() and allowed[tuple(voxels.T)].all():
                return tuple(place.tolist())
        return None


_around: WeakKeyDictionary[Labelled, NDArray[np.float32]] = WeakKeyDictionary()


def _surroundings(case: Labelled) -> NDArray[np.float32]:
    """Intensities around a case's lesions, in [-1, 1] over the window."""
    if case not in _around:
        if not case.labels.any():
            return np.empty(0, np.float32)
        (near, far), marked = SHELL_VOXELS, organ_of(case)
        ends = zip(marked.corner, marked.labels.shape, strict=True)
        box = tuple(slice(max(first - far, 0), first + size + far) for first, size in ends)
        sampling = [1.0, 1.0, 1.0 if case.labels.shape[2] > 1 else far + 1.0]
        distance = ndimage.distance_transform_edt(case.labels[box] == 0, sampling=sampling)
        shell = _smooth(case.image, box)[(distance >= near) & (distance <= far)]
        _around[case] = shell[:: max(1, len(shell) // MOST_SAMPLES)]
    return _around[case]


def _narrowest(values: NDArray[np.float32], percent: float) -> tuple[float, float]:
    """The narrowest interval that holds so many of the values: the highest density region of one mode.

    Source: Hyndman 1996, doi 10.1080/00031305.1996.10474359.
    """
    rising = np.sort(values)
    held = math.ceil(len(rising) * percent / 100)
    first = int(np.argmin(rising[held - 1 :] - rising[: len(rising) - held + 1]))
    return float(rising[first]), float(rising[first + held - 1])


def _smooth(image: Prepared, box: tuple[slice, ...] = (slice(None),) * 3) -> NDArray[np.float32]:
    """The image in [-1, 1] over the window, not clipped, smoothed in plane."""
    lower, upper = image.bounds
    smooth = ndimage.gaussian_filter(image.voxels[box], (IN_PLANE_SMOOTHING, IN_PLANE_SMOOTHING, 0), mode="nearest")
    return np.asarray((smooth - lower) / (upper - lower) * 2 - 1, dtype=np.float32)


def _density(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Gaussian kernel density of places (n, 3) in [-1, 1], on a grid; Scott's width (Scott 1992, Eq. 6.42)."""
    cells = np.clip(np.floor((places + 1) / 2 * BINS), 0, BINS - 1).astype(int)
    counts = np.zeros((BINS, BINS, BINS))
    np.add.at(counts, tuple(cells.T), 1)
    width = np.maximum(places.std(axis=0) * len(places) ** (-1 / 7), NARROWEST)
    density = ndimage.gaussian_filter(counts, width * BINS / 2, mode="constant")
    return np.asarray(density / density.sum())
