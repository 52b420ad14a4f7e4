"""What is hidden of a training patch: its lesions with a margin, or a hole of a lesion's shape in healthy tissue."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, model_validator
from scipy import ndimage
from torch import Tensor

from medgan.config import Config
from medgan.data.masks import components

TISSUE = -0.9
"""Holes are centred on what is brighter than this, of -1 to 1: in the body, not beside it."""
RADII = (1 / 12, 1 / 4)
"""Of the ellipsoids that stand in where no lesion lends its shape, as shares of the patch's edges."""

Mask = NDArray[np.bool_]


class HidingConfig(Config):
    """How much of a training patch is hidden, and how often it is healthy tissue."""

    margin_voxels: tuple[NonNegativeInt, NonNegativeInt] = (1, 4)
    """Smallest and largest margin around what is painted, in plane. It varies, so that the edge of the hidden region
    does not say where a lesion ends."""
    margin_slices: tuple[NonNegativeInt, NonNegativeInt] = (0, 1)
    """The same along the third axis of a block; slices are often thick."""
    healthy_share: float = Field(default=0.25, ge=0, le=1)
    """The share of patches with a lesion in which healthy tissue is hidden instead, as in all patches without one."""
    visible_share: float = Field(default=0.3, ge=0, lt=1)
    """How likely each lesion beside the first stays visible, so that it tells how bright this patient's are."""
    outline_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the patches whose lesions are hidden in which only their outlines are, and those between names: for
    organs that change their shape and keep their inside (``insertion.renew=changed``)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("margin_voxels", "margin_slices"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is the smallest and the largest margin, not [{least}, {most}]")
        return self

    def margins(self, rng: np.random.Generator, spatial: int) -> list[int]:
        """One margin for each axis of a patch, the same for both in plane."""
        plane = int(rng.integers(self.margin_voxels[0], self.margin_voxels[1] + 1))
        slices = int(rng.integers(self.margin_slices[0], self.margin_slices[1] + 1))
        return [plane, plane, slices][:spatial]


def hide(image: Tensor, labels: Tensor, config: HidingConfig, rng: np.random.Generator) -> Tensor:
    """What is hidden of each patch: some of its lesions with a margin, else a hole that touches none of them.

    Args:
        image: (B, 1, *spatial) in [-1, 1].
        labels: (B, 1, *spatial), 0 where there is no lesion.
        config: How much and how often.
        rng: All chance comes from here.

    Returns:
        (B, 1, *spatial) of 0 and 1, of the image's type and on its device.
    """
    drawn = labels[:, 0].cpu().numpy()
    marked, tissue = drawn > 0, (image > TISSUE)[:, 0].cpu().numpy()
    regions = []
    for number, lesions in enumerate(marked):
        margins = config.margins(rng, lesions.ndim)
        if lesions.any() and rng.random() >= config.healthy_share:
            if config.outline_share and rng.random() < config.outline_share:
                region = grown(outline(drawn[number]), margins)
            else:
                region = grown(some_of(lesions, config.visible_share, rng), margins)
        else:
            lender = marked[(number + 1) % len(marked)]
            region = grown(
                moved(lender if lender.any() else ellipsoid(lesions.shape, rng), tissue[number], rng), margins
            )
            region &= ~grown(lesions, [1] * lesions.ndim)
        regions.append(region)
    return torch.from_numpy(np.stack(regions)[:, None]).to(image)


def holes(image: Tensor, labels: Tensor, config: HidingConfig, rng: np.random.Generator) -> Tensor:
    """Healthy tissue of each patch and nothing else; arguments and result as :func:`hide`'s."""
    return hide(image, labels, config.model_copy(update={"healthy_share": 1.0}), rng)


def grown(mask: Mask, margins: Sequence[int]) -> Mask:
    """The mask with a margin of voxels along each axis."""
    return np.asarray(ndimage.maximum_filter(mask, [2 * margin + 1 for margin in margins], mode="constant"))


def outline(labels: NDArray[np.integer]) -> Mask:
    """Voxels that differ from a neighbour, on both sides of every edge of a label map."""
    return np.asarray(ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3))


def some_of(lesions: Mask, visible_share: float, rng: np.random.Generator) -> Mask:
    """The lesions to hide: one of them for sure, any other unless it stays visible."""
    numbered, count = components(lesions)
    chosen = rng.random(count) >= visible_share
    chosen[rng.integers(count)] = True
    return np.asarray(chosen[numbered - 1] & lesions)


def moved(mask: Mask, tissue: Mask, rng: np.random.Generator) -> Mask:
    """The mask mirrored at random and brought onto a random voxel of the tissue; what leaves the patch is lost."""
    voxels = np.argwhere(mask)
    voxels = voxels - np.rint(voxels.mean(axis=0)).astype(int)
    places = np.argwhere(tissue)
    target = places[rng.integers(len(places))] if len(places) else np.array(mask.shape) // 2
    landed = voxels * rng.choice([-1, 1], size=mask.ndim) + target
    inside = ((landed >= 0) & (landed < mask.shape)).all(axis=1)
    result = np.zeros_like(mask)
    result[tuple(landed[inside].T)] = True
    return result


def ellipsoid(shape: Sequence[int], rng: np.random.Generator) -> Mask:
    """An ellipsoid in the middle of a patch, with radii of ``RADII`` of its edges."""
    radii = np.maximum(rng.uniform(*RADII, size=len(shape)) * shape, 1.0)
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    squares = [((axis - size // 2) / radius) ** 2 for axis, size, radius in zip(axes, shape, radii, strict=True)]
    return np.asarray(sum(squares) <= 1)
