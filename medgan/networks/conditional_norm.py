"""Normalisation whose scale and shift depend on a condition, in 2D and 3D."""

from typing import Literal

import torch
from torch import Tensor, nn

from medgan.networks.blocks import BATCH, INSTANCE

Statistics = Literal["batch", "instance"]


class ConditionalNorm(nn.Module):
    """Normalises each channel, then scales and shifts it by what the condition says.

    ``gamma(c) * (x - mean) / deviation + beta(c)``, both linear in the condition: of a one-hot class they are one gamma
    and one beta for each class and channel, and of several blocks side by side the blocks' contributions add up. With
    equal columns, or the condition 0, it is the plain norm.

    Args:
        spatial: Axes of the map, 2 or 3.
        channels: Of the map.
        condition: D, values of the condition.
        statistics: Over which mean and deviation are taken: the batch, as in DCGAN, or each image.

    Source: Dumoulin, Shlens and Kudlur 2016, arXiv:1610.07629, Eq. 5, there with instance statistics; de Vries et al.
    2017, arXiv:1707.00683, with a batch's.
    """

    def __init__(self, spatial: int, channels: int, condition: int, statistics: Statistics = "batch") -> None:
        super().__init__()
        kind = BATCH[spatial] if statistics == "batch" else INSTANCE[spatial]
        self.norm = kind(channels, affine=False)
        self.scale, self.shift = nn.Linear(condition, channels), nn.Linear(condition, channels)
        # As the scales of a plain norm start in Radford et al. 2016; the classes differ from the first step on.
        nn.init.normal_(self.scale.bias, 1.0, 0.02)
        nn.init.zeros_(self.shift.bias)
        for part in (self.scale, self.shift):
            nn.init.normal_(part.weight, 0.0, 0.02)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, channels, *spatial) and (B, D) to (B, channels, *spatial)."""
        ones = (1,) * (x.dim() - 2)
        gamma, beta = (part(condition).unflatten(1, (-1, *ones)) for part in (self.scale, self.shift))
        return torch.addcmul(beta, gamma, self.norm(x))
