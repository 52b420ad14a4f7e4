"""Blobs in a translation that its input does not explain, and blobs of the input that left no trace.

What is explained: first by intensity, since a translation maps each tissue's intensity to another, the same everywhere;
then by structure, since a vessel or an organ may change more than others of its intensity. The rest is smoothed to the
size of lesions, and what is larger is taken away. Its scale is the spread of such a rest at places where the *input*
has a structure of that size and strength. So a score says how odd a place is beside others of the same image that look
alike in the input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from medgan.data.masks import boxes, components
from medgan.data.preparation import eroded_in_plane
from medgan.evaluation.fidelity import Array, Mask

SIGMAS_MM = (3.0, 5.0, 8.0)
"""Of the Gaussians, for lesions of about 8 to 30 mm across."""
AROUND = 3.0
"""How many times wider the neighbourhood is that a place is compared with."""
INTENSITY_BINS, STRUCTURE_BINS = 96, 24
TAILS = (0.001, 0.005, 0.01, 0.99, 0.995, 0.999)
"""Further quantiles at which bins end: the strongest structures are few, and the most variable."""
MOST_SAMPLES = 1 << 21
"""Voxels that quantiles are taken of."""
CLIP = 8.0
"""Robust standard deviations to which a single voxel counts."""
FLOOR = 5.0
"""The lowest score that is looked at."""
SMALLEST_ML = 0.1
"""Of what exceeds the score that is looked at."""
LEAST_COVER = 1e-3
FINEST_MM = 1.5
"""Finer voxels are averaged to about this size."""
RIM_MM = 3.0
"""How far from the skin places are looked for: there a shift of half a voxel is a large change."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Relation:
    """What a translation shows where its input has an intensity."""

    intensity: NDArray[np.float64]
    """Of the input, ascending, (n,)."""
    median: NDArray[np.float64]
    """Of the translation there, (n,)."""
    spread: NDArray[np.float64]
    """Half the distance of its 16th and 84th percentile, (n,): a standard deviation of what is normal."""

    @classmethod
    def of(cls, key: NDArray[np.floating], values: NDArray[np.floating], bins: int) -> "Relation":
        """The medians of values (N,) by quantiles of a key (N,); of very many, of every n-th."""
        step = -(-key.size // MOST_SAMPLES)
        key, values = key[::step], values[::step]
        shares = np.sort([*np.linspace(0, 1, bins + 1)[1:-1], *TAILS])
        own = np.digitize(key, np.unique(np.quantile(key, shares)))
        order = np.lexsort((values, own))
        numbers, first = np.unique(own[order], return_index=True)
        last = np.append(first[1:], own.size) - 1
        ordered = values[order].astype(np.float64)
        low, median, high = (ordered[(first + share * (last - first)).astype(int)] for share in (0.16, 0.5, 0.84))
        return cls(ndimage.mean(key, own, numbers), median, (high - low) / 2)

    @classmethod
    def mean(cls, relations: "Sequence[Relation]") -> "Relation":
        """Of several subjects."""
        at = np.unique(np.concatenate([each.intensity for each in relations]))
        median = np.median([np.interp(at, each.intensity, each.median) for each in relations], axis=0)
        spread = np.median([np.interp(at, each.intensity, each.spread) for each in relations], axis=0)
        return cls(at, median, spread)

    def rest(self, key: NDArray[np.floating], values: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """What of values (N,) the key (N,) does not explain, in their unit and in robust standard deviations."""
        rest = values - np.interp(key, self.intensity, self.median)
        floor = max(float(np.median(self.spread)) / 10, float(np.finfo(np.float32).tiny))
        scaled = rest / np.maximum(np.interp(key, self.intensity, self.spread), floor)
        return rest.astype(np.float32), scaled.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Blob:
    """A place that is not explained."""

    voxels: NDArray[np.intp]
    """(N, 3)."""
    score: float
    """The highest of its voxels, in robust standard deviations of places that look alike in the input."""
    contrast: float
    """How much brighter the translation is than explained, in its unit, beside its neighbourhood."""
    source_contrast: float
    """How much brighter the input is there than its neighbourhood: as a lesion that was erased is, or an organ."""


def unexplained(
    source: Array, synthetic: Array, inside: Mask, spacing_mm: Sequence[float], relation: Relation | None = None
) -> list[Blob]:
    """All blobs with a score of ``FLOOR`` and more, the highest first; images are (X, Y, Z) on one grid.

    ``relation`` is how intensities map, of other subjects; by default it is that of this pair.
    """
    factor = np.maximum(np.rint(FINEST_MM / np.asarray(spacing_mm)), 1).astype(int)
    if factor.max() > 1:  # the same in blocks of voxels: lesions are larger, and a whole CT is not
        before, after = (block_reduce(each, tuple(factor), np.mean) for each in (source, synthetic))
        whole = block_reduce(inside, tuple(factor), np.min)
        blobs = unexplained(before, after, whole, (factor * spacing_mm).tolist(), relation)
        block = np.argwhere(np.ones(factor))
        return [replace(each, voxels=(each.voxels[:, None] * factor + block).reshape(-1, 3)) for each in blobs]
    rim = max(1, round(RIM_MM / min(spacing_mm)))
    inside = eroded_in_plane(inside, rim)
    if not inside.any():
        return []
    box = boxes(inside.astype(np.int32))[0]
    corner = np.array([part.start for part in box])
    where, cover = inside[box], inside[box].astype(np.float32)
    before = np.asarray(source[box], dtype=np.float32)
    before = np.clip(before, *np.percentile(before[where], (0.1, 99.9)))
    after = np.asarray(synthetic[box], dtype=np.float32)
    relation = relation or Relation.of(before[where], after[where], INTENSITY_BINS)
    rest, scaled = np.zeros_like(before), np.zeros_like(before)
    rest[where], own = relation.rest(before[where], after[where])
    scaled[where] = np.clip(own, -CLIP, CLIP)
    best, scale = np.zeros_like(before), np.zeros(before.shape, dtype=np.intp)
    for number, sigma in enumerate(SIGMAS_MM):
        structure = beside_neighbourhood(before, cover, sigma, spacing_mm)[where]
        odd = beside_neighbourhood(scaled, cover, sigma, spacing_mm)[where]
        score = np.zeros_like(before)
        score[where] = Relation.of(structure, odd, STRUCTURE_BINS).rest(structure, odd)[1]
        higher = np.abs(score) > np.abs(best)
        best[higher], scale[higher] = score[higher], number
    blobs = sorted(_blobs(best, scale, (rest, before), cover, spacing_mm), key=lambda blob: -blob.score)
    return [replace(blob, voxels=blob.voxels + corner) for blob in blobs]


def beside_neighbourhood(image: Floats, inside: Floats, sigma_mm: float, spacing_mm: Sequence[float]) -> Floats:
    """An image (X, Y, Z) smoothed within a mask of 0 and 1, minus the same in a wider neighbourhood."""

    def smoothed(sigma: float) -> NDArray[np.float32]:
        voxels = sigma / np.asarray(spacing_mm)
        cover = ndimage.gaussian_filter(inside, voxels, truncate=3)
        return np.asarray(ndimage.gaussian_filter(image * inside, voxels, truncate=3) / np.maximum(cover, LEAST_COVER))

    return smoothed(sigma_mm) - smoothed(AROUND * sigma_mm)


def _blobs(
    best: Floats, scale: NDArray[np.intp], images: tuple[Floats, Floats], inside: Floats, spacing_mm: Sequence[float]
) -> Iterator[Blob]:
    """The connected parts of one sign above the floor; of each, what exceeds half of its highest score."""
    ml = float(np.prod(spacing_mm)) / 1000
    contrasts: dict[int, tuple[Floats, Floats]] = {}
    for sign in (1, -1):
        parts, _ = components(sign * best >= FLOOR)
        for number, box in enumerate(boxes(parts), start=1):
            own = np.where(parts[box] == number, sign * best[box], 0)
            corner = np.array([part.start for part in box])
            if np.count_nonzero(own) * ml < SMALLEST_ML:
                continue
            peak = tuple(np.unravel_index(np.argmax(own), own.shape) + corner)
            size = int(scale[peak])
            if size not in contrasts:
                one, other = (beside_neighbourhood(each, inside, SIGMAS_MM[size], spacing_mm) for each in images)
                contrasts[size] = one, other
            contrast, source_contrast = (float(each[peak]) for each in contrasts[size])
            core = np.argwhere(own >= own.max() / 2) + corner
            yield Blob(core, float(own.max()), contrast, source_contrast)
