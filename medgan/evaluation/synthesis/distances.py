"""Features of patches, distances between two sets of samples, how much samples differ among themselves, and collapse.

The features are those of a small autoencoder that is trained here, on the real patches and nothing else. How much
samples differ is told as a share of what real patches do.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.errors import DataError
from medgan.evaluation.synthesis.patches import Patches, coarse

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

COLLAPSED = 0.5
"""Of a finished generator: samples that differ less than this share of what real patches do have collapsed. A training
is stopped at far less, by a distance of its own: ``ALL_ALIKE`` of :mod:`medgan.synthesis.patches`."""
TWIN = 0.5
"""Of the 5th percentile of real patches' distances to their nearest other: a sample nearer to another has a twin."""
PARTLY = 0.2
"""Samples of which more than this share have twins have collapsed in part."""
MOST_MODES, PER_MODE = 10, 5
"""Clusters of real samples at most, and samples that there are for each at least."""

Floats = NDArray[np.float64]


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


def diversity_ratio(samples: Patches, real: Patches) -> float:
    """Mean distance of two images of one class, as a share of real ones'; classes count by their samples.

    The distance is the root mean square of the smoothed, halved patches' difference: noise is no variety. Two patches
    of one subject, or inserted into one, are not compared, unless there is only one; two of one lesion never are. Not
    a number where no class has two such patches on both sides.
    """
    return _ratio(_image_distances, samples, real)


def shape_diversity_ratio(samples: Patches, real: Patches) -> float:
    """The same of label maps: mean of one minus intersection over union of what is labelled.

    Inserted lesions lie in anatomies that differ whatever was drawn; their shapes tell whether that varies, too.
    """
    return _ratio(_shape_distances, samples, real)


def twins_percent(samples: Patches, real: Patches) -> float:
    """Samples that another one resembles much more than any two real patches do; of those, next to none have a twin.

    There must be equally many of both, or the nearest are not comparably near.
    """
    reference, own = (_nearest_other(patches) for patches in (real, samples))
    if not reference.size or not own.size:
        return float("nan")
    return 100 * float((own < TWIN * np.percentile(reference, 5)).mean())


def collapse_verdict(synthetic: Mapping[str, float], real: Mapping[str, float], modes: int) -> str:
    """One line: whether samples vary as real patches do; figures by measure of both, and how many kinds there are."""
    kinds = f"{synthetic['modes']:.0f} of {modes} kinds of patches (held-out real ones: {real['modes']:.0f})"
    shares = {"images": synthetic["diversity"], "labelled shapes": synthetic["shape_diversity"]}
    known = {what: share for what, share in shares.items() if not math.isnan(share)}
    varied = " and ".join(f"{what} {share:.0%}" for what, share in known.items())
    facts = f"{kinds}; diversity as a share of real: {varied or 'not known, they show one place'}"
    if any(share < COLLAPSED for share in known.values()) or synthetic["modes"] < COLLAPSED * real["modes"]:
        return f"Mode collapse: COLLAPSED. Samples come in {facts}."
    if synthetic["twins_percent"] > 100 * PARTLY:
        twins = f"{synthetic['twins_percent']:.0f} % of the samples have a twin"
        return f"Mode collapse: IN PART. {twins}; they come in {facts}."
    return f"Mode collapse: none found. Samples come in {facts}."


def _ratio(distances: Callable[[Patches], Floats], samples: Patches, real: Patches) -> float:
    own, other = (_by_class(patches, distances(patches)) for patches in (samples, real))
    shared = [name for name in own if other.get(name, 0.0) > 0]
    if not shared:
        return float("nan")
    weights = [int((samples.classes == name).sum()) for name in shared]
    return float(np.average([own[name] / other[name] for name in shared], weights=weights))


def _by_class(patches: Patches, distances: Floats) -> dict[int, float]:
    """The mean distance of two patches of each class, of different groups; classes without such two are left out."""
    classes, apart = patches.classes, _apart(patches)
    found = {}
    for name in np.unique(classes):
        pairs = distances[(classes[:, None] == name) & (classes == name) & apart]
        if pairs.size and not np.isnan(pairs).all():
            found[int(name)] = float(np.nanmean(pairs))
    return found


def _image_distances(patches: Patches) -> Floats:
    """(N, N), in units of the images."""
    flat = coarse(patches.images).reshape(len(patches), -1)
    return np.asarray(cdist(flat, flat) / np.sqrt(flat.shape[1]))


def _shape_distances(patches: Patches) -> Floats:
    """(N, N), one minus intersection over union; not a number where neither is labelled."""
    flat = (patches.labels.reshape(len(patches), -1) > 0).astype(np.float64)
    shared = flat @ flat.T
    size = flat.sum(axis=1)
    union = size[:, None] + size - shared
    return np.asarray(np.divide(union - shared, union, out=np.full_like(shared, np.nan), where=union > 0))


def _nearest_other(patches: Patches) -> Floats:
    """(N,), the distance of each to the nearest one of another group; those without one are left out."""
    distances = np.where(_apart(patches), _image_distances(patches), np.inf).min(axis=1)
    return np.asarray(distances[np.isfinite(distances)])


def _apart(patches: Patches) -> NDArray[np.bool_]:
    groups, lesions = patches.groups, patches.lesions
    kinds = groups if len(set(groups)) > 1 else lesions
    return np.asarray(kinds[:, None] != kinds)


def find_modes(real: Features, seed: int) -> Features:
    """Centres (K, D) of clusters of real features (N, D): ten at most, and at least 5 samples for each on average.

    Source: k-means from the seeding of Arthur and Vassilvitskii 2007, as implemented by scipy.
    """
    count = int(np.clip(len(real) // PER_MODE, 1, MOST_MODES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal samples make an empty cluster
        centres, which = kmeans2(real, count, minit="++", rng=np.random.default_rng(seed))
    return np.asarray(centres[np.unique(which)])


def covered_modes(centres: Features, features: Features) -> int:
    """Clusters whose centre is the nearest to some sample (N, D); compare equally many samples."""
    return len(np.unique(vq(features, centres)[0]))
