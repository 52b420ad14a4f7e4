"""Whether samples are copies of training patches: their nearest ones, measured by how near real patches come."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from medgan.evaluation.synthesis.patches import Floats, Patches, smooth

PERCENTILE = 5.0
"""Of real patches that are no copies, as many are nearer than the threshold."""
CERTAIN = 0.5
"""A sample that is nearer than this share of the smallest real distance is a copy whatever chance allows."""
REACH = {2: 2, 3: 1}
"""By how many voxels a copy may be shifted along each axis, in 2D and 3D; what is cut around a lesion is centred."""
SURE = 0.01
"""More copies than chance allows: they would be so many less often than this."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of N samples its nearest training patch of another subject."""

    which: NDArray[np.intp]
    """(N,), its index."""
    distance: NDArray[np.float64]
    """(N,), 0 for a copy; infinite where there is none to compare with."""
    ratio: NDArray[np.float64]
    """(N,), to the distance of the nearest patch of any other lesion: near 1 where nothing is special about it."""


@dataclass(frozen=True)
class Threshold:
    """How near real patches come to training patches of other subjects."""

    distance: float
    ratio: float
    certain: float
    """Distance below which a sample is a copy without doubt."""

    @classmethod
    def of(cls, real: Nearest) -> "Threshold":
        """From patches that are no copies."""
        known = real.distance[np.isfinite(real.distance)]
        if known.size == 0:
            return cls(0.0, 0.0, 0.0)
        ratio = np.percentile(real.ratio[np.isfinite(real.distance)], PERCENTILE)
        return cls(float(np.percentile(known, PERCENTILE)), float(ratio), CERTAIN * float(known.min()))

    def suspects(self, found: Nearest) -> NDArray[np.bool_]:
        """(N,), the samples nearer than real ones come, and clearly nearer than to any other lesion.

        The second keeps smooth samples from suspicion, which are a little nearer to everything.
        """
        near = (found.distance < self.distance) & (found.ratio < self.ratio)
        return np.asarray(near | self.certainly(found))

    def certainly(self, found: Nearest) -> NDArray[np.bool_]:
        """(N,), the samples that are copies without doubt."""
        return np.asarray(found.distance < self.certain)

    def exceeded(self, found: Nearest) -> bool:
        """Whether there are more suspects than among real patches, or a single certain copy."""
        suspects = int(self.suspects(found).sum())
        chance = float(binom.sf(suspects - 1, len(found.distance), PERCENTILE / 100))
        return bool(self.certainly(found).any()) or chance < SURE


def nearest(samples: Patches, training: Patches, *, real: bool) -> Nearest:
    """The nearest training patch of each sample, which may be shifted, mirrored, noisy or of other contrast.

    Patches of the recipient that reach into the sample's place are no candidates: what surrounds the lesion is alike
    there by construction.

    Args:
        samples: N.
        training: M, what might have been copied.
        real: Whether the samples are real themselves: then patches of their own subject are no candidates.
    """
    distances = aligned_distances(samples.images, training.images)
    distances[_recipients_place(samples, training)] = np.inf
    if real:
        distances[samples.groups[:, None] == training.groups] = np.inf
    which = distances.argmin(axis=1)
    first = distances.min(axis=1)
    lesions = training.lesions
    second = np.where(lesions[which][:, None] == lesions, np.inf, distances).min(axis=1)
    ratio = np.divide(first, second, out=np.ones_like(first), where=np.isfinite(second) & (second > 0))
    return Nearest(which, first, ratio)


def aligned_distances(one: Floats, other: Floats) -> NDArray[np.float64]:
    """(N, M), each patch of ``one`` to each of ``other``: the root of one minus the highest correlation.

    Correlated is every other voxel of the smoothed patches, over all mirrorings and shifts of up to ``REACH``; gain and
    offset play no part. Patches without contrast are at distance 1.

    Args:
        one: (N, *shape).
        other: (M, *shape).
    """
    free, fixed = smooth(one), smooth(other)
    spatial = free.ndim - 1
    reach = REACH[spatial]

    def window(patches: Floats, by: tuple[int, ...]) -> Floats:
        inner = (slice(reach + b, size - reach + b, 2) for size, b in zip(patches.shape[1:], by, strict=True))
        return _standardised(patches[(slice(None), *inner)])

    target = window(fixed, (0,) * spatial).T
    best = np.full((len(free), len(fixed)), -1.0, dtype=np.float32)
    for steps in product((1, -1), repeat=spatial):
        turned = free[(slice(None), *(slice(None, None, step) for step in steps))]
        for shift in product(range(-reach, reach + 1), repeat=spatial):
            np.maximum(best, window(turned, shift) @ target, out=best)
    return np.sqrt(np.clip(1 - best.astype(np.float64), 0, None))


def _recipients_place(samples: Patches, training: Patches) -> NDArray[np.bool_]:
    """(N, M), where a training patch overlaps the place in its own image where the sample was inserted."""
    recipients = np.array([origin.recipient or "" for origin in samples.origins])
    centres, others = (np.array([origin.centre for origin in each.origins]) for each in (samples, training))
    overlap = (np.abs(centres[:, None] - others) < max(samples.images.shape[1:])).all(axis=2)
    return np.asarray((recipients[:, None] == training.groups) & overlap)


def _standardised(patches: Floats) -> Floats:
    """(N, D): each patch without its mean and at length 1; without contrast it is 0."""
    flat = patches.reshape(len(patches), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-6))
