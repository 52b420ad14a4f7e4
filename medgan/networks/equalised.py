"""Layers that keep signals, and the speed of learning, at one scale; and one that shows a critic its whole batch."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Conv3d | nn.Linear)

HE_GAIN = math.sqrt(2)
"""What keeps the size of a signal through a rectifier (He et al. 2015, arXiv:1502.01852, Eq. 10)."""


class RuntimeScale(nn.Module):
    """Gives a layer its weight times a constant; the optimiser moves the weight without it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape to the same."""
        return self.scale * weight


def equalised(layer: Layer, gain: float = HE_GAIN) -> Layer:
    """Weights from N(0, 1), scaled at run time by He's constant, gain / sqrt(inputs); biases 0.

    Adam's steps do not depend on the size of a gradient. So that every layer then learns at one speed, all weights must
    have one range.

    Source: Karras et al. 2018, section 4.1.
    """
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    scale = gain / math.sqrt(layer.weight[0].numel())
    parametrize.register_parametrization(layer, "weight", RuntimeScale(scale))
    return layer


def pixel_norm(features: Tensor) -> Tensor:
    """Features (B, C, ...) whose mean square over channels is 1 at every place (Karras et al. 2018, section 4.2)."""
    return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-8)


def minibatch_deviation(features: Tensor) -> Tensor:
    """Features (B, C, *spatial) with one channel more: how much the batch varies, the same number everywhere.

    It is the standard deviation over the batch, the mean of all features and places: with it a critic tells a
    generator that always draws the same.

    Source: Karras et al. 2018, section 3.
    """
    # The small number keeps the root's slope finite where all items are equal.
    deviation = (features.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    channel = deviation.expand(features.shape[0], 1, *features.shape[2:])
    return torch.cat([features, channel], dim=1)
