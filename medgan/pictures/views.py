"""A slice as a radiologist hangs it: named by anatomy, the patient's right on the left, at its physical aspect."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from medgan.data.grid import UNPLACED, Volume

Plane = Literal["sagittal", "coronal", "axial"]
"""By the axis that a slice lies across: right, anterior, superior."""
PLANES: tuple[Plane, ...] = get_args(Plane)
TOWARDS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Where the axes of RAS+ run to and come from."""
OBLIQUE_DEGREES = 1.0
"""From here on a caption says that the axes are not the patient's."""


@dataclass(frozen=True, eq=False)
class View:
    """One slice, seen from the feet (axial), from the front (coronal) or from the left (sagittal)."""

    pixels: NDArray[Any]
    """(rows, columns): axial and coronal columns run from the patient's right to the left, sagittal ones from the front
    to the back; axial rows run from the front to the back, the others from head to feet."""
    plane: Plane
    number: int
    """Of the slice, from 1: counted from the patient's left, back or feet."""
    count: int
    """Of all such slices."""
    spacing_mm: tuple[float, float] | None
    """Between rows and between columns; None where nobody knows, such as of a patch."""
    position_mm: float | None
    """Of the slice's centre along R+, A+ or S+."""
    tilt_degrees: float = 0.0
    """The largest angle between an axis of the voxels and the patient's axis that it is nearest to."""
    placed: bool = True
    """Whether the file says how it lies in the patient; if not, the sides are those of its voxels' order."""

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """The patient's sides at the left, right, top and bottom edge, with a question mark where they are assumed."""
        left, right, top, bottom = (side + "?" * (not self.placed) for side in sides(self.plane))
        return left, right, top, bottom

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width; in voxels where the spacing is not known."""
        (high, wide), (rows, columns) = self.spacing_mm or (1.0, 1.0), self.pixels.shape
        return high * rows, wide * columns

    @property
    def caption(self) -> str:
        """Plane, slice and place, as in ``axial, slice 12 of 48, S 31.5 mm``."""
        parts = [self.plane, f"slice {self.number} of {self.count}"]
        if self.position_mm is not None:
            parts.append(f"{TOWARDS[PLANES.index(self.plane)][self.position_mm < 0]} {abs(self.position_mm):.1f} mm")
        if self.tilt_degrees >= OBLIQUE_DEGREES:
            parts.append(f"oblique by {self.tilt_degrees:.0f}°: the nearest plane")
        return ", ".join([*parts, *([] if self.placed else ["sides assumed"])])

    def minus(self, other: Self) -> Self:
        """The difference of two images in this slice."""
        return replace(self, pixels=self.pixels - other.pixels)

    def cut(self, rows: slice, columns: slice) -> Self:
        """A part of the slice."""
        return replace(self, pixels=self.pixels[rows, columns])


def sides(plane: Plane) -> tuple[str, ...]:
    """The patient's sides at the left, right, top and bottom edge of a slice."""
    across, up = (axis for axis in range(3) if axis != PLANES.index(plane))
    return TOWARDS[across] + TOWARDS[up]


def view(
    voxels: NDArray[Any],
    affine: NDArray[np.float64] | None = None,
    plane: Plane = "axial",
    place: int | None = None,
    *,
    placed: bool = True,
) -> View:
    """A slice of voxels (X, Y, Z), however they are stored.

    Args:
        voxels: Intensities, or a mask on the same grid.
        affine: (4, 4), voxel index to RAS+ mm; None for a patch, whose axes run to RAS+ in voxels of unknown size.
        plane: Which slices; of an oblique volume those that are nearest to it.
        place: Number of the slice from 0, counted from the patient's left, back or feet; None is the middle one.
        placed: Whether the affine says how the patient lay.
    """
    axis = PLANES.index(plane)
    placement = np.eye(4) if affine is None else affine
    standing, placement = standing_up(voxels, placement)
    place = standing.shape[axis] // 2 if place is None else place
    sizes = voxel_sizes(placement)
    middle = (np.array(standing.shape) - 1) / 2
    middle[axis] = place
    axes = np.abs(placement[:3, :3] / sizes).diagonal()
    known = affine is not None
    across, up = (float(size) for number, size in enumerate(sizes) if number != axis)
    return View(
        pixels=standing.take(place, axis=axis)[::-1, ::-1].T, plane=plane, number=place + 1, count=standing.shape[axis],
        spacing_mm=(up, across) if known else None,
        position_mm=float((placement @ [*middle, 1.0])[axis]) if known else None,
        tilt_degrees=float(np.degrees(np.arccos(np.clip(axes.min(), 0, 1)))), placed=placed,
    )  # fmt: skip


def view_of(volume: Volume, plane: Plane = "axial", place: int | None = None) -> View:
    """A slice of a volume; see :func:`view`."""
    return view(volume.voxels, volume.grid.affine, plane, place, placed=UNPLACED not in volume.notes)


def standing_up(voxels: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels (X, Y, Z) as a view whose axes are those nearest to RAS+, and their affine (4, 4)."""
    turn = io_orientation(affine)
    return apply_orientation(voxels, turn), affine @ inv_ornt_aff(turn, voxels.shape)


def fullest(mask: NDArray[Any], plane: Plane = "axial") -> int:
    """The slice with the most voxels of a mask whose axes are nearest to RAS+, for ``place``; the first of equals."""
    axis = PLANES.index(plane)
    return int(np.argmax(np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis))))


def spread(extent: tuple[int, int], number: int) -> list[int]:
    """So many slices of ``extent`` (first, one past the last), evenly apart and away from both ends; each once."""
    first, last = extent
    return sorted({first + (last - first) * (2 * each + 1) // (2 * number) for each in range(number)})
