"""Lesions of real cases, cut out and varied: rotated, scaled, mirrored and smoothly bent."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import ndimage

from medgan.config import Config
from medgan.data.masks import boxes, components
from medgan.segmentation.labelled import Labelled

Voxel = tuple[int, int, int]


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


@dataclass(frozen=True, eq=False)
class Lesion:
    """Part of a label map."""

    labels: NDArray[np.uint8]
    """(x, y, z), its bounding box; other lesions in the box are left out."""
    corner: Voxel
    """The box's first voxel in the label map."""

    @property
    def centre(self) -> Voxel:
        """The voxel of the lesion that is nearest to its mean, in the label map."""
        voxels = np.argwhere(self.labels)
        nearest = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()] + self.corner
        return int(nearest[0]), int(nearest[1]), int(nearest[2])

    @property
    def voxels(self) -> int:
        """How many it has."""
        return int(np.count_nonzero(self.labels))


@dataclass(frozen=True, eq=False)
class Piece:
    """Labels with the image that belongs to them, on a recipient's spacing, to be placed by its middle voxel."""

    source: str
    """The subject that it was cut from; empty where a network drew it."""
    labels: NDArray[np.uint8]
    """(x, y, z), odd along each axis; a lesion lies around the middle voxel."""
    image: NDArray[np.float32]
    """(x, y, z) in the source's unit."""
    bounds: tuple[float, float]
    """The intensities that are -1 and +1 of the source."""

    @property
    def half(self) -> Voxel:
        """The middle voxel."""
        x, y, z = (size // 2 for size in self.labels.shape)
        return x, y, z

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
        _lesions[case] = tuple(
            _part(case, box, parts[box] == number) for number, box in enumerate(boxes(parts), start=1)
        )
    return _lesions[case]


def organ_of(case: Labelled) -> Lesion | None:
    """All that a label map marks, as one; None where it marks nothing."""
    box = marked_box(case.labels)
    return _part(case, box, np.ones((), dtype=bool)) if box else None


def marked_box(labels: NDArray[np.uint8]) -> tuple[slice, ...] | None:
    """The bounding box of all labels; None where there are none."""
    found = ndimage.find_objects((labels > 0).astype(np.uint8))
    return found[0] if found else None


def draw_map(config: ShapeConfig, rng: np.random.Generator, *, flat: bool) -> NDArray[np.float64]:
    """The matrix (3, 3) from millimetres around a source's centre to those around the piece's: turn, size, mirror.

    Args:
        config: How much.
        rng: Chance.
        flat: The source is one slice: its thickness stays.
    """
    angle = np.radians(rng.uniform(-config.rotation_degrees, config.rotation_degrees))
    size = (1 + config.scaling) ** rng.uniform(-1, 1)
    mirror = -1.0 if rng.random() < 0.5 and config.mirroring else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray(turn @ np.diag([mirror * size, size, 1.0 if flat else size]))


def reach_of(case: Labelled, lesion: Lesion, matrix: NDArray[np.float64], spacing_mm: NDArray[np.float64]) -> Voxel:
    """How many voxels of a spacing a varied lesion extends from its middle, but for its deformation."""
    ends = np.array([lesion.corner, np.add(lesion.corner, lesion.labels.shape) - 1]) - lesion.centre
    corners = np.array(np.meshgrid(*ends.T, indexing="ij")).reshape(3, -1).T * voxel_sizes(case.image.affine)
    x, y, z = np.ceil(np.abs(corners @ matrix.T).max(axis=0) / spacing_mm - 1e-6).astype(int).tolist()
    return x, y, z


def cut(
    case: Labelled,
    lesion: Lesion,
    matrix: NDArray[np.float64],
    half: Voxel,
    spacing_mm: NDArray[np.float64],
    config: ShapeConfig,
    rng: np.random.Generator,
) -> Piece:
    """A lesion and what surrounds it, varied, on a recipient's spacing.

    The middle voxel maps to the lesion's centre whatever the deformation, so no lesion is so small that it is lost.
    Without variation and on the same spacing the piece equals the source to the bit.

    Args:
        case: The source.
        lesion: One of its.
        matrix: From :func:`draw_map`.
        half: The piece has 2 ``half`` + 1 voxels along each axis; beyond the source its outermost voxels continue.
        spacing_mm: (3,), of the recipient.
        config: The deformation.
        rng: Chance.
    """
    shape = [2 * extent + 1 for extent in half]
    offsets = np.stack(np.meshgrid(*(np.arange(-extent, extent + 1) for extent in half), indexing="ij"))
    place = offsets * spacing_mm.reshape(3, 1, 1, 1) + deformation(shape, spacing_mm, config, rng)
    source_mm = np.einsum("ij,j...->i...", np.linalg.inv(matrix), place)
    coordinates = source_mm / voxel_sizes(case.image.affine).reshape(3, 1, 1, 1) + np.reshape(
        lesion.centre, (3, 1, 1, 1)
    )
    coordinates = np.where(np.abs(coordinates - np.rint(coordinates)) < 1e-6, np.rint(coordinates), coordinates)
    if case.labels.shape[2] == 1:
        coordinates[2] = 0
    image = ndimage.map_coordinates(case.image.voxels, coordinates, order=1, mode="nearest")
    return Piece(case.subject, labels_at(lesion, coordinates), np.asarray(image), case.image.bounds)


def _part(case: Labelled, box: tuple[slice, ...], inside: NDArray[np.bool_]) -> Lesion:
    x, y, z = (int(extent.start) for extent in box)
    return Lesion(np.where(inside, case.labels[box], np.uint8(0)), (x, y, z))


def labels_at(lesion: Lesion, coordinates: NDArray[np.float64]) -> NDArray[np.uint8]:
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


def deformation(
    shape: Sequence[int], spacing_mm: NDArray[np.float64], config: ShapeConfig, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth displacements (3, x, y, z) in mm that leave the middle voxel where it is."""
    if not config.deformation_mm:
        return np.zeros((3, *shape))
    noise = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0, *config.smoothness_mm / spacing_mm), mode="wrap")
    noise *= config.deformation_mm / max(float(np.sqrt((noise**2).mean())), 1e-12)
    middle = tuple(size // 2 for size in shape)
    return np.asarray(noise - noise[(slice(None), *middle)].reshape(3, 1, 1, 1))
