"""Shapes of lesions: those of real cases, cut out and varied, and new ones from a statistical model of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import ndimage

from medgan.config import Config
from medgan.data.masks import boxes, components
from medgan.errors import DataError, InsertionError
from medgan.segmentation.labelled import Labelled

Voxel = tuple[int, ...]
"""Three whole numbers."""
LabelMap = NDArray[np.uint8]
Array = NDArray[np.float64]
FAR = 1.5
"""The shape model cuts distances off here, in radii: far from an edge they say nothing of its shape."""
NOVELTY, VARIANCE_KEPT = 0.6, 0.98
"""Of the shape model: how far new masks lie from real ones, and the share of the real distance maps' variance that the
kept components hold; the rest is the voxels' staircase."""
LEAST_VOXELS, POINTS = 6, 24
"""Smaller masks have no shape to learn; and points of the grid of a distance map along each axis."""


class ShapeConfig(Config):
    """How a cut lesion is varied before it is inserted; the defaults are for lesions, which have no right way up."""

    rotation_degrees: NonNegativeFloat = 180.0
    """Largest rotation in plane."""
    scaling: float = Field(default=0.15, ge=0, lt=1)
    """Largest relative change of size, as likely up as down: the median size stays."""
    deformation_mm: NonNegativeFloat = 0.7
    """Root mean square of a smooth random displacement along each axis."""
    smoothness_mm: PositiveFloat = 5.0
    """Deviation of the Gaussian that makes the displacement smooth."""
    mirroring: bool = True
    """Mirror left and right in half of the cases."""


ORGAN = ShapeConfig(rotation_degrees=10.0, scaling=0.1, mirroring=False)
"""How an organ is varied that takes the place of another one's: it has a side and a right way up."""
BENDING = 3.0
"""Deviations of the deformation that a piece leaves room for."""


@dataclass(frozen=True, eq=False)
class Lesion:
    """Part of a label map."""

    labels: LabelMap
    """(x, y, z), its bounding box; other lesions in the box are left out."""
    corner: Voxel
    """The box's first voxel in the label map."""

    @property
    def centre(self) -> Voxel:
        """The voxel of the lesion that is nearest to its mean, in the label map."""
        voxels = np.argwhere(self.labels)
        nearest = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()] + self.corner
        return tuple(nearest.tolist())

    @property
    def voxels(self) -> int:
        """How many it has."""
        return int(np.count_nonzero(self.labels))


@dataclass(frozen=True, eq=False)
class Piece:
    """Labels with the image that belongs to them, on a recipient's spacing, to be placed by its middle voxel."""

    source: str
    """The subject that it was cut from; empty where a network drew it."""
    labels: LabelMap
    """(x, y, z), odd along each axis; a lesion lies around the middle voxel."""
    image: NDArray[np.float32]
    """(x, y, z) in the source's unit."""
    bounds: tuple[float, float]
    """The intensities that are -1 and +1 of the source."""

    @property
    def half(self) -> Voxel:
        """The middle voxel."""
        return tuple(size // 2 for size in self.labels.shape)

    def intensities(self, bounds: tuple[float, float]) -> NDArray[np.float32]:
        """The image in the unit of a recipient: what lies where in the one window lies there in the other."""
        if bounds == self.bounds:
            return self.image
        (low, high), (lower, upper) = self.bounds, bounds
        return np.asarray((self.image - low) / (high - low) * (upper - lower) + lower, dtype=np.float32)


_lesions: WeakKeyDictionary[Labelled, tuple[Lesion, ...]] = WeakKeyDictionary()


def lesions_of(case: Labelled) -> tuple[Lesion, ...]:
    """Each connected thing in a label map; those that touch are one, whatever their names."""
    if case not in _lesions:
        parts, _ = components(case.labels)
        numbered = enumerate(boxes(parts), start=1)
        _lesions[case] = tuple(_part(case, box, parts[box] == number) for number, box in numbered)
    return _lesions[case]


def organ_of(case: Labelled) -> Lesion:
    """All that a label map marks, as one; a case in which nothing is marked is refused."""
    extents = ndimage.find_objects((case.labels > 0).astype(np.uint8))
    if not extents:
        raise InsertionError(f"{case.subject} has no label that could be replaced; use placement=add.")
    return _part(case, extents[0], np.ones((), dtype=bool))


def _part(case: Labelled, box: tuple[slice, ...], inside: NDArray[np.bool_]) -> Lesion:
    return Lesion(np.where(inside, case.labels[box], np.uint8(0)), tuple(int(extent.start) for extent in box))


_UNVARIED = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)


def cut_piece(
    case: Labelled,
    lesion: Lesion,
    spacing_mm: Array,
    rng: np.random.Generator,
    *,
    variation: ShapeConfig | None = None,
    room_mm: float = 0.0,
    least: Voxel = (0, 0, 0),
) -> Piece:
    """A lesion and what surrounds it, varied, on a recipient's spacing.

    The middle voxel maps to the lesion's centre whatever the deformation, so no lesion is so small that it is lost.
    Without variation and on the same spacing the piece equals the source to the bit. Beyond the source its outermost
    voxels continue.

    On each side of its middle it has as many voxels as the lesion, or ``least``, and a margin of ``room_mm``, but no
    margin along the third axis of a slice.
    """
    config, thick = variation or _UNVARIED, np.array(case.labels.shape) > 1
    matrix = _draw_map(config, rng, flat=not thick[2]) if variation else np.eye(3)
    margin = np.ceil((BENDING * config.deformation_mm + room_mm) / spacing_mm).astype(int) * thick
    half = np.maximum(reach_of(case, lesion, spacing_mm, matrix), least) + margin
    offsets = np.indices(2 * half + 1) - half.reshape(3, 1, 1, 1)
    place = offsets * spacing_mm.reshape(3, 1, 1, 1) + deformation(offsets.shape[1:], spacing_mm, config, rng)
    source_mm = np.einsum("ij,j...->i...", np.linalg.inv(matrix), place)
    centre = np.reshape(lesion.centre, (3, 1, 1, 1))
    coordinates = source_mm / voxel_sizes(case.image.affine).reshape(3, 1, 1, 1) + centre
    coordinates = np.where(np.abs(coordinates - np.rint(coordinates)) < 1e-6, np.rint(coordinates), coordinates)
    if not thick[2]:
        coordinates[2] = 0
    image = ndimage.map_coordinates(case.image.voxels, coordinates, order=1, mode="nearest")
    return Piece(case.subject, labels_at(lesion, coordinates), np.asarray(image), case.image.bounds)


def reach_of(case: Labelled, lesion: Lesion, spacing_mm: Array, matrix: Array | None = None) -> Voxel:
    """How many voxels of a spacing a lesion, mapped by a matrix, extends from its middle, but for its deformation."""
    ends = np.array([lesion.corner, np.add(lesion.corner, lesion.labels.shape) - 1]) - lesion.centre
    corners = np.array(np.meshgrid(*ends.T, indexing="ij")).reshape(3, -1).T * voxel_sizes(case.image.affine)
    mapped = corners if matrix is None else corners @ matrix.T
    return tuple(np.ceil(np.abs(mapped).max(axis=0) / spacing_mm - 1e-6).astype(int).tolist())


def _draw_map(config: ShapeConfig, rng: np.random.Generator, *, flat: bool) -> Array:
    """The matrix (3, 3) from millimetres around a source's centre to those around the piece's: turn, size, mirror.

    The thickness of a single slice stays.
    """
    angle = np.radians(rng.uniform(-config.rotation_degrees, config.rotation_degrees))
    size = (1 + config.scaling) ** rng.uniform(-1, 1)
    mirror = -1.0 if rng.random() < 0.5 and config.mirroring else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray(turn @ np.diag([mirror * size, size, 1.0 if flat else size]))


def labels_at(lesion: Lesion, coordinates: Array) -> LabelMap:
    """The likeliest label at places (3, x, y, z) of the source: each label is interpolated, not its number."""
    grown = np.pad(lesion.labels, 1)
    inside = coordinates - np.reshape(lesion.corner, (3, 1, 1, 1)) + 1
    best = np.full(coordinates.shape[1:], 0.5)
    result = np.zeros(coordinates.shape[1:], dtype=np.uint8)
    for number in np.unique(lesion.labels[lesion.labels > 0]):
        likely = ndimage.map_coordinates((grown == number).astype(np.float64), inside, order=1, mode="constant")
        result[likely >= best] = number
        best = np.maximum(best, likely)
    # Where two labels meet neither has half of a voxel, and together they do.
    whole = ndimage.map_coordinates((grown > 0).astype(np.float64), inside, order=1, mode="constant") >= 0.5
    left = whole & (result == 0)
    if left.any():
        near = ndimage.distance_transform_edt(result == 0, return_distances=False, return_indices=True)
        result[left] = result[tuple(near)][left]
    return result


def deformation(shape: Sequence[int], spacing_mm: Array, config: ShapeConfig, rng: np.random.Generator) -> Array:
    """Smooth displacements (3, x, y, z) in mm that leave the middle voxel where it is."""
    if not config.deformation_mm:
        return np.zeros((3, *shape))
    noise = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0, *config.smoothness_mm / spacing_mm), mode="wrap")
    noise *= config.deformation_mm / max(float(np.sqrt((noise**2).mean())), 1e-12)
    middle = tuple(size // 2 for size in shape)
    return np.asarray(noise - noise[(slice(None), *middle)].reshape(3, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """New masks from few real ones: a statistical model of their signed distance maps.

    Real masks, each about its own centre and in units of its own size, become maps of the signed distance to their
    edge. Principal components of these maps span a space in which every point is again a shape (Leventon et al. 2000,
    doi 10.1109/CVPR.2000.855835). A new mask is drawn near a real one in it: a smoothed bootstrap, which keeps what
    goes together (large lesions are less round than small ones) and needs no more than a handful of masks. Sizes are in
    mm, shapes in units of an equally large ball's (or disc's) radius.
    """

    flat: bool
    """Whether masks are single slices."""
    radii_mm: Array
    """Of the real masks, (N,)."""
    reach: Array
    """How far the grid extends from the centre, in radii along each axis, (2 or 3,)."""
    mean: Array
    """Of the distance maps, (names, *points), positive inside."""
    modes: Array
    """(M, names * points): each the change of the map by one deviation."""
    coefficients: Array
    """Of each real mask, (N, M), in deviations."""

    @classmethod
    def fit(
        cls, masks: Sequence[tuple[LabelMap, Sequence[float]]], names: int, variance_kept: float = VARIANCE_KEPT
    ) -> Self:
        """Learn from real masks of one lesion or organ each, (x, y, z) of 0 to ``names``, with their spacing in mm."""
        usable = [(mask, spacing) for mask, spacing in masks if np.count_nonzero(mask) >= LEAST_VOXELS]
        if len(usable) < 2:
            raise DataError(
                f"{len(usable)} of {len(masks)} masks have {LEAST_VOXELS} voxels or more; new shapes are learnt "
                "from two at least: vary the real ones instead."
            )
        flat = all(mask.shape[2] == 1 for mask, _ in usable)
        radii = np.array([_radius_mm(mask, spacing, flat) for mask, spacing in usable])
        sized = [(*each, radius) for each, radius in zip(usable, radii, strict=True)]
        reach = np.max([_reach(*each) for each in sized], axis=0)[: 2 if flat else 3] + 0.5
        stack = np.stack([_distances(*each, names, reach) for each in sized])
        mean = stack.mean(axis=0)
        # Principal components as changes by one deviation, and the coefficients in deviations.
        left, singular, right = np.linalg.svd((stack - mean).reshape(len(stack), -1), full_matrices=False)
        share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
        count = int(np.searchsorted(share, variance_kept - 1e-9)) + 1
        scale = np.sqrt(len(stack) - 1)
        return cls(flat, radii, reach, mean, singular[:count, None] * right[:count] / scale, left[:, :count] * scale)

    def draw(self, spacing_mm: Sequence[float], rng: np.random.Generator, novelty: float = NOVELTY) -> LabelMap:
        """A new mask of one connected part, (x, y, z), around the middle of a box that is odd along each axis.

        ``novelty`` is how far it lies from the real one that it is drawn near: 0 is that one, 1 keeps nothing of it and
        is drawn from the Gaussian around the mean of all. Between, the real masks' variance is kept.
        """
        near = int(rng.integers(len(self.radii_mm)))
        likeness = np.sqrt(1 - novelty**2)
        weights = likeness * self.coefficients[near] + novelty * rng.standard_normal(len(self.modes))
        sizes = np.log(self.radii_mm)
        size = sizes.mean() + likeness * (sizes[near] - sizes.mean()) + novelty * sizes.std() * rng.standard_normal()
        radius = float(np.exp(np.clip(size, sizes.min(), sizes.max())))
        shape = self.mean + (weights @ self.modes).reshape(self.mean.shape)
        # Grown or shrunk until it is as large as the unit ball (or disc): where distance maps of long things are mixed
        # that point different ways, only their middles overlap.
        unit = np.pi if self.flat else 4 / 3 * np.pi
        shape = np.asarray(shape - np.quantile(shape.max(axis=0), 1 - unit / np.prod(2 * self.reach)))
        return _largest_part(self._sampled(shape, radius, spacing_mm))

    def _sampled(self, shape: Array, radius: float, spacing_mm: Sequence[float]) -> Array:
        """A shape's distance maps (names, x, y, z) at the voxels of a grid."""
        steps = []
        for reach, step in zip(self.reach, spacing_mm, strict=False):
            half = int(np.ceil(reach * radius / step))
            steps.append((np.arange(-half, half + 1) * step / (radius * reach) + 1) / 2 * (POINTS - 1))
        places = np.stack(np.meshgrid(*steps, indexing="ij"))
        maps = np.stack([ndimage.map_coordinates(each, places, order=1, mode="nearest") for each in shape])
        return maps[..., None] if self.flat else maps


def _radius_mm(mask: LabelMap, spacing_mm: Sequence[float], flat: bool) -> float:
    """The radius of the ball, or in one slice of the disc, that is as large as all that is marked."""
    marked = np.count_nonzero(mask)
    if flat:
        return float(np.sqrt(marked * np.prod(spacing_mm[:2]) / np.pi))
    return float(np.cbrt(marked * np.prod(spacing_mm) * 3 / (4 * np.pi)))


def _reach(mask: LabelMap, spacing_mm: Sequence[float], radius: float) -> Array:
    """The farthest marked voxel from the centre along each axis, in radii."""
    voxels = np.argwhere(mask)
    return np.asarray(np.abs(voxels - voxels.mean(axis=0)).max(axis=0) * spacing_mm / radius)


def _distances(mask: LabelMap, spacing_mm: Sequence[float], radius: float, names: int, reach: Array) -> Array:
    """Signed distances to each name's edge in radii, positive inside, (names, *points) on the grid about the centre."""
    axes = len(reach)
    voxels = mask[..., 0] if axes == 2 else mask
    spacing = np.asarray(spacing_mm[:axes], dtype=np.float64)
    centre = np.argwhere(voxels).mean(axis=0)
    steps = [
        middle + np.linspace(-1, 1, POINTS) * far * radius / step
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
            distance = -signed_distance(inside, spacing)
        maps.append(ndimage.map_coordinates(distance, places, order=1, mode="nearest"))
    return np.asarray(np.clip(np.stack(maps) / radius, -FAR, FAR))


def signed_distance(region: NDArray[np.bool_], spacing_mm: Array) -> Array:
    """Distance in mm to the middle of the nearest voxel across a region's border, negative inside."""
    outside, inside = (ndimage.distance_transform_edt(each, sampling=spacing_mm) for each in (~region, region))
    return np.asarray(outside - inside)


def _largest_part(distances: Array) -> LabelMap:
    """Labels of distance maps (names, x, y, z): the name that a voxel lies deepest in; the largest connected part.

    Where a mask is too small for any voxel's centre to lie in it, the deepest voxel is marked.
    """
    deepest = distances.max(axis=0)
    marked = deepest > 0
    marked[np.unravel_index(int(deepest.argmax()), deepest.shape)] = True
    parts, count = components(marked)
    largest = 1 + int(np.argmax(ndimage.sum_labels(marked, parts, range(1, count + 1))))
    return np.where(parts == largest, distances.argmax(axis=0) + 1, 0).astype(np.uint8)
