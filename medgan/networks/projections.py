"""Projections of feature maps onto the unit sphere, where patches are compared."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchProjections(nn.Module):
    """A two-layer perceptron for each feature map, applied at chosen places, its results of length 1.

    Source: Park et al. 2020, arXiv:2007.15651, section 3.2 and appendix C.1. There the layers are made when the first
    maps arrive; here from known ``widths`` (channels of each map), so that optimiser and saved state hold them from the
    start. ``channels`` is the width of both layers, and of the results.
    """

    def __init__(self, widths: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, channels), nn.ReLU(), nn.Linear(channels, channels)) for width in widths
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, patches, channels) of each map (B, width, *spatial) at its places, flat indices (patches,)."""
        return [
            F.normalize(layer(features.flatten(2)[:, :, chosen].transpose(1, 2)).float(), dim=2)
            for layer, features, chosen in zip(self.layers, maps, places, strict=True)
        ]


def random_places(maps: Sequence[Tensor], count: int) -> list[Tensor]:
    """Up to ``count`` different voxels of each map (B, C, *spatial), as flat indices from torch's global generator."""
    return [torch.randperm(features[0, 0].numel())[:count].to(features.device) for features in maps]
