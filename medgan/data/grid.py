# mypy: untyped-calls-exclude="nibabel"
"""Where voxels lie: the grid of a volume, and what must hold for an output to lie on it exactly."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from medgan.errors import DataError, GeometryError

GEOMETRY_FIELDS = (
    *("dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)
"""The fields of a NIfTI header that say where its voxels lie; an output copies them to the bit."""

LARGEST_COSINE = 1e-3
"""How far from a right angle two axes may be, as the cosine between them (0.06°): rounding passes, a tilt does not."""
SAME_VOXELS = 0.1
"""How far two grids may lie apart at any corner and still be one, in voxels: what a DICOM slice may be off its even
place, too. Headers are rounded, positions to .05 mm and spacings to 4 decimals at worst, and over 512 voxels of .5 mm
that comes to a tenth of a voxel. An edge that lies so far off moves a voxel's value by a tenth of the step across it
at most, and a label map by nothing: nearest neighbours change at half a voxel."""

SMALLEST_SPACING_MM = 0.01
"""Ten times finer than any clinical scanner's voxels; what is finer was written in another unit."""
LARGEST_PIXEL_MM = 20.0
"""Of the second longest side of a voxel: only the distance of slices may be longer."""
LARGEST_FIELD_MM = 3000.0
"""A whole body is two metres long."""
SLAB_VOXELS = 1 << 21
"""Voxels that are worked on at a time."""
UNPLACED = "its header does not say how it lies in the patient"
"""A note: positions and directions were taken from the order of the voxels."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM and ITK count towards left and posterior, NIfTI towards right and anterior."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie. An output on this grid has the input's shape, affine, codes and units to the bit."""

    shape: tuple[int, ...]
    """As stored in the file: (X, Y), (X, Y, 1) or (X, Y, Z), or with further axes of size 1."""
    affine: NDArray[np.float64]
    """(4, 4), voxel index → RAS+ mm."""
    fields: Mapping[str, NDArray[np.generic]]
    """``GEOMETRY_FIELDS`` as stored in a NIfTI file; made up (codes 1, mm) for DICOM, PNG and TIFF."""

    @property
    def size(self) -> tuple[int, int, int]:
        """(X, Y, Z), the shape of the voxels; Z = 1 for a slice."""
        x, y, z = (*self.shape, 1)[:3]
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighbouring voxels along each axis."""
        x, y, z = voxel_sizes(self.affine).tolist()
        return x, y, z


@dataclass(frozen=True, eq=False)
class Volume:
    """A study's intensities and where they lie."""

    voxels: NDArray[np.float32]
    """(X, Y, Z) in the file's order; Z = 1 for a slice. HU in CT, arbitrary in MR; always finite."""
    grid: Grid
    path: Path
    """The file, or the folder of a DICOM series, that they were read from."""
    modality: str | None = None
    """What the file itself says that it is, in DICOM's words: CT, MR, PT; None where it does not say. Of NIfTI only a
    label map can be told, SEG."""
    notes: tuple[str, ...] = ()
    """What is odd about the file although it can be used, each as a sentence part; whoever reports warnings adds it."""


def slabs(size: tuple[int, ...], depth: float = 1.0) -> Iterator[slice]:
    """The last axis in parts of at most ``SLAB_VOXELS``: what is done by slabs needs little memory beside a volume.

    Each slice counts as the ``depth`` slices that it is made from.
    """
    step = max(1, int(SLAB_VOXELS / max(math.prod(size[:-1]) * depth, 1)))
    yield from (slice(first, min(first + step, size[-1])) for first in range(0, size[-1], step))


def geometry_fields(header: Nifti1Header) -> dict[str, NDArray[np.generic]]:
    """Copies of a raw header's ``GEOMETRY_FIELDS``, in this machine's byte order; a NIfTI-2 header's are wider."""
    fields = header.as_byteswapped(sys.byteorder)
    return {name: fields[name].copy() for name in GEOMETRY_FIELDS}


def made_up_grid(size: tuple[int, int, int], affine: NDArray[np.float64]) -> Grid:
    """A grid for voxels that come from no NIfTI file: qform and sform both "scanner" (1) and equal, unit mm.

    The fields hold the affine (4, 4) in float32, as NIfTI-1 does; near half a turn the quaternion of the qform is only
    good to 0.1°, and readers take the sform.
    """
    header = Nifti1Header() if max(size) < 2**15 else Nifti2Header()  # NIfTI-1 counts in 16 bit
    header.set_data_shape(size)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return Grid(shape=size, affine=affine, fields=geometry_fields(header))


def upright(volume: Volume) -> Volume:
    """The same voxels at the same places, as a view whose axes are those nearest to RAS+, whatever the storage."""
    axes = io_orientation(volume.grid.affine)
    affine = volume.grid.affine @ inv_ornt_aff(axes, volume.grid.size)
    voxels: NDArray[np.float32] = apply_orientation(volume.voxels, axes)
    return replace(volume, voxels=voxels, grid=made_up_grid((*voxels.shape,), affine))


def affine_from_lps(
    origin_mm: NDArray[np.float64], direction: NDArray[np.float64], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The (4, 4) affine to RAS+ mm of ITK's origin (3,), direction cosines (3, 3) and spacing (3,) in LPS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing_mm
    affine[:3, 3] = origin_mm
    return np.asarray(LPS_TO_RAS @ affine)


def grid_in_lps(
    path: Path, size: tuple[int, ...], columns_mm: NDArray[np.float64], origin_mm: NDArray[np.float64]
) -> Grid:
    """A made-up grid of what ITK says of an image or a volume; a slice is 1 mm thick.

    Args:
        path: What messages call it.
        size: (X, Y) or (X, Y, Z).
        columns_mm: (2 or 3, axes), the step along each axis in LPS+ mm.
        origin_mm: (2 or 3,), the centre of the first voxel in LPS+ mm.

    Raises:
        GeometryError: A grid that an output could not lie on exactly.
    """
    columns, origin = columns_mm, origin_mm
    if len(origin) == 2:
        columns, origin = np.vstack([columns, np.zeros(columns.shape[1])]), np.append(origin, 0.0)
    if not (np.isfinite(columns).all() and np.isfinite(origin).all()):
        raise GeometryError(f"{path}: its spacing, directions or origin are not finite; export it again.")
    if columns.shape[1] == 2:
        normal = np.cross(columns[:, 0], columns[:, 1])
        columns = np.column_stack([columns, normal / (np.linalg.norm(normal) or 1.0)])
    affine = affine_from_lps(origin, columns, np.ones(3))
    x, y, z = (*size, 1)[:3]
    check_affine(path, affine, (x, y, z))
    return made_up_grid((x, y, z), affine)


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether the voxels of both lie at the same places, but for the rounding of headers (``SAME_VOXELS``)."""
    return one.size == other.size and drift_voxels(one, other) <= SAME_VOXELS


def drift_voxels(one: Grid, other: Grid) -> float:
    """How far apart two grids of one size lie at the corner where they are farthest apart, in voxels.

    Elements of affines cannot be compared instead: an offset is in mm whatever the voxel, and an error of a direction
    or a spacing grows with the number of voxels.
    """
    corners = np.array([[*np.multiply(index, np.subtract(one.size, 1)), 1.0] for index in np.ndindex(2, 2, 2)]).T
    apart = ((other.affine - one.affine) @ corners)[:3]
    return max(
        float(np.linalg.norm(np.linalg.solve(grid.affine[:3, :3], apart), axis=0).max()) for grid in (one, other)
    )


def apart(one: Grid, other: Grid) -> str:
    """What sets two grids apart that are not the same, in words for an error."""
    if one.size != other.size:
        return f"{one.size} and {other.size} voxels"
    return f"{drift_voxels(one, other):.2g} voxels apart at a corner"


def check_affine(path: Path, affine: NDArray[np.float64], size: tuple[int, int, int]) -> None:
    """Refuse an affine (4, 4) that is not finite, flattens or shears the axes, or makes voxels no scanner's.

    Sheared axes come from CT with a tilted gantry. SimpleITK reads them without complaint and alters them. Voxels of a
    metre or a micrometre come from a header in another unit; resampled, they would fill any memory, or be nothing.
    """
    if not np.isfinite(affine).all():
        raise GeometryError(f"{path}: the affine is not finite; export the study again.")
    with np.errstate(over="ignore"):  # infinite is beyond any field of view
        spacing = voxel_sizes(affine)
    if not (spacing > 0).all():
        raise GeometryError(f"{path}: the voxel spacing {_text(spacing)} mm is not positive; export the study again.")
    field = spacing * size
    if spacing.min() < SMALLEST_SPACING_MM or sorted(spacing)[1] > LARGEST_PIXEL_MM or field.max() > LARGEST_FIELD_MM:
        raise GeometryError(
            f"{path}: voxels of {_text(spacing)} mm and a field of view of {_text(field)} mm are no scan of a patient; "
            "correct the spacing, or the unit of length, in the header, or export the study again."
        )
    axes = affine[:3, :3] / spacing
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > LARGEST_COSINE:
        raise GeometryError(
            f"{path}: the voxel axes are sheared, {np.degrees(np.arcsin(min(cosine, 1.0))):.2f}° off a right angle "
            "(a tilted gantry?); resample the study to an orthogonal grid first, for example with `dcm2niix`."
        )


def check_finite(path: Path, voxels: NDArray[np.float32]) -> None:
    """Refuse voxels (any shape) of which some are NaN or infinite."""
    parts = (voxels[..., slab] for slab in slabs(voxels.shape))
    wrong = sum(part.size - int(np.count_nonzero(np.isfinite(part))) for part in parts)
    if wrong:
        raise DataError(f"{path}: {wrong} of {voxels.size} voxels are NaN or infinite; replace them (CT: by -1024 HU).")


def _text(numbers: NDArray[np.float64]) -> str:
    return " × ".join(f"{number:g}" for number in numbers)
