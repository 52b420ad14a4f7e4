"""What a network is shown of an intensity scale that is wider than what it must tell apart."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Windowed(nn.Module):
    """Shows a network the same image through several intensity windows, each as channels over [-1, 1].

    As a reader turns to a narrow window for soft tissue and to a wide one for bone: a difference that is small in the
    whole range is large in a window. A window is its lower and upper bound, in the image's units of [-1, 1].
    """

    def __init__(self, network: nn.Module, windows: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.network, self.windows = network, tuple(windows)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial), shown as (B, C * windows, *spatial), to the network's output."""
        output: Tensor = self.network(self.views(image))
        return output

    def encode(self, image: Tensor) -> list[Tensor]:
        """The maps of the network's encoder, where it shows them."""
        encoder: Any = self.network
        maps: list[Tensor] = encoder.encode(self.views(image))
        return maps

    def views(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) through each window, (B, C * windows, *spatial)."""
        return torch.cat([((image - low) / (high - low) * 2 - 1).clamp(-1, 1) for low, high in self.windows], dim=1)
