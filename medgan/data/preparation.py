"""From a study on disk to voxels that a network sees: orientation, spacing, body; the part that is cached."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from medgan.config import Config
from medgan.data.body import body_box
from medgan.data.domains import Domain
from medgan.data.volumes import Volume

FWHM_TO_DEVIATION = 1 / 2.355
"""A Gaussian's standard deviation in units of its full width at half maximum."""


Size = Annotated[float, Field(ge=0.01, le=100)]
"""Of a voxel in mm, from a specimen's micro-CT to a localiser's slices."""


class GridConfig(Config):
    """The grid on which networks see a study; outputs return to the study's own grid."""

    spacing_mm: tuple[Size | None, Size | None, Size | None] = (1.5, 1.5, None)
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

    Where voxels grow, a Gaussian removes first what the coarser grid cannot hold (aliased noise would otherwise be
    learnt as texture). Interpolation is linear: it invents no intensities. In CT nothing is thinner than air: scanners
    fill what they did not see with -2048 HU or less, which would bleed into the skin.
    """
    real = np.maximum(volume.voxels, np.float32(domain.air)) if domain.modality == "CT" else volume.voxels
    voxels, affine = _image(Orientation(axcodes="RAS", labels=None)(_tensor(real, volume.grid.affine)))
    before = voxel_sizes(affine)
    after = [wanted or own for wanted, own in zip(grid.spacing_mm, before, strict=True)]
    if not np.allclose(after, before, rtol=1e-4):
        smooth = ndimage.gaussian_filter(voxels, [_smoothing(factor) for factor in after / before], mode="nearest")
        voxels, affine = _image(Spacing(after, padding_mode="border")(_tensor(smooth, affine)))
    return Prepared(voxels, affine, body=body_box(voxels, domain), bounds=domain.window.bounds(voxels))


def normalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities of any shape to [-1, 1], linear between the bounds and clipped beyond them."""
    lower, upper = bounds
    return np.asarray(np.clip((voxels - lower) / (upper - lower), 0, 1) * 2 - 1, dtype=np.float32)


def denormalise(voxels: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    """[-1, 1] back to intensities; the inverse of :func:`normalise` inside the window."""
    lower, upper = bounds
    return np.asarray((voxels + 1) / 2 * (upper - lower) + lower, dtype=np.float32)


def _tensor(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> MetaTensor:
    """(X, Y, Z) as MONAI's (1, X, Y, Z) with its affine."""
    return MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(affine))


def _image(tensor: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """MONAI's (1, X, Y, Z) as voxels (X, Y, Z) and affine (4, 4)."""
    assert isinstance(tensor, MetaTensor)
    voxels = np.ascontiguousarray(tensor.numpy()[0], dtype=np.float32)
    return voxels, np.asarray(tensor.affine.numpy(), dtype=np.float64)


def _smoothing(factor: float) -> float:
    """Deviation in input voxels that widens a voxel's profile from 1 to ``factor`` times its width."""
    return FWHM_TO_DEVIATION * float(np.sqrt(max(factor**2 - 1, 0)))
