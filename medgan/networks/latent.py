"""DCGAN and its conditional forms, in 2D and 3D: from a latent vector to a patch of any shape, and back to a score."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.blocks import (
    CONVOLUTION,
    LINEAR,
    TRANSPOSED,
    ConditionalNorm,
    Norm,
    UpSampling,
    before,
    constant_maps,
    initialise,
    keep_variance,
    normalisation,
)

Entry = Literal["concatenation", "normalisation"]
"""How a condition enters a generator: beside the latent vector, or as scale and shift of every norm."""

Judged = Literal["concatenation", "projection"]
"""How a condition enters a discriminator: as constant maps beside the image, or as a direction of its features."""

LayerType = Callable[..., nn.Module]

COARSEST = 4
"""Voxels below which no axis is halved: DCGAN's smallest map."""


def halvings(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Strides from a patch down to its smallest map, fine to coarse: an axis is halved while it is even and long.

    Example:
        >>> halvings((32, 8))  # 16 x 4, 8 x 4, 4 x 4
        [(2, 2), (2, 1), (2, 1)]
    """
    strides, size = [], tuple(shape)
    while 2 in (step := tuple(2 if length % 2 == 0 and length >= 2 * COARSEST else 1 for length in size)):
        strides.append(step)
        size = tuple(length // stride for length, stride in zip(size, step, strict=True))
    if not strides:
        raise ValueError(
            f"patch of {tuple(shape)} voxels: no axis is even and at least {2 * COARSEST} long, so none can be halved"
        )
    return strides


def _smallest_map(shape: Sequence[int]) -> tuple[int, ...]:
    """The size that :func:`halvings` leads to."""
    return tuple(length // prod(axis) for length, axis in zip(shape, zip(*halvings(shape), strict=True), strict=True))


class LatentGenerator(nn.Module):
    """A stack of up-sampling convolutions from a latent vector to a patch, bounded to [-1, 1] by tanh.

    DCGAN's guidelines: no pooling, no dense hidden layer (the first is a transposed convolution whose kernel is the
    smallest map), batch norm in all layers but the last, ReLU. A condition of D values enters beside the latent vector
    (Mirza and Osindero 2014, arXiv:1411.1784, section 3.2) or through every norm (:class:`ConditionalNorm`), which
    then is batch or instance; with D = 0 the network ignores whatever condition it is shown. ``channels`` are those of
    the finest inner map, and double with each coarser one, up to eight times.

    Source: Radford, Metz and Chintala 2016, arXiv:1511.06434, section 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int = 1,
        *,
        latent: int = 100,
        condition: int = 0,
        entry: Entry = "concatenation",
        channels: int = 64,
        norm: Norm = "batch",
        upsampling: UpSampling = "transposed",
    ) -> None:
        super().__init__()
        spatial, strides = len(shape), halvings(shape)
        self.latent, self.spatial = latent, spatial
        self.concatenated = condition if entry == "concatenation" else 0
        self.normed = condition if entry == "normalisation" else 0
        wide = [channels * min(2**level, 8) for level in range(len(strides))][::-1]
        first = before(norm, TRANSPOSED[spatial], latent + self.concatenated, wide[0], _smallest_map(shape))
        self.grow = nn.ModuleList([first])
        for (coarse, fine), stride in zip(pairwise(wide), strides[:0:-1], strict=True):
            self.grow.append(_growth(spatial, coarse, fine, stride, upsampling, norm))
        self.norms = nn.ModuleList(_norm(spatial, width, self.normed, norm) for width in wide)
        self.last = _growth(spatial, wide[-1], outputs, strides[0], upsampling, "none")
        initialise(self)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, latent) and (B, D) to a patch (B, outputs, *shape) in [-1, 1]."""
        if self.concatenated:
            z = torch.cat([z, _not_none(condition)], dim=1)
        x = z.unflatten(1, (-1, *(1,) * self.spatial))
        for grow, norm in zip(self.grow, self.norms, strict=True):
            x = grow(x)
            x = F.relu(norm(x, _not_none(condition)) if self.normed else norm(x))
        return torch.tanh(self.last(x))


class LayeredGenerator(nn.Module):
    """A lesion laid over a background that is the same whatever the lesion's condition.

    ``image = (1 - m) * background(z, c') + m * lesion(z, c)``, m the largest of the drawn maps, scaled to [0, 1], and
    c' the condition without the part that is the lesion's alone. With z kept and that part swapped, what changes is
    therefore inside the old and the new mask. Layers joined by a drawn mask are those of Yang et al. 2017,
    arXiv:1703.01560; that one of them does not see the condition is ours.

    ``background`` draws (B, 1, *shape) from z and c', ``lesion`` (B, 1 + K, *shape) from z and c: what a lesion looks
    like, and a map of each name. The first ``own`` values of c are the lesion's alone: class and size.
    """

    def __init__(self, background: LatentGenerator, lesion: LatentGenerator, own: int) -> None:
        super().__init__()
        self.background, self.lesion, self.own, self.latent = background, lesion, own, lesion.latent

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B, latent) and (B, D) to a joint patch (B, 1 + K, *shape) in [-1, 1]."""
        background, lesion = self.background(z, condition[:, self.own :]), self.lesion(z, condition)
        share = (lesion[:, 1:].amax(dim=1, keepdim=True) + 1) / 2
        return torch.cat([torch.lerp(background, lesion[:, :1], share), lesion[:, 1:]], dim=1)


class _ResizedConvolution(nn.Module):
    """Interpolation to ``stride`` times the size and a 3-wide convolution."""

    def __init__(self, spatial: int, inputs: int, outputs: int, stride: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        self.stride, self.mode = tuple(float(step) for step in stride), LINEAR[spatial]
        self.layer = before(norm, CONVOLUTION[spatial], inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *size) to (B, outputs, *(stride * size))."""
        x = F.interpolate(x, scale_factor=self.stride, mode=self.mode, align_corners=False)
        result: Tensor = self.layer(x)
        return result


class WholeDiscriminator(nn.Module):
    """Strided convolutions down to the smallest map and one convolution of its size: one answer for the patch.

    DCGAN's guidelines: no pooling, no dense layer, leaky ReLUs of slope .2, batch norm in all layers but the first and
    the last. A condition is concatenated as constant maps (Mirza and Osindero 2014, arXiv:1411.1784, section 3.2, in
    convolutional form), or projected: the first answer gains ``<V c, sum over voxels of the features>`` (Miyato and
    Koyama 2018, arXiv:1802.05637, section 3); with D = 0 values the network ignores whatever condition it is shown.
    What ``outputs`` answers mean is the caller's: a raw score, or one for each class. A gradient penalty is each
    image's own and forbids batch norm.

    Source: Radford, Metz and Chintala 2016, arXiv:1511.06434, section 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int = 1,
        outputs: int = 1,
        *,
        condition: int = 0,
        entry: Judged = "concatenation",
        channels: int = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        spatial, strides = len(shape), halvings(shape)
        self.concatenated = condition if entry == "concatenation" else 0
        self.projected = condition if entry == "projection" else 0
        wide = [channels * min(2**level, 8) for level in range(len(strides))]
        conv: LayerType = CONVOLUTION[spatial]
        arriving = inputs + self.concatenated
        self.layers = nn.Sequential(conv(arriving, wide[0], _kernels(strides[0]), strides[0], 1), nn.LeakyReLU(0.2))
        for (fine, coarse), stride in zip(pairwise(wide), strides[1:], strict=True):
            halve = before(norm, conv, fine, coarse, _kernels(stride), stride, 1)
            self.layers.extend([halve, normalisation(norm, coarse, spatial), nn.LeakyReLU(0.2)])
        self.last = conv(wide[-1], outputs, _smallest_map(shape))
        self.width = wide[-1]
        """Channels of :meth:`features`."""
        initialise(self)
        if norm == "none":
            keep_variance(self)
        if self.projected:
            self.direction = nn.Linear(condition, self.width, bias=False)
            nn.init.normal_(self.direction.weight, 0.0, 0.02)

    def features(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, *shape) and (B, D) to the smallest map, (B, width, *smallest)."""
        result: Tensor = self.layers(_beside(image, condition) if self.concatenated else image)
        return result

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, *shape) and (B, D) to raw answers (B, outputs)."""
        features = self.features(image, condition)
        answers: Tensor = self.last(features).flatten(1)
        if self.projected:
            agreement = (self.direction(_not_none(condition)) * features.flatten(2).sum(dim=2)).sum(dim=1, keepdim=True)
            answers = torch.cat([answers[:, :1] + agreement, answers[:, 1:]], dim=1)
        return answers


class ConditionalPatches(nn.Module):
    """Shows a network of (B, inputs + D, *spatial) the condition as constant maps beside the image; with D = 0 none."""

    def __init__(self, network: nn.Module, condition: int) -> None:
        super().__init__()
        self.network, self.condition = network, condition

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, *spatial) and (B, D) to the network's scores."""
        scores: Tensor = self.network(_beside(image, condition) if self.condition else image)
        return scores


def _kernels(stride: Sequence[int]) -> tuple[int, ...]:
    """4-wide where an axis is halved or doubled and 3-wide where it is kept: with padding 1 the sizes come out even."""
    return tuple(2 + step for step in stride)


def _growth(
    spatial: int, inputs: int, outputs: int, stride: tuple[int, ...], upsampling: UpSampling, norm: Norm
) -> nn.Module:
    if upsampling == "resize":
        return _ResizedConvolution(spatial, inputs, outputs, stride, norm)
    return before(norm, TRANSPOSED[spatial], inputs, outputs, _kernels(stride), stride, padding=1)


def _norm(spatial: int, channels: int, condition: int, norm: Norm) -> nn.Module:
    if not condition:
        return normalisation(norm, channels, spatial)
    if norm not in ("batch", "instance"):
        raise ValueError(f"norm={norm} takes no condition: choose batch or instance, or concatenate the condition")
    return ConditionalNorm(spatial, channels, condition, norm)


def _not_none(condition: Tensor | None) -> Tensor:
    """The condition, where a network was built for one."""
    if condition is None:
        raise ValueError("the network was built for a condition and was shown none")
    return condition


def _beside(image: Tensor, condition: Tensor | None) -> Tensor:
    return torch.cat([image, constant_maps(_not_none(condition), image)], dim=1)
