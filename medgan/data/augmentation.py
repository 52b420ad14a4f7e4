"""Random variation of whole batches of patches, on whatever device they are on: motion in plane, and intensities.

The random numbers come with the batch, so that they are the same everywhere. A patch is the same to the bit on one
device, whatever batch it is in: nothing here is a product of matrices, whose order of summation hangs on the batch (and
whose precision on the GPU's settings), and what else may differ in the last bit by its place in a batch is computed
patch by patch.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

Batch = dict[str, Tensor]
DEGREE = 3
"""Of the polynomials that coil profiles are made of."""


def augmented(batch: Batch, shape: Sequence[int]) -> Batch:
    """Patches (B, C, *shape) of a batch of :func:`medgan.data.patches.item`; what has no motion stays as it is.

    Images are interpolated linearly. Maps of whole numbers take the nearest voxel's, and masks become 0 and 1.
    """
    result = {}
    for key in (key for key in batch if "/" not in key):
        by = {name.removeprefix(f"{key}/"): each for name, each in batch.items() if name.startswith(f"{key}/")}
        window, motion = by.pop("window", None), by.pop("motion", None)
        patch = batch[key] if window is None else normalised(batch[key], window)
        patch = patch if motion is None else moved(patch, motion, shape)
        result[key] = varied(patch, by) if by else patch
    return result


def normalised(region: Tensor, window: Tensor) -> Tensor:
    """Regions (B, X, Y, Z) to [-1, 1], to the bit as :func:`medgan.data.preparation.normalise`.

    ``window`` (B, 2) is what becomes -1, and how far from it lies what becomes 1.
    """
    lower, extent = (each.reshape(-1, 1, 1, 1) for each in window.unbind(1))
    return (region - lower).div_(extent).clamp_(0, 1).mul_(2).sub_(1)


def moved(region: Tensor, motion: Tensor, shape: Sequence[int]) -> Tensor:
    """Regions (B, X, Y, Z), turned, stretched and mirrored about their middle, to patches (B, C, *shape).

    ``motion`` (B, 2, 2) takes a patch's voxels to the region's in plane. Slices are never mixed: they are the channels
    of a two-dimensional interpolation, also in blocks. At the edge the region's last voxel is repeated.
    """
    size = region.shape[1:3]
    # With powers of two, coordinates in [-1, 1] are exact: standing still gives voxels back to the bit, and all
    # devices look at the same places.
    whole = [1 << (length - 1).bit_length() for length in size]
    padding = (0, whole[1] - size[1], 0, whole[0] - size[0])
    slices = F.pad(region.permute(0, 3, 1, 2).float(), padding)
    x, y = (torch.arange(length, device=region.device) - (length - 1) / 2 for length in shape[:2])
    grid = []
    for row, length, padded in zip(motion.unbind(1), size, whole, strict=True):
        place = row[:, 0, None, None] * x[:, None] + row[:, 1, None, None] * y + (length - 1) / 2
        grid.append((2 * place.clamp(0, length - 1) + 1) / padded - 1)
    mode = "bilinear" if region.is_floating_point() else "nearest"
    patch = F.grid_sample(slices, torch.stack(grid[::-1], -1), mode, "border", align_corners=False)
    if len(shape) == 3:
        patch = patch.permute(0, 2, 3, 1)[:, None].contiguous()
    return patch if region.dtype in (torch.float32, torch.bool) else patch.long()


def varied(image: Tensor, by: Batch) -> Tensor:
    """Images (B, C, *shape) in [-1, 1] with other intensities, all slices of a patch alike; amounts by patch (B,).

    In this order: "gamma" is the exponent over the patch's own range; "bias_field" (B, DEGREE + 1, *shape[:-1]) the
    logarithm of a coil profile, by polynomial of the last axis; "contrast" changes distances to the patch's mean by a
    share; "brightness" is added, and so is "noise" (B, C, *shape), as shares of the window. The oracle are MONAI's
    AdjustContrast, RandBiasField, ScaleIntensityFixedMean, ShiftIntensity and RandGaussianNoise.
    """
    ones = (-1, *(1,) * (image.dim() - 1))
    image = (image + 1) / 2
    if "gamma" in by:
        low, high = (each.reshape(ones) for each in image.flatten(1).aminmax(dim=1))
        image = _each(torch.pow, (image - low) / (high - low + 1e-7), by["gamma"]) * (high - low) + low
    if "bias_field" in by:
        x = torch.linspace(-1, 1, image.shape[-1], device=image.device)
        legendre = (torch.ones_like(x), x, (3 * x * x - 1) / 2, (5 * x * x * x - 3 * x) / 2)
        terms = [row[..., None] * each for row, each in zip(by["bias_field"].unbind(1), legendre, strict=True)]
        image = image * _each(torch.exp, reduce(torch.add, terms))[:, None]
    if "contrast" in by:
        mean = _each(torch.mean, image).reshape(ones)
        image = (image - mean) * (1 + by["contrast"].reshape(ones)) + mean
    if "brightness" in by:
        image = image + by["brightness"].reshape(ones)
    if "noise" in by:
        image = image + by["noise"]
    return image.clamp(0, 1) * 2 - 1


def _each(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """A function of each patch by itself, (B, ...)."""
    return torch.stack([function(*one) for one in zip(*batches, strict=True)])
