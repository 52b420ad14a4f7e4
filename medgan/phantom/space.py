"""Points of a patient, smooth fields and solid shapes over them, layers of tissue, and each subject's random numbers.

A shape tells by a formula how far each point lies from its surface in mm, negative inside, and near the surface close
to exact. That gives the share of a voxel that it fills at any resolution, without sampling the voxel more than once. An
anatomy is what lies where in a subject, before any scanner looks at it; it knows nothing of voxels, so that one subject
can be rendered on any grid.

Source: I. Quilez, "Distance functions" and "Smooth minimum", iquilezles.org/articles.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.tissues import Label

Field = NDArray[np.float64]
"""A number for each point, (X, Y, Z)."""
Point = tuple[float, float, float]
Size = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Streams = Callable[[str], np.random.Generator]
"""The random numbers of one subject by purpose, see :func:`stream`."""

MARGIN_MM = 8.0
"""How far a box reaches beyond what it must hold: the thickest slice's partial volume, and a bend of the space."""

TALL = float("inf")  # the radius of what has no end


@dataclass(frozen=True, eq=False)
class Space:
    """Points of the patient, (X, Y, Z) each, in mm: x grows to the right, y to the front, z to the head."""

    x: Field
    y: Field
    z: Field
    spacing_mm: Point  # the size of the voxels around the points
    part_of: "tuple[Space, Box] | None" = None  # the space that this is a box of, and which

    @classmethod
    def regular(cls, shape: Size, spacing_mm: Point) -> Self:
        """The voxel centres of a grid whose middle is the origin."""
        axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_mm, strict=True)]
        x, y, z = (np.ascontiguousarray(axis) for axis in np.meshgrid(*axes, indexing="ij"))
        return cls(x, y, z, spacing_mm)

    def box(self, low: Point, high: Point) -> Box:
        """The smallest box of voxels that holds every point between two corners, with a margin; empty if none does."""
        slices = []
        for (least, greatest), start, stop in zip(self._spans, low, high, strict=True):
            hit = np.flatnonzero((greatest >= start - MARGIN_MM) & (least <= stop + MARGIN_MM))
            slices.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
        return slices[0], slices[1], slices[2]

    def __getitem__(self, box: Box) -> "Space":
        """The points of a box."""
        return Space(self.x[box], self.y[box], self.z[box], self.spacing_mm, (self, box))

    @cached_property
    def _spans(self) -> list[tuple[Field, Field]]:
        """The least and the greatest coordinate in each plane of voxels across an axis, for each axis."""
        fields = zip((self.x, self.y, self.z), [(1, 2), (0, 2), (0, 1)], strict=True)
        return [(field.min(axis=others), field.max(axis=others)) for field, others in fields]


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random field: a sum of plane waves in random directions."""

    vectors: Field  # radians per mm, (waves, 3)
    phases: Field  # radians, (waves,)
    amplitude: float

    @classmethod
    def draw(cls, rng: np.random.Generator, rms: float, wavelengths_mm: tuple[float, float], count: int = 4) -> Self:
        """A field with root mean square ``rms``, made of ``count`` waves whose lengths lie in a range."""
        direction = rng.uniform(-1.0, 1.0, (count, 3))
        direction /= np.sqrt((direction**2).sum(axis=1, keepdims=True)) + 1e-9
        length = rng.uniform(*wavelengths_mm, (count, 1))
        return cls(direction * (2 * np.pi / length), rng.uniform(0, 2 * np.pi, count), rms * (2 / count) ** 0.5)

    @property
    def peak(self) -> float:
        """What the field never exceeds."""
        return self.amplitude * len(self.phases)

    def __call__(self, at: Space) -> Field:
        """The field's values at these points."""
        total = np.zeros_like(at.x)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total += np.cos(at.x * kx + at.y * ky + at.z * kz + phase)
        return total * self.amplitude


def near(rng: np.random.Generator, place: Point, by_mm: float) -> Point:
    """A random point, at most ``by_mm`` from a place along each axis."""
    return point(np.asarray(place) + rng.uniform(-by_mm, by_mm, 3))


def point(values: Field | Point) -> Point:
    """Three numbers as a point."""
    return float(values[0]), float(values[1]), float(values[2])


PURPOSES = (
    *("lesions", "scan", "anatomy", "materials", "contrast", "plain"),
    *("session", "relaxation", "mr", "t1", "t1_gd", "t2", "flair"),
)
"""Each has random numbers of its own: a finer grid, for example, takes more noise and leaves the anatomy as it is.

New ones go to the end: a purpose's place is part of its seed."""
GOLDEN = 0.6180339887498949


def stream(seed: int, subject: int, purpose: str) -> np.random.Generator:
    """The random numbers of a cohort's subject for one of ``PURPOSES``; the same on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, subject, PURPOSES.index(purpose)])))


def has_lesions(seed: int, subject: int, share: float) -> bool:
    """Whether a subject has lesions.

    Steps of the golden ratio from a random start spread such subjects evenly: any run of subjects has the share, within
    one or two, and so has every second one of them.
    """
    start = stream(seed, 0, "lesions").uniform()
    return bool((start + GOLDEN * subject) % 1.0 < share)


class Shape:
    """A solid: two corners (mm) that hold it, without an end by default, and its distance function."""

    low: Point = (-TALL, -TALL, -TALL)
    high: Point = (TALL, TALL, TALL)

    def __init__(self, low: Field | Point, high: Field | Point, distance: Callable[[Space], Field]) -> None:
        self.low, self.high, self.formula = point(low), point(high), distance

    def distance(self, at: Space) -> Field:
        """Distance to the surface, mm, negative inside."""
        return np.asarray(self.formula(at))

    def grown(self, by_mm: float) -> "Shape":
        """The shape with its surface moved outwards, or inwards where ``by_mm`` is negative."""
        return self._spread(by_mm, lambda at: self.distance(at) - by_mm)

    def rough(self, waves: Waves) -> "Shape":
        """The shape with a surface that swells and dips by ``waves`` (mm)."""
        return self._spread(waves.peak, lambda at: self.distance(at) - waves(at))

    def joined(self, other: "Shape", blend_mm: float = 0.0) -> "Shape":
        """Both shapes; the crease between them is filled over ``blend_mm``."""
        low, high = np.minimum(self.low, other.low) - blend_mm, np.maximum(self.high, other.high) + blend_mm
        return Shape(low, high, lambda at: _smooth_minimum(self.distance(at), other.distance(at), blend_mm))

    def within(self, other: "Shape", blend_mm: float = 0.0) -> "Shape":
        """What both shapes hold; the edge is rounded over ``blend_mm``."""
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        return Shape(low, high, lambda at: -_smooth_minimum(-self.distance(at), -other.distance(at), blend_mm))

    def without(self, other: "Shape", blend_mm: float = 0.0) -> "Shape":
        """What the other shape leaves of this one; the edge is rounded over ``blend_mm``."""
        low, high = self.low, self.high
        return Shape(low, high, lambda at: -_smooth_minimum(-self.distance(at), other.distance(at), blend_mm))

    def cached(self) -> "Shape":
        """The shape, measured once over a grid however many others are made of it."""
        measured: WeakKeyDictionary[Space, Field] = WeakKeyDictionary()

        def distance(at: Space) -> Field:
            if at.part_of is None:
                return self.distance(at)
            whole, box = at.part_of
            if whole not in measured:
                measured[whole] = self.distance(whole)
            return measured[whole][box]

        return Shape(self.low, self.high, distance)

    def _spread(self, by_mm: float, distance: Callable[[Space], Field]) -> "Shape":
        return Shape(np.subtract(self.low, by_mm), np.add(self.high, by_mm), distance)


def coverage(distance: Field, spacing_mm: Point) -> Field:
    """The share of each voxel that a shape fills, 0 to 1.

    A plane through a voxel leaves of it what a box filter passes, as wide as the voxel is along the plane's normal. The
    in-plane sizes are taken as one; the normal's part along z is read from the distances, (X, Y, Z) in mm.
    """
    in_plane, slice_mm = (spacing_mm[0] * spacing_mm[1]) ** 0.5, spacing_mm[2]
    if distance.shape[2] == 1:
        return np.asarray(np.clip(0.5 - distance / in_plane, 0.0, 1.0))
    upright = np.minimum(np.abs(np.gradient(distance, axis=2)) / slice_mm, 1.0)
    width = np.sqrt(in_plane**2 + (slice_mm**2 - in_plane**2) * upright**2)
    return np.asarray(np.clip(0.5 - distance / width, 0.0, 1.0))


class Ellipsoid(Shape):
    """An ellipsoid; an infinite radius makes it a cylinder, and ``square`` towards 1 brings it closer to a box.

    ``turn_deg`` turns it about z, from right to front; ``tilt_deg`` then tilts it about y, from right to head.
    """

    def __init__(
        self, centre: Point, radii: Point, *, turn_deg: float = 0.0, tilt_deg: float = 0.0, square: float = 0.0
    ) -> None:
        self.centre, self.radii, self.square = centre, radii, square
        self.turn, self.tilt = np.deg2rad(turn_deg), np.deg2rad(tilt_deg)
        widest = max(radii) if tilt_deg else max(radii[:2])
        reach = (widest, widest, widest if tilt_deg else radii[2]) if turn_deg or tilt_deg else radii
        self.low, self.high = point(np.subtract(centre, reach)), point(np.add(centre, reach))

    def distance(self, at: Space) -> Field:
        """The excess of the scaled radius, over the slope at which it grows."""
        x, y, z = at.x - self.centre[0], at.y - self.centre[1], at.z - self.centre[2]
        if self.turn:
            cos, sin = np.cos(self.turn), np.sin(self.turn)
            x, y = x * cos + y * sin, y * cos - x * sin
        if self.tilt:
            cos, sin = np.cos(self.tilt), np.sin(self.tilt)
            x, z = x * cos + z * sin, z * cos - x * sin
        a, b, c = self.radii
        xx, yy, zz = (x / a) ** 2, (y / b) ** 2, (z / c) ** 2
        radius = np.sqrt(xx + yy + zz) + 1e-9
        slope = np.sqrt(xx / a**2 + yy / b**2 + zz / c**2) + 1e-9 / min(self.radii)
        level = radius
        if self.square:
            level = (1 - self.square) * radius + self.square * np.sqrt(np.sqrt(xx**2 + yy**2 + zz**2))
        return np.asarray((level - 1.0) * radius / slope)


def dome(centre: Point, radii: Point) -> Shape:
    """The upper half of an ellipsoid, on a cylinder without an end."""
    whole = Ellipsoid(centre, radii, square=0.15)

    def distance(at: Space) -> Field:  # points below the centre are as far as those at its height
        return whole.distance(Space(at.x, at.y, np.maximum(at.z, centre[2]), at.spacing_mm))

    return Shape((*whole.low[:2], -TALL), whole.high, distance)


class Tube(Shape):
    """A bent tube whose axis passes by ``points`` (mm): corners are cut twice, the ends kept.

    ``radii_mm`` holds the radius at each point, or one for all.
    """

    def __init__(self, points: Sequence[Point], radii_mm: Sequence[float] | float) -> None:
        radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), (len(points),))
        path = _corners_cut(_corners_cut(np.column_stack([np.asarray(points, dtype=np.float64), radii])))
        self.stretches = list(zip(path[:-1].tolist(), path[1:].tolist(), strict=True))
        self.radius_mm = float(radii.mean())
        self.low = point((path[:, :3] - path[:, 3:]).min(axis=0))
        self.high = point((path[:, :3] + path[:, 3:]).max(axis=0))

    def front(self, level: float) -> Shape:
        """What lies in front of a plane that follows the axis, ``level`` mean radii before it."""
        return Shape(self.low, self.high, lambda at: level * self.radius_mm - self.nearest(at)[1])

    def distance(self, at: Space) -> Field:
        """The least distance to a stretch of the tube."""
        return self.nearest(at)[0]

    def nearest(self, at: Space) -> tuple[Field, Field]:
        """The distance to the surface, and how far each point lies in front of the tube's axis (both mm)."""
        best, rise = np.full_like(at.x, np.inf), np.zeros_like(at.x)
        for (ax, ay, az, ar), (bx, by, bz, br) in self.stretches:
            dx, dy, dz = bx - ax, by - ay, bz - az
            x, y, z = at.x - ax, at.y - ay, at.z - az
            along = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz + 1e-9), 0.0, 1.0)
            x, y, z = x - along * dx, y - along * dy, z - along * dz
            gap = np.sqrt(x * x + y * y + z * z) - (ar + along * (br - ar))
            closer = gap < best
            best, rise = np.where(closer, gap, best), np.where(closer, y, rise)
        return best, rise


def slab(bottom_z: float, top_z: float) -> Shape:
    """What lies between two horizontal planes, mm."""
    middle, half = (bottom_z + top_z) / 2, (top_z - bottom_z) / 2
    return Shape((-TALL, -TALL, bottom_z), (TALL, TALL, top_z), lambda at: np.abs(at.z - middle) - half)


def half_space(through: Point, outwards: Point) -> Shape:
    """Everything behind a plane: ``through`` lies on it (mm), and ``outwards`` points away from the solid."""
    length = sum(part * part for part in outwards) ** 0.5
    (px, py, pz), (nx, ny, nz) = through, (part / length for part in outwards)
    return Shape(Shape.low, Shape.high, lambda at: (at.x - px) * nx + (at.y - py) * ny + (at.z - pz) * nz)


def _smooth_minimum(one: Field, other: Field, blend_mm: float) -> Field:
    """The minimum where the two differ by more than ``blend_mm``, and up to a quarter of it less where they cross."""
    least = np.minimum(one, other)
    if not blend_mm:
        return least
    overlap = np.maximum(blend_mm - np.abs(one - other), 0.0)
    return np.asarray(least - overlap * overlap / (4.0 * blend_mm))


def _corners_cut(path: Field) -> Field:
    """One round of Chaikin's corner cutting that keeps both ends; (N, 4) to (2N - 2, 4)."""
    cuts = np.stack([0.75 * path[:-1] + 0.25 * path[1:], 0.25 * path[:-1] + 0.75 * path[1:]], axis=1)
    return np.concatenate([path[:1], cuts.reshape(-1, 4)[1:-1], path[-1:]])


@dataclass(frozen=True)
class Layer:
    """A tissue laid over whatever was there before."""

    tissue: Label
    shape: Shape
    offset_hu: float = 0.0  # how much denser this piece is than its tissue is in this subject
    filling: Label | None = None
    """What MR finds in it, where that is not the tissue of its label: the marrow of a rib."""


@dataclass(frozen=True)
class Anatomy:
    """One subject's layers, the lowest first, and how the subject's build bends the average coordinates."""

    layers: tuple[Layer, ...]
    build: Point  # how much larger than average the subject is, along x, y and z
    bend: tuple[Waves, ...]  # a smooth displacement (mm) along each axis, which makes no two subjects alike anywhere

    def coordinates(self, scanner: Space) -> Space:
        """The average subject's coordinates of the scanner's points."""
        fields = zip((scanner.x, scanner.y, scanner.z), self.build, self.bend, strict=True)
        x, y, z = (field / scale + bend(scanner) for field, scale, bend in fields)
        return Space(x, y, z, scanner.spacing_mm)


class Scanner(Protocol):
    """One examination of a subject in the making: attenuation, or magnetisation."""

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:
        """Lay one tissue over the voxels of a box, their points and the share of each that it fills."""


def lay(layers: Iterable[Layer], at: Space, *scanners: Scanner) -> NDArray[np.uint8]:
    """Lay layers over each other, the lowest first, before all scanners, which see the same share of each voxel.

    ``at`` holds the grid's points in the layers' coordinates. The result is the label of the tissue that last filled
    half of a voxel or more, (X, Y, Z); 0 where none did.
    """
    labels = np.zeros(at.x.shape, dtype=np.uint8)
    for layer in layers:
        box = at.box(layer.shape.low, layer.shape.high)
        near = at[box]
        if not near.x.size:
            continue
        share = coverage(layer.shape.distance(near), near.spacing_mm)
        for scanner in scanners:
            scanner.lay(layer, box, near, share)
        labels[box][share >= 0.5] = layer.tissue
    return labels
