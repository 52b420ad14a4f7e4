"""New masks from few real ones: a statistical model of their signed distance maps.

Real masks, each about its own centre and in units of its own size, become maps of the signed distance to their edge.
Principal components of these maps span a space in which every point is again a shape (Leventon et al. 2000,
doi 10.1109/CVPR.2000.855835). A new mask is drawn near a real one in it: a smoothed bootstrap, which keeps what goes
together (large lesions are less round than small ones) and asks for no more than a handful of masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy import ndimage

from medgan.config import Config
from medgan.data.masks import components
from medgan.errors import DataError

Labels = NDArray[np.uint8]
Spacing = Sequence[float]
FAR = 1.5
"""Distances are cut off here, in radii: far from an edge they say nothing of its shape."""


class MaskGeneratorConfig(Config):
    """How new masks are drawn."""

    novelty: float = Field(default=0.6, ge=0, le=1)
    """How far a new mask lies from the real one it is drawn near: 0 is that one, 1 keeps nothing of it and is drawn
    from the Gaussian around the mean of all. Between, the real masks' variance is kept."""
    variance_kept: float = Field(default=0.98, gt=0, le=1)
    """Of the real masks' distance maps, by the components that are kept; the rest is the voxels' staircase."""
    least_voxels: PositiveInt = 6
    """Real masks with fewer have no shape to learn."""
    points: PositiveInt = 24
    """Of the grid of a distance map along each axis."""


@dataclass(frozen=True, eq=False)
class MaskGenerator:
    """What is known of a cohort's masks; sizes in mm, shapes in units of an equally large ball's (or disc's) radius."""

    names: int
    config: MaskGeneratorConfig
    flat: bool
    """The masks are single slices: shapes and sizes in plane."""
    radii_mm: NDArray[np.float64]
    """Of each real mask, (N,)."""
    reach: NDArray[np.float64]
    """How far the grid extends from the centre, in radii along each axis, (2 or 3,)."""
    mean: NDArray[np.float64]
    """Of the distance maps, (names, *points), positive inside."""
    modes: NDArray[np.float64]
    """(M, names * points): each the change of the map by one deviation."""
    coefficients: NDArray[np.float64]
    """Of each real mask, (N, M), in deviations."""

    @classmethod
    def fit(
        cls, masks: Sequence[Labels], spacings_mm: Sequence[Spacing], names: int, config: MaskGeneratorConfig
    ) -> Self:
        """Learn from real masks.

        Args:
            masks: One thing each, a lesion or a whole organ, (x, y, z) of 0 to ``names``; all (x, y, 1) for slices.
            spacings_mm: The voxel size of each.
            names: How many labels there are.
            config: The settings.

        Raises:
            DataError: Fewer than two masks that are large enough.
        """
        usable = [
            (mask, spacing)
            for mask, spacing in zip(masks, spacings_mm, strict=True)
            if np.count_nonzero(mask) >= config.least_voxels
        ]
        if len(usable) < 2:
            raise DataError(
                f"{len(usable)} of {len(masks)} masks have {config.least_voxels} voxels or more; new shapes are learnt "
                "from two at least: vary the real ones instead."
            )
        flat = all(mask.shape[2] == 1 for mask, _ in usable)
        radii = np.array([radius_mm(mask, spacing, flat) for mask, spacing in usable])
        reach = np.max([_reach(*each, flat) / radius for each, radius in zip(usable, radii, strict=True)], axis=0) + 0.5
        maps = [
            _distances(*each, names, radius, reach, config.points) for each, radius in zip(usable, radii, strict=True)
        ]
        stack = np.stack(maps)
        mean = stack.mean(axis=0)
        modes, coefficients = _components((stack - mean).reshape(len(stack), -1), config.variance_kept)
        return cls(names, config, flat, radii, reach, mean, modes, coefficients)

    def draw(self, spacing_mm: Spacing, rng: np.random.Generator) -> Labels:
        """A new mask on a grid of ``spacing_mm``, in a box that is odd along each axis, its middle voxel at the centre.

        Returns:
            (x, y, z), one connected thing of at least one voxel; z is 1 for slices.
        """
        near, novelty = int(rng.integers(len(self.radii_mm))), self.config.novelty
        kept = np.sqrt(1 - novelty**2)
        weights = kept * self.coefficients[near] + novelty * rng.standard_normal(len(self.modes))
        sizes = np.log(self.radii_mm)
        size = sizes.mean() + kept * (sizes[near] - sizes.mean()) + novelty * sizes.std() * rng.standard_normal()
        radius = float(np.exp(np.clip(size, sizes.min(), sizes.max())))
        shape = self.mean + (weights @ self.modes).reshape(self.mean.shape)
        return _whole(self._sampled(self._of_unit_size(shape), radius, spacing_mm))

    def _of_unit_size(self, shape: NDArray[np.float64]) -> NDArray[np.float64]:
        """The shape grown or shrunk alike everywhere until it is as large as the unit ball (or disc).

        Where distance maps of long things are mixed that point different ways, only their middles overlap.
        """
        unit = np.pi if self.flat else 4 / 3 * np.pi
        return np.asarray(shape - np.quantile(shape.max(axis=0), 1 - unit / np.prod(2 * self.reach)))

    def _sampled(self, shape: NDArray[np.float64], radius: float, spacing_mm: Spacing) -> NDArray[np.float64]:
        """A shape's distance maps (names, x, y, z) at the voxels of a grid."""
        axes = len(self.reach)
        half = [int(np.ceil(reach * radius / step)) for reach, step in zip(self.reach, spacing_mm, strict=False)]
        steps = [
            (np.arange(-extent, extent + 1) * step / (radius * reach) + 1) / 2 * (self.config.points - 1)
            for extent, step, reach in zip(half, spacing_mm, self.reach, strict=False)
        ]
        places = np.stack(np.meshgrid(*steps, indexing="ij"))
        found = np.stack([ndimage.map_coordinates(each, places, order=1, mode="nearest") for each in shape])
        return found if axes == 3 else found[..., None]


def radius_mm(mask: Labels, spacing_mm: Spacing, flat: bool) -> float:
    """The radius of the ball, or in one slice of the disc, that is as large as all that is marked."""
    marked = np.count_nonzero(mask)
    if flat:
        return float(np.sqrt(marked * np.prod(spacing_mm[:2]) / np.pi))
    return float(np.cbrt(marked * np.prod(spacing_mm) * 3 / (4 * np.pi)))


def _reach(mask: Labels, spacing_mm: Spacing, flat: bool) -> NDArray[np.float64]:
    """The farthest marked voxel from the centre along each axis, mm."""
    voxels = np.argwhere(mask)
    far = np.abs(voxels - voxels.mean(axis=0)).max(axis=0) * np.asarray(spacing_mm)
    return np.asarray(far[: 2 if flat else 3])


def _distances(
    mask: Labels, spacing_mm: Spacing, names: int, radius: float, reach: NDArray[np.float64], points: int
) -> NDArray[np.float64]:
    """Signed distances to each name's edge in radii, positive inside, (names, *points) on the grid about the centre."""
    axes = len(reach)
    voxels = mask[..., 0] if axes == 2 else mask
    spacing = np.asarray(spacing_mm[:axes], dtype=np.float64)
    centre = np.argwhere(voxels).mean(axis=0)
    steps = [
        middle + np.linspace(-1, 1, points) * far * radius / step
        for middle, far, step in zip(centre, reach, spacing, strict=True)
    ]
    places = np.stack(np.meshgrid(*steps, indexing="ij"))
    # Room around the mask, so that distances are measured everywhere on the grid.
    low = np.maximum(np.ceil(-places.reshape(axes, -1).min(axis=1)), 0).astype(int) + 1
    high = np.maximum(np.ceil(places.reshape(axes, -1).max(axis=1)) - voxels.shape + 1, 0).astype(int) + 1
    roomy = np.pad(voxels, list(zip(low, high, strict=True)))
    places = places + low.reshape(-1, *[1] * axes)
    maps = []
    for number in range(1, names + 1):
        inside = roomy == number
        distance = np.full(roomy.shape, -FAR * radius)
        if inside.any():
            measure = ndimage.distance_transform_edt
            distance = measure(inside, sampling=spacing) - measure(~inside, sampling=spacing)
        maps.append(ndimage.map_coordinates(distance, places, order=1, mode="nearest"))
    return np.asarray(np.clip(np.stack(maps) / radius, -FAR, FAR))


def _components(centred: NDArray[np.float64], variance_kept: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal components of (N, F) as changes by one deviation (M, F), and the coefficients in deviations (N, M)."""
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    count = int(np.searchsorted(share, variance_kept - 1e-9)) + 1
    scale = np.sqrt(len(centred) - 1)
    return singular[:count, None] * right[:count] / scale, left[:, :count] * scale


def _whole(distances: NDArray[np.float64]) -> Labels:
    """Labels of distance maps (names, x, y, z): the name that a voxel lies deepest in; the largest connected part.

    Where a mask is too small for any voxel's centre to lie in it, the deepest voxel is marked.
    """
    deepest = distances.max(axis=0)
    marked = deepest > 0
    marked[np.unravel_index(int(deepest.argmax()), deepest.shape)] = True
    parts, count = components(marked)
    largest = 1 + int(np.argmax(ndimage.sum_labels(marked, parts, range(1, count + 1))))
    return np.where(parts == largest, distances.argmax(axis=0) + 1, 0).astype(np.uint8)
