"""What a translator must beat: the untouched input, and the best map from intensity to intensity."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import sparse

from medgan.errors import DataError
from medgan.evaluation.fidelity import Array, Mask

Counts = NDArray[np.int64]

LOWEST_HU, HIGHEST_HU = -1024, 3072
BIN_HU = 8
"""Width of the source-intensity bins of a look-up for pairs."""
CHANGE_HU, CHANGE_BIN_HU = 1024, 2
"""Changes are counted to the nearest 2 HU; those beyond 1024 HU count as 1024, which moves no median below it."""
SHAPE = ((HIGHEST_HU - LOWEST_HU) // BIN_HU, 2 * CHANGE_HU // CHANGE_BIN_HU + 1)

Volumes = Iterable[tuple[Array, Array, Mask]]


def do_nothing(source: Array) -> Array:
    """The input itself: often closer to the truth than a translation of it."""
    return source


@dataclass(frozen=True)
class IntensityLookup:
    """One change of intensity for each source intensity, wherever the voxel lies.

    What it reaches needs no knowledge of anatomy; a translator is worth what it reaches beyond it.
    """

    source_hu: NDArray[np.float64]
    """Source intensities with a known change, ascending, (n,)."""
    change_hu: NDArray[np.float64]
    """What is added to each of them, (n,)."""

    @classmethod
    def fit(cls, pairs: Volumes) -> Self:
        """The look-up with the least absolute error on pairs: for each source intensity the median change.

        Args:
            pairs: Source, reference and mask of each training pair, (X, Y, Z) each, on one grid, in HU.

        Raises:
            DataError: There is no voxel to learn from.
        """
        return cls.from_counts(sum((count_changes(*pair) for pair in pairs), start=np.zeros(SHAPE, dtype=np.int64)))

    @classmethod
    def from_counts(cls, counts: Counts) -> Self:
        """The look-up for pairs that are known by ``count_changes`` only; counts of several pairs add up."""
        seen = _seen(counts.sum(axis=1))
        below = np.cumsum(counts[seen], axis=1)
        median = np.argmax(2 * below >= below[:, -1:], axis=1)
        centres: NDArray[np.float64] = LOWEST_HU + BIN_HU * (np.arange(len(counts), dtype=np.float64) + 0.5)
        return cls(centres[seen], median * float(CHANGE_BIN_HU) - CHANGE_HU)

    @classmethod
    def match(cls, source_counts: Counts, reference_counts: Counts) -> Self:
        """The look-up for unpaired data: each source intensity goes to the reference intensity of the same rank.

        Args:
            source_counts: ``count_intensities`` of the source domain, summed over subjects.
            reference_counts: The same of the target domain.

        Raises:
            DataError: One of the domains has no voxel.
        """
        centres: NDArray[np.float64] = LOWEST_HU + np.arange(len(source_counts), dtype=np.float64) + 0.5
        seen, known = _seen(source_counts), _seen(reference_counts)
        matched = np.interp(_mid_ranks(source_counts)[seen], _mid_ranks(reference_counts)[known], centres[known])
        return cls(centres[seen], matched - centres[seen])

    def __call__(self, source: Array) -> NDArray[np.float32]:
        """The source mapped, in HU; between known intensities the change is linear, beyond them constant."""
        return (source + np.interp(source, self.source_hu, self.change_hu)).astype(np.float32)


def count_changes(source: Array, reference: Array, mask: Mask) -> Counts:
    """How often each change of intensity goes with each source intensity, ``SHAPE``: (source bins, changes)."""
    start = source[mask].astype(np.float64)
    change = np.clip(reference[mask] - start, -CHANGE_HU, CHANGE_HU)
    row = np.clip((start - LOWEST_HU) // BIN_HU, 0, SHAPE[0] - 1).astype(np.int64)
    column = np.rint((change + CHANGE_HU) / CHANGE_BIN_HU).astype(np.int64)
    return np.bincount(row * SHAPE[1] + column, minlength=SHAPE[0] * SHAPE[1]).reshape(SHAPE)


def count_intensities(volume: Array, mask: Mask) -> Counts:
    """How often each intensity occurs inside the mask, in bins of 1 HU from -1024, (4096,)."""
    place = np.clip(np.floor(volume[mask]) - LOWEST_HU, 0, HIGHEST_HU - LOWEST_HU - 1)
    return np.bincount(place.astype(np.int64), minlength=HIGHEST_HU - LOWEST_HU)


class PairedLookups:
    """Look-ups for pairs, each fitted on all subjects but the one that it is judged on."""

    def __init__(self) -> None:
        # Sparse: of half a million cells a subject fills some ten thousand.
        self._total = sparse.csr_array(SHAPE, dtype=np.int64)
        self._own: dict[str, sparse.csr_array] = {}

    def add(self, subject: str, source: Array, reference: Array, mask: Mask) -> None:
        """Learn from one pair of a subject."""
        counts = sparse.csr_array(count_changes(source, reference, mask))
        self._total = self._total + counts
        self._own[subject] = self._own[subject] + counts if subject in self._own else counts

    def without(self, subject: str) -> IntensityLookup:
        """The look-up of all other subjects.

        Raises:
            DataError: There is no other subject.
        """
        others = self._total - self._own[subject] if subject in self._own else self._total
        return IntensityLookup.from_counts(others.toarray())


class UnpairedLookups:
    """Histogram matching from the sources of all subjects but one to the references of all subjects but that one."""

    def __init__(self) -> None:
        self._sources: dict[str, Counts] = {}
        self._references: dict[str, Counts] = {}

    def add_source(self, subject: str, volume: Array, mask: Mask) -> None:
        """Learn from one image of the source domain."""
        self._sources[subject] = self._sources.get(subject, 0) + count_intensities(volume, mask)

    def add_reference(self, subject: str, volume: Array, mask: Mask) -> None:
        """Learn from one image of the target domain."""
        self._references[subject] = self._references.get(subject, 0) + count_intensities(volume, mask)

    def without(self, subject: str) -> IntensityLookup:
        """The look-up of all other subjects.

        Raises:
            DataError: One of the domains has no other subject.
        """
        sources, references = (
            sum((c for s, c in counts.items() if s != subject), start=np.zeros(HIGHEST_HU - LOWEST_HU, dtype=np.int64))
            for counts in (self._sources, self._references)
        )
        return IntensityLookup.match(sources, references)


def _mid_ranks(counts: Counts) -> NDArray[np.float64]:
    return np.asarray((np.cumsum(counts) - counts / 2) / counts.sum(), dtype=np.float64)


def _seen(counts: Counts) -> NDArray[np.bool_]:
    seen = np.asarray(counts > 0)
    if not seen.any():
        raise DataError(
            "there is no voxel to fit an intensity look-up on; it needs another subject, and masks that are not empty."
        )
    return seen


LOOKUP, LOOKUP_MEDIAN, CONSTANT = "intensity_lookup", "intensity_lookup_median", "constant"

BINS = 128
PERCENTILES = (0.5, 99.5)
"""Of a source's intensities; they bound its bins, since its unit is arbitrary."""

LEVELS_HU = LOWEST_HU + np.arange(HIGHEST_HU - LOWEST_HU, dtype=np.float64)
"""The HU that are counted apart; what lies beyond counts as the last."""

Bins = NDArray[np.int64]
Hounsfield = NDArray[np.float32]


def source_bins(source: Array | None, shape: tuple[int, ...]) -> Bins:
    """The bin of each voxel, 0 to 127 between the source's percentiles; 0 everywhere without a source, (X, Y, Z)."""
    if source is None:
        return np.zeros(shape, dtype=np.int64)
    lower, upper = np.percentile(source, PERCENTILES)
    scaled = (source - lower) / max(upper - lower, np.finfo(np.float32).tiny)
    return np.asarray(np.minimum(np.clip(scaled, 0, 1) * BINS, BINS - 1), dtype=np.int64)


@dataclass(frozen=True)
class CrossingLookup:
    """The HU that the references have in each bin of source intensity, wherever the voxel lies."""

    mean_hu: NDArray[np.float64]
    """The mean of each bin, (128,): of all such maps the one with the least squared error."""
    median_hu: NDArray[np.float64]
    """The median of each bin, (128,): the one with the least absolute error, at the cost of rare tissues like bone."""
    constant_hu: float
    """The median of all voxels."""

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> "CrossingLookup":
        """The look-up of a joint histogram (128, HU); bins without a voxel are filled in from their neighbours.

        Raises:
            DataError: There is no voxel.
        """
        voxels = counts.sum(axis=1)
        seen = np.flatnonzero(voxels)
        if not seen.size:
            raise DataError(
                "there is no voxel to fit a constant or an intensity look-up on; it needs another subject, or "
                "--training with the cohort that was trained on."
            )
        means = counts[seen] @ LEVELS_HU / voxels[seen]
        mean, median = (np.interp(np.arange(BINS), seen, values) for values in (means, _medians(counts[seen])))
        return cls(mean, median, float(_medians(counts.sum(axis=0)[None])[0]))

    def arms(self, source: Array | None, shape: tuple[int, ...]) -> dict[str, Hounsfield]:
        """The volumes (X, Y, Z) of every baseline by name; without a source the constant only."""
        constant = {CONSTANT: np.full(shape, self.constant_hu, dtype=np.float32)}
        if source is None:
            return constant
        bins = source_bins(source, shape)
        maps = {LOOKUP: self.mean_hu, LOOKUP_MEDIAN: self.median_hu}
        return {name: hu[bins].astype(np.float32) for name, hu in maps.items()} | constant


class CrossingLookups:
    """Look-ups from pairs, each fitted on all subjects but the one that it is judged on."""

    def __init__(self) -> None:
        shape = (BINS, len(LEVELS_HU))
        self._total = sparse.csr_array(shape, dtype=np.int64)
        self._own: dict[str, sparse.csr_array] = {}

    def add(self, subject: str, source: Array | None, reference: Array, where: Mask) -> None:
        """Learn from one pair of a subject, or without a source the constant only."""
        place = np.clip(np.rint(reference[where]) - LOWEST_HU, 0, len(LEVELS_HU) - 1).astype(np.int64)
        joint = source_bins(source, reference.shape)[where] * len(LEVELS_HU) + place
        counts = np.bincount(joint, minlength=BINS * len(LEVELS_HU)).reshape(BINS, -1)
        added = sparse.csr_array(counts)
        self._total = self._total + added
        self._own[subject] = self._own[subject] + added if subject in self._own else added

    def without(self, subject: str) -> CrossingLookup:
        """The look-up of all other subjects.

        Raises:
            DataError: There is no other subject.
        """
        others = self._total - self._own[subject] if subject in self._own else self._total
        return CrossingLookup.from_counts(others.toarray())


def shifted(volume: Array, affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """A true image moved by one voxel along left-right: what an error of registration of one voxel costs by itself.

    The edge is repeated. Where the left-right axis has one voxel only (a sagittal slice), the first longer axis.

    Args:
        volume: (X, Y, Z).
        affine: (4, 4), voxel index → RAS+ mm.
    """
    world_axes = io_orientation(affine)[:, 0]
    order = np.argsort(world_axes)
    axis = next((int(a) for a in order if volume.shape[a] > 1), 0)
    places = np.maximum(np.arange(volume.shape[axis]) - 1, 0)
    return np.take(volume, places, axis=axis).astype(np.float32)


def _medians(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    below = np.cumsum(counts, axis=1)
    return np.asarray(LEVELS_HU[np.argmax(2 * below >= below[:, -1:], axis=1)])
