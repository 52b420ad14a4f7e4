"""The replay pool: discriminators also see generated images of earlier iterations, which damps oscillation."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ReplayPool:
    """Up to ``size`` generated images; each new one is, with even odds, swapped for an old one.

    With size 0 every image passes through. ``seed`` is that of the pool's own random draws.

    Source: Shrivastava et al. 2017, arXiv:1612.07828, section 2.3; Zhu et al. 2017 with 50 images.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, *spatial) of new images to the same number of new and old ones."""
        return torch.stack([self._exchanged(image) for image in images]) if self.size else images

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        swap, place = torch.rand(1, generator=self.random), torch.randint(self.size, (1,), generator=self.random)
        if swap < 0.5:
            return image
        old, self.images[int(place)] = self.images[int(place)], image.clone()
        return old

    def state_dict(self) -> dict[str, Any]:
        """Images and random state, for an exact resume."""
        return {"images": [image.cpu() for image in self.images], "random": self.random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.images = [image.to(device) for image in state["images"]]
        self.random.set_state(state["random"])
