"""What a translation from another modality to CT must beat: one constant, and a map from MR intensity to HU.

Both are read from one joint histogram of source bins and HU per subject, so that any subject can be left out again.
"""

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import sparse

from medgan.errors import DataError
from medgan.evaluation.baselines import HIGHEST_HU, LOWEST_HU
from medgan.evaluation.fidelity import Array, Mask

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
