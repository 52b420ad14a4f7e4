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


class Autoencoder(nn.Module):
    """Patches (B, C, *shape) through a code (B, 8) and back, at half their size.

    Args:
        channels: C.
        shape: Spatial shape of the patches.
    """

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
        code, _ = self.encoded(patches)
        hidden = F.leaky_relu(self.out(code), 0.2).unflatten(1, (WIDTHS[1], *self.quartered))
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

    network: Autoencoder
    mean: NDArray[np.float64]
    """(D,), of the real patches that it was trained on."""
    deviation: NDArray[np.float64]
    """(D,), of the same."""
    names: int
    """Label names, each of which is a channel."""
    name: str
    """What it is and what it saw; it belongs to every figure that is made with it."""

    def features(self, patches: Patches) -> Features:
        """(N, D), each in deviations of the real patches' from their mean."""
        return (raw_features(self.network, joint(patches, self.names)) - self.mean) / self.deviation


def train_encoder(patches: Patches, names: int, *, seed: int) -> Encoder:
    """Train an autoencoder on real patches, images and labels as channels, on the CPU; equal seeds give equal features.

    The features are the code and the mean activations of both levels: a code alone holds what a few numbers can say of
    a patch, which is no fine texture, so that blurred images would look real.

    Args:
        patches: Real ones, which neither side of a comparison should be among.
        names: How many label names there are.
        seed: Of weights and batches.
    """
    real = joint(patches, names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(real.shape[1], tuple(real.shape[2:]))
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for _ in range(STEPS):
            batch = real[torch.randint(len(real), (BATCH,))]
            optimizer.zero_grad()
            network.loss(batch).backward()
            optimizer.step()
    network.eval()
    found = raw_features(network, real)
    name = f"autoencoder-{found.shape[1]} trained on {len(patches)} real patches, seed {seed}"
    return Encoder(network, found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6), names, name)


def joint(patches: Patches, names: int) -> Tensor:
    """(N, 1 + names, *shape): the image, then a map for each label name, +1 inside and -1 outside."""
    maps = [np.where(patches.labels == number, 1.0, -1.0) for number in range(1, names + 1)]
    return torch.from_numpy(np.stack([patches.images, *maps], axis=1).astype(np.float32))


@torch.no_grad()
def raw_features(network: Autoencoder, patches: Tensor) -> Features:
    """(N, D) as the network gives them."""
    parts = [torch.cat(network.encoded(batch), dim=1) for batch in patches.split(BATCH)]
    return np.asarray(torch.cat(parts).double().numpy())
