"""A discriminator with one answer for a whole patch: DCGAN's, with a condition, features and classes on demand."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from medgan.networks.blocks import CONVOLUTION, Norm, has_bias, initialise, keep_variance, normalisation
from medgan.networks.latent import Layer, given, halvings, kernels, smallest_map, widths

Judged = Literal["concatenation", "projection"]
"""How a condition enters a discriminator: as constant maps beside the image, or as a direction of its features."""


class WholeDiscriminator(nn.Module):
    """Strided convolutions down to the smallest map and one convolution of its size: one answer for the patch.

    DCGAN's guidelines: no pooling, no dense layer, leaky ReLUs of slope .2, batch norm in all layers but the first and
    the last. A condition is concatenated as constant maps (Mirza and Osindero 2014, arXiv:1411.1784, section 3.2, in
    convolutional form), or projected: the score gains ``<V c, sum over voxels of the features>`` (Miyato and Koyama
    2018, arXiv:1802.05637, section 3).

    Args:
        shape: Voxels of the patch; see :func:`medgan.networks.latent.halvings`.
        inputs: Channels of the patch.
        outputs: Answers: 1 is the raw score; more are what the caller takes them for, such as a class each.
        condition: D, values of the condition; with 0 the network ignores whatever condition it is shown.
        entry: How the condition enters; a projection adds to the first answer.
        channels: At the finest inner map; they double with each coarser one, up to eight times.
        norm: ``batch`` is DCGAN's. A gradient penalty is each image's own and forbids it: use instance, group or none.

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
        wide = widths(channels, len(strides))
        conv: Layer = CONVOLUTION[spatial]
        seen = inputs + self.concatenated
        layers: list[nn.Module] = [conv(seen, wide[0], kernels(strides[0]), strides[0], 1), nn.LeakyReLU(0.2)]
        for (fine, coarse), stride in zip(pairwise(wide), strides[1:], strict=True):
            layers += [
                conv(fine, coarse, kernels(stride), stride, 1, bias=has_bias(norm)),
                normalisation(norm, coarse, spatial),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.last = conv(wide[-1], outputs, smallest_map(shape))
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
        if self.concatenated:
            image = torch.cat([image, constant_maps(given(condition), image)], dim=1)
        result: Tensor = self.layers(image)
        return result

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, *shape) and (B, D) to raw answers (B, outputs)."""
        features = self.features(image, condition)
        answers: Tensor = self.last(features).flatten(1)
        if self.projected:
            agreement = (self.direction(given(condition)) * features.flatten(2).sum(dim=2)).sum(dim=1, keepdim=True)
            answers = torch.cat([answers[:, :1] + agreement, answers[:, 1:]], dim=1)
        return answers


class ConditionalPatches(nn.Module):
    """Shows a network of images the condition too, as constant maps beside the image.

    Args:
        network: What looks, at (B, inputs + D, *spatial).
        condition: D; with 0 it is shown the image alone, whatever the condition.
    """

    def __init__(self, network: nn.Module, condition: int) -> None:
        super().__init__()
        self.network, self.condition = network, condition

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, inputs, *spatial) and (B, D) to the network's scores."""
        if self.condition:
            image = torch.cat([image, constant_maps(given(condition), image)], dim=1)
        scores: Tensor = self.network(image)
        return scores


def constant_maps(condition: Tensor, image: Tensor) -> Tensor:
    """Each value of the condition (B, D) as a map of the image's size, (B, D, *spatial)."""
    ones = (1,) * (image.dim() - 2)
    column: Tensor = condition.unflatten(1, (-1, *ones))
    return column.expand(-1, -1, *image.shape[2:])
