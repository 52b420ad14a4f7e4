"""Projections of feature maps onto the unit sphere, where patches are compared."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchProjections(nn.Module):
    """A two-layer perceptron for each feature map, applied at chosen places, its results of length 1.

    Source: Park et al. 2020, arXiv:2007.15651, section 3.2 and appendix C.1. There the layers are made when the first
    maps arrive; here from known widths, so that optimiser and saved state hold them from the start.

    Args:
        widths: Channels of each map.
        channels: Width of both layers, and of the results.
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
        """Each map's features at its places.

        Args:
            maps: One (B, width, *spatial) for each of the widths; sizes may differ.
            places: For each map the flat indices of voxels, (patches,).

        Returns:
            For each map (B, patches, channels).
        """
        return [
            F.normalize(layer(found.flatten(2)[:, :, chosen].transpose(1, 2)).float(), dim=2)
            for layer, found, chosen in zip(self.layers, maps, places, strict=True)
        ]


def random_places(maps: Sequence[Tensor], count: int) -> list[Tensor]:
    """Up to ``count`` different voxels of each map (B, C, *spatial), as flat indices from torch's global generator."""
    return [torch.randperm(found[0, 0].numel())[:count].to(found.device) for found in maps]
