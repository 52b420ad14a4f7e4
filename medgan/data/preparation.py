"""From a study on disk to voxels that a network sees: orientation, spacing, body; the part that is cached.

And where the two images of a pair show the same body: the voxels whose error says something about a translation. Pairs
are aligned rigidly and patients move, so that at the rim one image shows skin where the other shows air. Such voxels
teach a network to blur the skin, and in a test they decide over a mean error that all else hardly moves.
"""

import functools
import hashlib
import math
from dataclasses import dataclass, replace
from itertools import product
from mmap import mmap
from pathlib import Path
from typing import Annotated

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from medgan.config import Config
from medgan.data.domains import Domain, DomainPair
from medgan.data.grid import UNPLACED, slabs, upright
from medgan.data.masks import body_box, body_mask
from medgan.data.volumes import Volume
from medgan.errors import DataError, GeometryError

FWHM_TO_DEVIATION = 1 / 2.355
"""A Gaussian's standard deviation in units of its full width at half maximum."""
TRUNCATE = 4.0
"""How many standard deviations of the Gaussian are computed."""
SAME_SPACING_MM = 1e-3
"""An axis whose voxels are so nearly as wanted keeps its own."""
ROUNDING = 1e-12
"""Share of the largest intensity that interpolation's rounding may add to a zero: MR windows count what is not 0."""
LARGEST_GROWTH = 64
"""How many times a study's own voxels the resampled grid may have: 6 mm along each axis become 1.5 mm."""
ALWAYS_VOXELS = 1 << 24
"""A grid of so many voxels (64 MB) is never refused, however small the study."""
MOST_MAPS = 64
"""Prepared studies that a process has open at the same time."""
MARGIN_VOXELS = 3
"""How far in plane the region where a pair agrees stays away from the nearer of the two skins."""
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Along the axes only: every shift has the wanted length to the voxel, and nothing is interpolated."""

Spacing = Annotated[float, Field(ge=0.01, le=100)]
"""Of a voxel in mm, from a specimen's micro-CT to a localiser's slices."""


class GridConfig(Config):
    """The grid on which networks see a study; outputs return to the study's own grid."""

    spacing_mm: tuple[Spacing | None, Spacing | None, Spacing | None] = (1.5, 1.5, None)
    """Voxel size along right, anterior and superior; null keeps the study's own along that axis."""


@dataclass(frozen=True)
class Scan:
    """How a study was scanned, along right, anterior and superior."""

    spacing_mm: tuple[float, float, float]
    field_mm: tuple[float, float, float]
    """Field of view: voxels times their size."""
    slices: int
    modality: str | None
    """See :class:`medgan.data.grid.Volume`."""
    placed: bool = True
    """Whether its header says how it lies in the patient; if not, sides are those of the order of its voxels."""


def scan_of(volume: Volume) -> Scan:
    """How a volume was scanned; an oblique axis counts as the one that it is nearest to."""
    grid = upright(volume).grid
    x, y, z = (spacing * count for spacing, count in zip(grid.spacing_mm, grid.size, strict=True))
    return Scan(grid.spacing_mm, (x, y, z), grid.size[2], volume.modality, UNPLACED not in volume.notes)


@dataclass(frozen=True)
class Prepared:
    """A study on the networks' grid."""

    voxels: NDArray[np.float32]
    """(X, Y, Z), RAS+, in the domain's unit, not yet windowed; maybe a view of the study's own, never to be changed.

    Of a memory map of an .npy file its path is kept, and goes to other processes; it is mapped when it is looked at."""
    affine: NDArray[np.float64]
    """(4, 4), voxel index to RAS+ millimetres."""
    body: tuple[tuple[int, int], ...]
    """First and one-past-last index of the body along each axis."""
    bounds: tuple[float, float]
    """The intensities that become -1 and +1."""
    scan: Scan | None = None
    """How the study was scanned; None for what is no scan, such as a made-up case."""

    def normalised(self) -> NDArray[np.float32]:
        """The voxels in [-1, 1]; beyond the window they are clipped."""
        return normalise(self.voxels, self.bounds)


class _Voxels:
    """The field of that name: a map holds its file open, and a cohort has more files than may be open."""

    def __get__(self, study: Prepared, owner: type) -> NDArray[np.float32]:
        kept = vars(study)["voxels"]
        return _mapped(kept) if isinstance(kept, Path) else kept

    def __set__(self, study: Prepared, voxels: NDArray[np.float32]) -> None:
        kept: NDArray[np.float32] | Path = voxels
        if isinstance(voxels, np.memmap) and isinstance(voxels.base, mmap):  # the whole, and no part of one
            file = Path(str(voxels.filename))
            kept = file if file.suffix == ".npy" else voxels
            _mapped.cache_clear()  # a file of this name may have been mapped before it was made anew
        vars(study)["voxels"] = kept


Prepared.voxels = _Voxels()  # type: ignore[assignment]


@functools.lru_cache(maxsize=MOST_MAPS)
def _mapped(path: Path) -> NDArray[np.float32]:
    try:
        voxels: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: a prepared study is gone or damaged ({error}); start again, and it is made anew."
        ) from None
    return voxels


def prepare(volume: Volume, domain: Domain, grid: GridConfig) -> Prepared:
    """``volume`` in RAS+ orientation at the wanted spacing.

    Where voxels grow, a Gaussian removes first what the coarser grid cannot hold (aliased noise would otherwise be
    learnt as texture). Interpolation is linear: it invents no intensities. In CT nothing is thinner than air: scanners
    fill what they did not see with -2048 HU or less, which would bleed into the skin. Beside the volume and the result
    it needs the memory of some slices; where neither spacing nor intensities change, the result is a view.
    """
    lowest = domain.air if domain.modality == "CT" else None
    standing = upright(volume)
    voxels, affine = standing.voxels, standing.grid.affine
    before = voxel_sizes(affine)
    after = np.array([wanted or own for wanted, own in zip(grid.spacing_mm, before, strict=True)])
    if np.allclose(after, before, rtol=1e-4):
        raised = lowest is not None and voxels.min() < lowest
        result = np.maximum(voxels, np.float32(lowest)) if raised else voxels
    else:
        after = np.where(np.abs(after - before) <= SAME_SPACING_MM, before, after)
        wanted_affine, size = _respaced(affine, voxels.shape, after)
        _check_growth(volume, size)
        result = _resampled(voxels, np.asarray(np.linalg.solve(affine, wanted_affine)), size, lowest)
        affine = wanted_affine
    bounds = domain.window.bounds(result)
    return Prepared(result, affine, body=body_box(result, domain), bounds=bounds, scan=scan_of(volume))


def normalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities of any shape to [-1, 1], linear between the bounds and clipped beyond them; a copy."""
    lower, upper = bounds
    result = np.asarray(voxels - lower, dtype=np.float32)
    result /= upper - lower
    np.clip(result, 0, 1, out=result)
    result *= 2
    result -= 1
    return result


def denormalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """[-1, 1] back to intensities; the inverse of :func:`normalise` inside the window; a copy."""
    lower, upper = bounds
    result = np.asarray(voxels + 1, dtype=np.float32)
    result /= 2
    result *= upper - lower
    result += lower
    return result


def _respaced(
    affine: NDArray[np.float64], shape: tuple[int, ...], spacing_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The affine (4, 4) and the size of a grid of another spacing on the same first voxel, which ends within a voxel.

    They are to the bit those of MONAI's ``Spacing``, whose import takes longer than a study.
    """
    axes, result = affine[:3, :3], np.eye(4)
    stretch = np.linalg.cholesky(axes.T @ axes).T  # what rounding has sheared is right-angled again
    result[:3, :3] = axes @ np.linalg.inv(stretch) @ np.diag(spacing_mm)
    corners = np.array(list(product(*((0.0, length - 1.0) for length in shape), (1.0,)))).T
    reached = (np.linalg.solve(result, affine) @ corners)[:3]
    size = np.round(np.ptp(reached, axis=1) + 1)
    first = np.isclose(reached, reached.min(axis=1, keepdims=True), rtol=0).all(axis=0)
    if first.any():
        result[:3, 3] = (affine @ corners)[:3, first.argmax()]
    else:  # sheared by rounding, no corner is the first along all axes: the middles meet
        result[:3, 3] = affine[:3, :3] @ (np.array(shape) / 2) + affine[:3, 3] - result[:3, :3] @ (size / 2)
    x, y, z = size.astype(int).tolist()
    return result, (x, y, z)


def _check_growth(volume: Volume, size: tuple[int, int, int]) -> None:
    """Refuse a grid that would need far more memory than the study itself, before any is taken for it."""
    voxels, own = math.prod(size), math.prod(volume.grid.size)
    if voxels > max(LARGEST_GROWTH * own, ALWAYS_VOXELS):
        field = " × ".join(f"{length:g}" for length in np.array(volume.grid.spacing_mm) * volume.grid.size)
        raise GeometryError(
            f"{volume.path}: on the network's grid its field of view of {field} mm would be {voxels:,} voxels, "
            f"{voxels / own:.0f} times its own {own:,}; correct its spacing, or give a finer study."
        )


def _resampled(
    voxels: NDArray[np.float32], index: NDArray[np.float64], size: tuple[int, int, int], lowest: float | None
) -> NDArray[np.float32]:
    """Voxels (X, Y, Z) blurred and interpolated, a slab of slices at a time; what is below ``lowest`` counts as that.

    ``index`` (4, 4) takes the result's voxels to the given ones; but for rounding it scales and shifts.
    """
    result = np.empty(size, np.float32)
    matrix, factor = index[:3, :3], index.diagonal()[:3]
    if np.allclose(matrix, np.diag(factor), atol=1e-12):
        matrix = factor  # along each axis by itself: faster
    # The deviation in input voxels that widens a voxel's profile from 1 to ``factor`` times its width.
    sigma = [FWHM_TO_DEVIATION * float(np.sqrt(max(length**2 - 1, 0))) for length in factor]
    beyond = int(TRUNCATE * sigma[2] + 0.5)  # slices that the Gaussian sees on either side
    depth = voxels.shape[2]
    for place in slabs((*voxels.shape[:2], size[2]), factor[2] / (1 + beyond)):  # not much thinner than what it needs
        first, last = place.start, place.stop
        ends = [index[2] @ (*corner, 1) for corner in product((0, size[0] - 1), (0, size[1] - 1), (first, last - 1))]
        start = min(max(math.floor(min(ends)), 0), depth - 1) - beyond
        stop = min(max(math.ceil(max(ends)), 0), depth - 1) + 1 + beyond
        start, stop = max(start, 0), min(stop, depth)
        slab = voxels[:, :, start:stop]
        if lowest is not None:
            slab = np.maximum(slab, np.float32(lowest))
        slab = ndimage.gaussian_filter(slab, sigma, mode="nearest", truncate=TRUNCATE)
        offset = (index @ (0, 0, first, 1))[:3] - (0, 0, start)
        part = result[..., place]
        ndimage.affine_transform(slab, matrix, offset, part.shape, part, order=1, mode="nearest")
        part[np.abs(part) <= ROUNDING * max(-slab.min(), slab.max())] = 0
    return result


def agreement(source: Prepared, target: Prepared, pair: DomainPair, margin_voxels: int = MARGIN_VOXELS) -> Prepared:
    """The region inside both bodies, less a margin in plane, as a study, so that it is cut and turned as the pair is.

    Both are of one subject on one grid. Voxels (X, Y, Z) are 1 inside and 0 outside, as a patch +1 and -1.
    """
    common = body_mask(source.voxels, pair.source, to_the_edge=True) & body_mask(target.voxels, pair.target)
    inside = eroded_in_plane(common, margin_voxels)
    return Prepared(inside.astype(np.float32), target.affine, target.body, bounds=(0.0, 1.0))


def eroded_in_plane(mask: NDArray[np.bool_], voxels: int) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) without its outermost voxels, slice by slice; the edge of the volume is no rim."""
    if voxels == 0:
        return mask
    square = np.ones((3, 3, 1), dtype=bool)
    return np.asarray(ndimage.binary_erosion(mask, square, iterations=voxels, border_value=1))


def on_scale_of(source: Prepared, target: Prepared, inside: Prepared) -> Prepared:
    """``target`` divided by its gain over ``source``, and windowed like it.

    The gain is the median ratio of the two ``inside`` the body, see :func:`agreement`. Contrast agent changes a
    minority of voxels, which does not move a median; what remains of the difference is enhancement.
    """
    usable = (inside.voxels > 0) & (source.voxels > 0) & (target.voxels > 0)
    if not usable.any():
        return replace(target, bounds=source.bounds)
    scale = np.float32(np.median(target.voxels[usable] / source.voxels[usable]))
    return replace(target, voxels=target.voxels / scale, bounds=source.bounds)


def misaligned(study: Prepared, voxels: int, *, subject: str, seed: int) -> Prepared:
    """A study moved so many voxels in plane in its subject's direction, its edges repeated; affine and body stay."""
    if voxels == 0:
        return study
    sides = zip(study.voxels.shape, direction(subject, seed), strict=False)
    along = [np.clip(np.arange(size) - voxels * step, 0, size - 1) for size, step in sides]
    return replace(study, voxels=np.ascontiguousarray(study.voxels[np.ix_(*along)]))


def direction(subject: str, seed: int) -> tuple[int, int]:
    """One of the four directions, as steps to the right and to the front; a function of the seed and the name alone."""
    digest = hashlib.sha256(f"{seed} {subject}".encode()).digest()
    return DIRECTIONS[digest[0] % len(DIRECTIONS)]
