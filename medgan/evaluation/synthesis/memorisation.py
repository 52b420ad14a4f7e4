"""Whether samples are copies of training patches: their nearest ones, measured by how near real patches come."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import binom

from medgan.data.streams import replacing
from medgan.evaluation.synthesis.patches import Floats, Patches, smooth
from medgan.pictures.tiles import Row, Tile, outlines_of, sheet
from medgan.pictures.views import view
from medgan.pictures.windows import DisplayWindow

PERCENTILE = 5.0
"""Share of real patches of other subjects, which are no copies, that lie nearer than the threshold."""
CERTAIN = 0.5
"""A sample that is nearer than this share of the smallest real distance is a copy whatever chance allows."""
REACH = {2: 2, 3: 1}
"""By how many voxels a copy may be shifted along each axis, in 2D and 3D; what is cut around a lesion is centred."""
STRIDE = {2: 1, 3: 2}
"""Of blocks every other voxel is enough, smoothed as they are, and takes an eighth of the time."""
RIM, FEWEST_VOXELS = 2, 40
"""Voxels around a lesion that are looked at with it; and how few of both together say nothing."""
FLAT = 1e-4
"""Variance, of images in [-1, 1], below which there is no contrast."""
SURE = 0.01
"""More copies than chance allows: they would be so many less often than this."""

MOST, COLUMNS = 30, 3
"""Pairs on a contact sheet, and in a row of it."""
GREY = DisplayWindow("range of the network", -1.0, 1.0, "")
SUSPECT = "#DC1E1E"
"""The frame of a pair whose sample is suspected to be a copy."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of N samples its nearest training patch of another subject, (N,) each."""

    which: NDArray[np.intp]
    distance: NDArray[np.float64]
    """0 for a copy; infinite where there is none to compare with."""
    ratio: NDArray[np.float64]
    """To the distance of the nearest patch of any other lesion: near 1 where nothing is special about it."""


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

    def suspects(self, pairs: Nearest) -> NDArray[np.bool_]:
        """(N,), the samples nearer than real ones come, and clearly nearer than to any other lesion.

        The second keeps smooth samples from suspicion, which are a little nearer to everything.
        """
        near = (pairs.distance < self.distance) & (pairs.ratio < self.ratio)
        return np.asarray(near | self.certainly(pairs))

    def certainly(self, pairs: Nearest) -> NDArray[np.bool_]:
        """(N,), the samples that are copies without doubt."""
        return np.asarray(pairs.distance < self.certain)

    def verdict(self, pairs: Nearest) -> str:
        """One line: whether one sample is certainly a copy, or more are near training patches than real ones are."""
        suspects, certain = int(self.suspects(pairs).sum()), int(self.certainly(pairs).sum())
        share = f"{suspects} of {len(pairs.distance)} samples ({suspects / len(pairs.distance):.0%})"
        if certain or float(binom.sf(suspects - 1, len(pairs.distance), PERCENTILE / 100)) < SURE:
            beyond = f", {certain} of them beyond doubt" if certain else ""
            what = f"{share} are copies of training patches{beyond}"
            return f"Memorisation: COPIES. {what}; see nearest.png and nearest.csv."
        return (
            f"Memorisation: none found. {share} lie nearer to a training patch than {100 - PERCENTILE:.0f} % of other "
            f"subjects' real patches do; by chance up to {PERCENTILE:.0f} % would."
        )


def nearest(samples: Patches, training: Patches, *, real: bool) -> Nearest:
    """The nearest training patch of each sample, which may be shifted, mirrored, noisy or of other contrast.

    Only the sample's lesion and its rim are looked at, since what surrounds an inserted lesion is somebody else's.
    Patches of the recipient that reach into the sample's place are no candidates: what surrounds the lesion is alike
    there by construction. Nor are, for samples that are ``real`` themselves, patches of their own subject.
    """
    distances = _aligned_distances(samples.images, training.images, _lesion_and_rim(samples))
    distances[_recipients_place(samples, training)] = np.inf
    if real:
        distances[samples.groups[:, None] == training.groups] = np.inf
    which = distances.argmin(axis=1)
    first = distances.min(axis=1)
    lesions = training.lesions
    second = np.where(lesions[which][:, None] == lesions, np.inf, distances).min(axis=1)
    ratio = np.divide(first, second, out=np.ones_like(first), where=np.isfinite(second) & (second > 0))
    return Nearest(which, first, ratio)


def _aligned_distances(one: Floats, other: Floats, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, M), each patch of ``one`` to each of ``other``: the root of one minus the highest correlation.

    Correlated are the smoothed patches, of blocks every other voxel, over all mirrorings and shifts of up to ``REACH``;
    gain and offset play no part. What has no contrast is at distance 1. Of ``one`` the voxels ``where`` count.
    """
    free, fixed, weights = smooth(one), smooth(other), where.astype(np.float32)
    spatial = free.ndim - 1
    reach, stride = REACH[spatial], STRIDE[spatial]

    def window(patches: Floats, by: tuple[int, ...]) -> Floats:
        inner = (slice(reach + b, size - reach + b, stride) for size, b in zip(patches.shape[1:], by, strict=True))
        cut = patches[(slice(None), *inner)]
        return cut.reshape(len(cut), -1)

    target = window(fixed, (0,) * spatial)
    best = np.full((len(free), len(fixed)), -1.0, dtype=np.float32)
    for steps in product((1, -1), repeat=spatial):
        turned, mask = (each[(slice(None), *(slice(None, None, step) for step in steps))] for each in (free, weights))
        for shift in product(range(-reach, reach + 1), repeat=spatial):
            np.maximum(best, _correlation(window(turned, shift), window(mask, shift), target), out=best)
    return np.sqrt(np.clip(1 - best.astype(np.float64), 0, None))


def _correlation(one: Floats, weights: Floats, other: Floats) -> Floats:
    """(N, M), Pearson's correlation of patches (N, D) and (M, D) over the voxels that weights (N, D) mark."""
    count = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    deviations = weights * (one - (weights * one).sum(axis=1, keepdims=True) / count)
    spread = (deviations**2).sum(axis=1, keepdims=True)
    others = np.clip(weights @ (other**2).T - (weights @ other.T) ** 2 / count, 0, None)
    scale = np.sqrt(spread * others)
    correlation = np.divide(deviations @ other.T, scale, out=np.zeros_like(scale), where=scale > FLAT * count)
    return np.asarray(np.clip(correlation, -1, 1))


def _lesion_and_rim(samples: Patches) -> NDArray[np.bool_]:
    """(N, *shape), what is labelled and two voxels around it; all of a patch in which little or nothing is."""
    spatial = samples.labels.ndim - 1
    cross = ndimage.generate_binary_structure(spatial, 1)[None]
    masks = ndimage.binary_dilation(samples.labels > 0, cross, iterations=RIM)
    masks[masks.reshape(len(samples), -1).sum(axis=1) < FEWEST_VOXELS] = True
    return np.asarray(masks)


def _recipients_place(samples: Patches, training: Patches) -> NDArray[np.bool_]:
    """(N, M), where a training patch overlaps the place in its own image where the sample was inserted."""
    recipients = np.array([origin.recipient or "" for origin in samples.origins])
    centres, others = (np.array([origin.centre for origin in each.origins]) for each in (samples, training))
    overlap = (np.abs(centres[:, None] - others) < max(samples.images.shape[1:])).all(axis=2)
    return np.asarray((recipients[:, None] == training.groups) & overlap)


def contact_sheet(
    samples: Patches, training: Patches, pairs: Nearest, suspects: NDArray[np.bool_], order: Sequence[int], path: Path
) -> None:
    """Write pairs of a sample, on the left, and its nearest training patch as PNG; of blocks the middle slice.

    The first 30 samples in ``order`` are shown; pairs of ``suspects``, (N,), are framed in red.
    """
    tiles = []
    for number in order[:MOST]:
        nearest_one, frame = int(pairs.which[number]), SUSPECT if suspects[number] else ""
        title = f"sample {number + 1}" + (": suspected copy" if frame else "")
        for patches, at, name in ((samples, number, title), (training, nearest_one, "nearest training patch")):
            labels = view(_block(patches.labels[at])).pixels
            outlines = outlines_of(labels, [""] * int(labels.max()))
            tiles.append(Tile(view(_block(patches.images[at])), GREY, name, outlines, frame))
    rows = [Row(tiles[first : first + 2 * COLUMNS]) for first in range(0, len(tiles), 2 * COLUMNS)]
    with replacing(path) as stream:
        stream.write(sheet(rows, "samples, each beside its nearest training patch").png())


def _block(patch: NDArray[Any]) -> NDArray[Any]:
    """A patch (*shape) as (X, Y, Z)."""
    return patch if patch.ndim == 3 else patch[..., None]
