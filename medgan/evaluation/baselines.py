"""What a translator must beat: the best map from intensity to intensity, one constant, and the truth moved by a voxel.

What such a map reaches needs no knowledge of anatomy; a translator is worth what it reaches beyond it. Each is fitted
on all subjects but the one that it is judged on: histograms are kept by subject, so that any can be left out again.
"""

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import sparse

from medgan.errors import DataError
from medgan.evaluation.fidelity import Array, Mask

LOOKUP, LOOKUP_MEDIAN, CONSTANT = "intensity_lookup", "intensity_lookup_median", "constant"

LOWEST_HU, HIGHEST_HU = -1024, 3072
LEVELS_HU = np.arange(LOWEST_HU, HIGHEST_HU, dtype=np.float64)
"""The HU that are counted apart; what lies beyond counts as the last."""
BIN_HU = 8
"""Width of the source-intensity bins of a look-up for pairs."""
CHANGE_HU, CHANGE_BIN_HU = 1024, 2
"""Changes are counted to the nearest 2 HU; those beyond 1024 HU count as 1024, which moves no median below it."""
BINS = 128
"""Of the intensities of a source without HU."""
PERCENTILES = (0.5, 99.5)
"""Of a source's intensities; they bound its bins, since its unit is arbitrary."""

Counts = NDArray[np.int64]
Hounsfield = NDArray[np.float32]


@dataclass(frozen=True)
class _IntensityLookup:
    """One change of intensity for each source intensity, wherever the voxel lies."""

    source_hu: NDArray[np.float64]
    """Source intensities with a known change, ascending, (n,)."""
    change_hu: NDArray[np.float64]
    """What is added to each of them, (n,)."""

    def __call__(self, source: Array) -> Hounsfield:
        """The source mapped, in HU; between known intensities the change is linear, beyond them constant."""
        return (source + np.interp(source, self.source_hu, self.change_hu)).astype(np.float32)


class _LeaveOneOut:
    """Joint histograms by subject, of which any can be left out; sparse, as a subject fills few of the cells."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns
        self._total = sparse.csr_array(self._shape, dtype=np.int64)
        self._own: dict[str, sparse.csr_array] = {}

    def count(self, subject: str, rows: Counts, columns: Counts) -> None:
        """Add the voxels of a subject, each by its row and column."""
        cells = np.bincount(rows * self._shape[1] + columns, minlength=self._shape[0] * self._shape[1])
        counts = sparse.csr_array(cells.reshape(self._shape))
        self._total = self._total + counts
        self._own[subject] = self._own[subject] + counts if subject in self._own else counts

    def others(self, subject: str) -> Counts:
        """The counts (rows, columns) of all other subjects, of whom there must be one with a voxel."""
        others = self._total - self._own[subject] if subject in self._own else self._total
        if not others.nnz:
            raise DataError(
                "there is no voxel to fit a constant or an intensity look-up on; it needs another subject, or "
                "--training with the cohort that was trained on, and masks that are not empty."
            )
        return np.asarray(others.toarray())


class PairedLookups(_LeaveOneOut):
    """Look-ups with the least absolute error on pairs: for each source intensity the median change."""

    def __init__(self) -> None:
        super().__init__((HIGHEST_HU - LOWEST_HU) // BIN_HU, 2 * CHANGE_HU // CHANGE_BIN_HU + 1)

    def add(self, subject: str, source: Array, reference: Array, mask: Mask) -> None:
        """Learn from one pair of a subject, (X, Y, Z) each, on one grid, in HU."""
        start = source[mask].astype(np.float64)
        change = np.clip(reference[mask] - start, -CHANGE_HU, CHANGE_HU)
        rows = np.clip((start - LOWEST_HU) // BIN_HU, 0, self._shape[0] - 1).astype(np.int64)
        self.count(subject, rows, np.rint((change + CHANGE_HU) / CHANGE_BIN_HU).astype(np.int64))

    def without(self, subject: str) -> _IntensityLookup:
        """The look-up of all other subjects."""
        counts = self.others(subject)
        known = counts.any(axis=1)
        centres: NDArray[np.float64] = LOWEST_HU + BIN_HU * (np.arange(len(counts), dtype=np.float64) + 0.5)
        change: NDArray[np.float64] = CHANGE_BIN_HU * _medians(counts[known]).astype(np.float64) - CHANGE_HU
        return _IntensityLookup(centres[known], change)


class _Histogram(_LeaveOneOut):
    """How often each intensity occurs, in bins of 1 HU from -1024."""

    def __init__(self) -> None:
        super().__init__(1, len(LEVELS_HU))

    def add(self, subject: str, volume: Array, mask: Mask) -> None:
        """Learn from one image (X, Y, Z)."""
        place = np.clip(np.floor(volume[mask]) - LOWEST_HU, 0, len(LEVELS_HU) - 1).astype(np.int64)
        self.count(subject, np.zeros_like(place), place)


class UnpairedLookups:
    """Histogram matching: each source intensity goes to the reference intensity of the same rank."""

    def __init__(self) -> None:
        self.sources, self.references = _Histogram(), _Histogram()

    def without(self, subject: str) -> _IntensityLookup:
        """The look-up of all other subjects."""
        counts = [histogram.others(subject)[0] for histogram in (self.sources, self.references)]
        source, reference = (LEVELS_HU[own > 0] + 0.5 for own in counts)
        ranks, known = (((np.cumsum(own) - own / 2) / own.sum())[own > 0] for own in counts)
        return _IntensityLookup(source, np.interp(ranks, known, reference) - source)


@dataclass(frozen=True)
class _CrossingLookup:
    """The HU that the references have in each bin of another modality's intensity."""

    mean_hu: NDArray[np.float64]
    """The mean of each bin, (128,): of all such maps the one with the least squared error."""
    median_hu: NDArray[np.float64]
    """The median of each bin, (128,): the one with the least absolute error, at the cost of rare tissues like bone."""
    constant_hu: float
    """The median of all voxels."""

    def arms(self, source: Array | None, shape: tuple[int, ...]) -> dict[str, Hounsfield]:
        """The volumes (X, Y, Z) of every baseline by name; without a source the constant only."""
        constant = {CONSTANT: np.full(shape, self.constant_hu, dtype=np.float32)}
        if source is None:
            return constant
        bins = _source_bins(source, shape)
        maps = {LOOKUP: self.mean_hu, LOOKUP_MEDIAN: self.median_hu}
        return {name: hu[bins].astype(np.float32) for name, hu in maps.items()} | constant


class CrossingLookups(_LeaveOneOut):
    """Look-ups from the intensity of another modality to HU, and the best constant."""

    def __init__(self) -> None:
        super().__init__(BINS, len(LEVELS_HU))

    def add(self, subject: str, source: Array | None, reference: Array, where: Mask) -> None:
        """Learn from one pair of a subject, or without a source the constant only."""
        columns = np.clip(np.rint(reference[where]) - LOWEST_HU, 0, len(LEVELS_HU) - 1).astype(np.int64)
        self.count(subject, _source_bins(source, reference.shape)[where], columns)

    def without(self, subject: str) -> _CrossingLookup:
        """The look-up of all other subjects; bins without a voxel are filled in from their neighbours."""
        counts = self.others(subject)
        voxels = counts.sum(axis=1)
        known = np.flatnonzero(voxels)
        own = counts[known]
        bins = (own @ LEVELS_HU / voxels[known], LEVELS_HU[_medians(own)])
        mean, median = (np.interp(np.arange(BINS), known, values) for values in bins)
        return _CrossingLookup(mean, median, float(LEVELS_HU[_medians(counts.sum(axis=0)[None])[0]]))


def shifted(volume: Array, affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """A true image moved by one voxel along left-right: what an error of registration of one voxel costs by itself.

    The edge is repeated. Where the left-right axis has one voxel only (a sagittal slice), the first longer axis.
    ``volume`` is (X, Y, Z), ``affine`` (4, 4) leads from voxel indices to RAS+ mm.
    """
    order = np.argsort(io_orientation(affine)[:, 0])
    axis = next((int(a) for a in order if volume.shape[a] > 1), 0)
    places = np.maximum(np.arange(volume.shape[axis]) - 1, 0)
    return np.take(volume, places, axis=axis).astype(np.float32)


def _source_bins(source: Array | None, shape: tuple[int, ...]) -> Counts:
    """The bin of each voxel, 0 to 127 between the source's percentiles; 0 everywhere without a source, (X, Y, Z)."""
    if source is None:
        return np.zeros(shape, dtype=np.int64)
    lower, upper = np.percentile(source, PERCENTILES)
    scaled = (source - lower) / max(upper - lower, np.finfo(np.float32).tiny)
    return np.asarray(np.minimum(np.clip(scaled, 0, 1) * BINS, BINS - 1), dtype=np.int64)


def _medians(counts: Counts) -> NDArray[np.intp]:
    """The column of the median of each row's counts."""
    below = np.cumsum(counts, axis=1)
    return np.asarray(np.argmax(2 * below >= below[:, -1:], axis=1))
