"""Features of patches from a small autoencoder that is trained here, on the real patches and nothing else."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.evaluation.synthesis.distances import Features
from medgan.evaluation.synthesis.patches import Patches

CODE = 8
"""Numbers through which a patch passes: what is where."""
WIDTHS = (4, 8)
"""Channels at half and at a quarter of the size; their mean activations say how the texture is."""
STEPS, BATCH, RATE = 200, 16, 3e-3
MODES = {2: "bilinear", 3: "trilinear"}


class _Autoencoder(nn.Module):
    """Patches (B, C, *shape) through a code (B, 8) and back, at half their size."""

    def __init__(self, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        convolution: type[nn.Module] = nn.Conv2d if len(shape) == 2 else nn.Conv3d
        self.halved, self.quartered = (tuple(-(-size // step) for size in shape) for step in (2, 4))
        inner = WIDTHS[1] * int(np.prod(self.quartered))
        self.first = convolution(channels, WIDTHS[0], 3, stride=2, padding=1)
        self.second = convolution(WIDTHS[0], WIDTHS[1], 3, stride=2, padding=1)
        self.into, self.out = nn.Linear(inner, CODE), nn.Linear(CODE, inner)
        self.last = convolution(WIDTHS[1], channels, 3, padding=1)

    def forward(self, patches: Tensor) -> Tensor:
        """What the code tells of the patches, (B, C, *halved)."""
        hidden = F.leaky_relu(self.out(self.encoded(patches)[0]), 0.2).unflatten(1, (WIDTHS[1], *self.quartered))
        shown: Tensor = self.last(F.interpolate(hidden, self.halved))
        return shown

    def encoded(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The code (B, 8) and the mean strength of each channel's activations (B, 12)."""
        fine = F.leaky_relu(self.first(patches), 0.2)
        rough = F.leaky_relu(self.second(fine), 0.2)
        textures = [hidden.abs().flatten(2).mean(dim=2) for hidden in (fine, rough)]
        return self.into(rough.flatten(1)), torch.cat(textures, dim=1)

    def loss(self, patches: Tensor) -> Tensor:
        """Mean squared error of what comes back, against the patches at half their size."""
        return F.mse_loss(self(patches), F.interpolate(patches, self.halved, mode=MODES[len(self.halved)]))


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained network with the scale of its features."""

    network: _Autoencoder
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    """(D,), as the mean, of the real patches that it was trained on."""
    names: int
    """Label names, each of which is a channel."""
    name: str
    """What it is and what it saw; it belongs to every figure that is made with it."""

    @classmethod
    def train(cls, patches: Patches, names: int, *, seed: int) -> "Encoder":
        """Train an autoencoder on real patches, images and ``names`` label maps as channels, on the CPU.

        The features are the code and the mean activations of both levels: a code alone holds what a few numbers can say
        of a patch, which is no fine texture, so that blurred images would look real. Equal seeds give equal features.
        Neither side of a comparison should be among the patches.
        """
        real = _joint(patches, names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Autoencoder(real.shape[1], tuple(real.shape[2:]))
            optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
            for _ in range(STEPS):
                batch = real[torch.randint(len(real), (BATCH,))]
                optimizer.zero_grad()
                network.loss(batch).backward()
                optimizer.step()
        network.eval()
        raw = _raw_features(network, real)
        name = f"autoencoder-{raw.shape[1]} trained on {len(patches)} real patches, seed {seed}"
        return cls(network, raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-6), names, name)

    def features(self, patches: Patches) -> Features:
        """(N, D), each in deviations of the real patches' from their mean."""
        return (_raw_features(self.network, _joint(patches, self.names)) - self.mean) / self.deviation


def _joint(patches: Patches, names: int) -> Tensor:
    """(N, 1 + names, *shape): the image, then a map for each label name, +1 inside and -1 outside."""
    maps = [np.where(patches.labels == number, 1.0, -1.0) for number in range(1, names + 1)]
    return torch.from_numpy(np.stack([patches.images, *maps], axis=1).astype(np.float32))


@torch.no_grad()
def _raw_features(network: _Autoencoder, patches: Tensor) -> Features:
    """(N, D) as the network gives them."""
    parts = [torch.cat(network.encoded(batch), dim=1) for batch in patches.split(BATCH)]
    return np.asarray(torch.cat(parts).double().numpy())
