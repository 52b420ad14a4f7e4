"""Features of patches, distances between two sets of samples or of their features, and how they lie among each other.

The features are those of a small autoencoder that is trained here, on the real patches and nothing else.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.errors import DataError
from medgan.evaluation.synthesis.patches import Patches

Features = NDArray[np.float64]
"""(N, D): the features of one sample in each row."""
Samples = ArrayLike | Tensor
"""(N, ...): one sample a row, whatever its shape."""

PRECISION_NEIGHBOURS = 3
"""As in Kynkäänniemi et al."""
DENSITY_NEIGHBOURS = 5
"""As in Naeem et al."""
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


def kernel_distance(one: Features, other: Features) -> float:
    """Squared maximum mean discrepancy under the kernel (x·y / D + 1)³, without bias.

    Unlike the Fréchet distance it does not grow with fewer samples, only its spread does; around 0 it may be negative.

    Source: Bińkowski et al. 2018, arXiv:1801.01401, Section 4; the estimator is Eq. 3 of Gretton et al. 2012,
    JMLR 13:723-773.
    """
    if min(len(one), len(other)) < 2:
        raise DataError("a kernel distance needs two samples on each side; give more.")
    return _among(one) + _among(other) - 2 * float(_kernel(one, other).mean())


def _among(samples: Features) -> float:
    """The mean kernel of two different samples."""
    values, count = _kernel(samples, samples), len(samples)
    return float(values.sum() - np.trace(values)) / (count * (count - 1))


def _kernel(one: Features, other: Features) -> Features:
    return np.asarray((one @ other.T / one.shape[1] + 1) ** 3)


def frechet_distance(one: Features, other: Features) -> float:
    """Squared Fréchet distance of two normal distributions with the means and covariances of the samples.

    It is in squared units of the features and never below 0. With few samples it is too large, the more so the more
    features there are: compare only values from equally many samples, beside that of real ones.

    Source: Heusel et al. 2017, arXiv:1706.08500, Eq. 6, after Dowson and Landau 1982.
    """
    if min(len(one), len(other)) < 2:
        raise DataError("a covariance needs two samples on each side; give more.")
    apart = one.mean(axis=0) - other.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other))
    # The trace of (a b)^(1/2) is that of the symmetric (a^(1/2) b a^(1/2))^(1/2), whose eigenvalues are real.
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    common = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    return max(float(apart @ apart + np.trace(a) + np.trace(b) - 2 * common), 0.0)


def neighbourhoods(samples: Features, real: Features) -> dict[str, float]:
    """``precision`` and ``recall`` with 3, ``density`` and ``coverage`` with 5 nearest neighbours.

    Precision is the share of the samples (N, D) within a real one's neighbourhood, recall that of the real ones (M, D)
    within a sample's, coverage that of the real ones with a sample in their neighbourhood. Density counts the real
    neighbourhoods that a sample lies in, 1 where expected: precision that no outlier decides.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, Eqs. 1 and 2; Naeem et al. 2020, arXiv:2002.09797, Eqs. 3, 4.
    """
    if min(len(samples), len(real)) <= DENSITY_NEIGHBOURS:
        raise DataError(
            f"neighbourhoods need more than {DENSITY_NEIGHBOURS} samples on each side, and there are {len(samples)} "
            f"and {len(real)}; give more."
        )
    distances = cdist(samples, real)
    real_radii, sample_radii = (_radii(each, PRECISION_NEIGHBOURS) for each in (real, samples))
    wide = _radii(real, DENSITY_NEIGHBOURS)
    return {
        "precision": float((distances <= real_radii).any(axis=1).mean()),
        "recall": float((distances <= sample_radii[:, None]).any(axis=0).mean()),
        "density": float((distances <= wide).sum(axis=1).mean() / DENSITY_NEIGHBOURS),
        "coverage": float((distances.min(axis=0) <= wide).mean()),
    }


def _radii(features: Features, neighbours: int) -> NDArray[np.float64]:
    """(N,), each sample's distance to its ``neighbours``-th nearest other one."""
    # Itself is the nearest, at 0.
    return np.asarray(np.partition(cdist(features, features), neighbours, axis=1)[:, neighbours])


def sliced_wasserstein(one: Samples, other: Samples, *, projections: int, seed: int) -> float:
    """Mean Wasserstein-1 distance of two sets of samples of one shape, along random directions, in their units.

    Directions are uniform on the unit sphere, and equal for equal seeds, so that values compare. Of samples of one
    number it is exactly the Wasserstein distance.

    Source: Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, Section 3.1, with exponent 1.
    """
    a, b = _rows(one), _rows(other)
    if np.shape(one)[1:] != np.shape(other)[1:]:
        raise DataError(
            f"samples of shape {np.shape(one)[1:]} and {np.shape(other)[1:]} do not compare; cut them alike."
        )
    directions = np.random.default_rng(seed).standard_normal((a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    return float(_wasserstein(a @ directions, b @ directions).mean())


def _rows(samples: Samples) -> NDArray[np.float64]:
    """Samples (N, ...) as (N, D) in double precision."""
    values = torch.as_tensor(samples).detach().to("cpu", torch.float64).numpy()
    if len(values) == 0:
        raise DataError("there are no samples to compare; give at least one on each side.")
    if not np.isfinite(values).all():
        raise DataError("samples hold values that are not finite; look for a run that diverged.")
    return values.reshape(len(values), -1)


def _wasserstein(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wasserstein-1 distance of each column of (N, P) to that of (M, P): the area between their quantile functions."""
    n, m = len(one), len(other)
    steps = np.union1d(np.arange(n) * m, np.arange(m) * n)  # where a quantile function may jump, in 1 / (n m)
    widths = np.diff(steps, append=n * m) / (n * m)
    apart = np.abs(np.sort(one, axis=0)[steps // m] - np.sort(other, axis=0)[steps // n])
    return np.asarray(widths @ apart)
