"""Points of a patient, smooth random fields over them, and the random numbers of each subject."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
"""A number for each point, (X, Y, Z)."""
Point = tuple[float, float, float]
GridSize = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Streams = Callable[[str], np.random.Generator]
"""The random numbers of one subject by purpose, see :func:`stream`."""

MARGIN_MM = 8.0
"""How far a box reaches beyond what it must hold: the thickest slice's partial volume, and a bend of the space."""


@dataclass(frozen=True, eq=False)
class Space:
    """Points of the patient, (X, Y, Z) each, in mm: x grows to the right, y to the front, z to the head."""

    x: Field
    y: Field
    z: Field
    spacing_mm: Point  # the size of the voxels around the points
    part_of: "tuple[Space, Box] | None" = None  # the space that this is a box of, and which

    @classmethod
    def regular(cls, shape: GridSize, spacing_mm: Point) -> Self:
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
            angle = at.x * kx
            angle += at.y * ky
            angle += at.z * kz
            angle += phase
            total += np.cos(angle, out=angle)
        total *= self.amplitude
        return total


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
