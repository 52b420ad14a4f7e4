"""From a study on disk to voxels that a network sees: orientation, spacing, body; the part that is cached."""

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, GaussianSmooth, Orientation, Spacing
from numpy.typing import NDArray
from pydantic import PositiveFloat

from medgan.config import Config
from medgan.data.body import body_box
from medgan.data.domains import Domain
from medgan.data.volumes import Volume

FWHM_TO_DEVIATION = 1 / 2.355
"""A Gaussian's standard deviation in units of its full width at half maximum."""


class GridConfig(Config):
    """The grid on which networks see a study; outputs return to the study's own grid."""

    spacing_mm: tuple[PositiveFloat | None, PositiveFloat | None, PositiveFloat | None] = (1.5, 1.5, None)
    """Voxel size along right, anterior and superior; null keeps the study's own along that axis."""


@dataclass(frozen=True)
class Prepared:
    """A study on the networks' grid."""

    voxels: NDArray[np.float32]
    """(X, Y, Z), RAS+, in the domain's unit, not yet windowed."""
    affine: NDArray[np.float64]
    """(4, 4), voxel index to RAS+ millimetres."""
    body: tuple[tuple[int, int], ...]
    """First and one-past-last index of the body along each axis."""
    bounds: tuple[float, float]
    """The intensities that become -1 and +1."""

    def normalised(self) -> NDArray[np.float32]:
        """The voxels in [-1, 1]; beyond the window they are clipped."""
        return normalise(self.voxels, self.bounds)


def prepare(volume: Volume, domain: Domain, grid: GridConfig) -> Prepared:
    """``volume`` in RAS+ orientation at the wanted spacing.

    Where voxels grow, a Gaussian removes first what the coarser grid cannot hold (aliased noise would otherwise be learnt
    as texture). Interpolation is linear: it invents no intensities.
    """
    air = np.float32(domain.air)
    image = MetaTensor(torch.from_numpy(volume.voxels - air)[None], affine=torch.from_numpy(volume.grid.affine))
    oriented = Orientation(axcodes="RAS", labels=None)(image)
    before = np.linalg.norm(oriented.affine.numpy()[:3, :3], axis=0)
    after = [wanted or own for wanted, own in zip(grid.spacing_mm, before, strict=True)]
    resample = Compose(
        [
            GaussianSmooth(sigma=[_smoothing(new / old) for new, old in zip(after, before, strict=True)]),
            Spacing(pixdim=after, mode="bilinear", padding_mode="border", align_corners=True),
        ]
    )
    moved = oriented if np.allclose(after, before, rtol=1e-4) else resample(oriented)
    voxels = np.ascontiguousarray(moved.numpy()[0], dtype=np.float32) + air
    return Prepared(
        voxels=voxels,
        affine=np.asarray(moved.affine.numpy(), dtype=np.float64),
        body=body_box(voxels, domain),
        bounds=domain.window.bounds(voxels),
    )


def normalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities of any shape to [-1, 1], linear between the bounds and clipped beyond them."""
    lower, upper = bounds
    return (np.clip((voxels - lower) / (upper - lower), 0, 1) * 2 - 1).astype(np.float32)


def denormalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """[-1, 1] back to intensities; the inverse of :func:`normalise` inside the window."""
    lower, upper = bounds
    return ((voxels + 1) / 2 * (upper - lower) + lower).astype(np.float32)


def _smoothing(factor: float) -> float:
    """Deviation in input voxels that widens a voxel's profile from 1 to ``factor`` times its width."""
    return FWHM_TO_DEVIATION * float(np.sqrt(max(factor**2 - 1, 0)))
