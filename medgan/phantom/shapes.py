"""Solid shapes given by a formula: how far each point lies from the surface, negative inside.

A shape's distance is in mm, and near the surface close to exact. That gives the share of a voxel that the shape fills
at any resolution, without sampling the voxel more than once.

Source: I. Quilez, "Distance functions" and "Smooth minimum", iquilezles.org/articles.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from medgan.phantom.space import Field, Point, Space, Waves, point

TALL = float("inf")  # the radius of what has no end


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
        # In place from here on: most of a subject's time is spent on these lines and those of a tube.
        for along, length in zip((x, y, z), self.radii, strict=True):
            along /= length
            along *= along
        radius = x + y
        radius += z
        np.sqrt(radius, out=radius)
        radius += 1e-9
        level = radius.copy()
        if self.square:
            level *= 1 - self.square
            level += self.square * np.sqrt(np.sqrt(x**2 + y**2 + z**2))
        level -= 1.0
        level *= radius
        for along, length in zip((x, y, z), self.radii, strict=True):
            along /= length**2
        slope = np.add(x, y, out=x)
        slope += z
        np.sqrt(slope, out=slope)
        slope += 1e-9 / min(self.radii)
        level /= slope
        return level


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
            along = x * dx
            along += y * dy
            along += z * dz
            along /= dx * dx + dy * dy + dz * dz + 1e-9
            np.clip(along, 0.0, 1.0, out=along)
            x -= along * dx
            y -= along * dy
            z -= along * dz
            gap = x * x
            gap += y * y
            gap += z * z
            np.sqrt(gap, out=gap)
            gap -= ar + along * (br - ar)
            closer = gap < best
            np.copyto(best, gap, where=closer)
            np.copyto(rise, y, where=closer)
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
