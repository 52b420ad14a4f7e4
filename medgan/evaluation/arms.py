"""The arms of an evaluation: the synthetic images, and beside them what needs no network and a translator must beat.

That is the best map from intensity to intensity, one constant, and the truth moved by a voxel: what such a map reaches
needs no knowledge of anatomy. Each is fitted on all subjects but the one that it is judged on: histograms are kept by
subject, so that any can be left out again. Cases are read twice, therefore; memory holds one case at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import sparse

from medgan.data.volumes import read_volume
from medgan.errors import DataError, MedganError
from medgan.evaluation import tissues
from medgan.evaluation.fidelity import Array, Mask, body_mask
from medgan.evaluation.judging import ALL_CT, CaseScans, Figures, LabelNames, Modalities
from medgan.evaluation.matching import Case, Failure, Image

SYNTHETIC, DO_NOTHING, REAL, SHIFTED = "synthetic", "do_nothing", "real", "true_shifted"
LOOKUP, LOOKUP_MEDIAN, CONSTANT = "intensity_lookup", "intensity_lookup_median", "constant"
DISTANCE = "soft_tissue_distance_hu"

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

Item = TypeVar("Item", Case, Image)
Counts = NDArray[np.int64]
Hounsfield = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


class Pairs:
    """Every arm against the true image of the same subject.

    Only between CT and CT, or MR and MR, doing nothing is an arm. If ``trained``, the look-ups learn from other cases,
    given to ``learn``, and not from the judged ones.
    """

    def __init__(self, names: LabelNames | None, modalities: Modalities = ALL_CT, *, trained: bool = False) -> None:
        self._names, self._modalities, self._trained = names, modalities, trained
        self._lookups = _PairedLookups()
        self._crossings, self._core_crossings = CrossingLookups(), CrossingLookups()

    def learn(self, case: Case) -> list[Figures]:
        """A training case teaches the look-ups, and is not judged."""
        self._learn_from(case, CaseScans(case, None, self._modalities))
        return []

    def without_training(self, case: Case) -> list[Figures]:
        """The synthetic image and the arms that need no other subject; the look-ups learn from the pair."""
        scans = CaseScans(case, self._names, self._modalities)
        rows = [_against_truth(case, SYNTHETIC, scans.synthetic, scans) | scans.map_figures()]
        if not self._trained:
            self._learn_from(case, scans)
        if scans.source is not None and self._modalities.source == self._modalities.reference:
            rows.append(_against_truth(case, DO_NOTHING, scans.source, scans))
        if not self._modalities.hounsfield:
            rows.append(_against_truth(case, SHIFTED, shifted(scans.truth, scans.grid.affine), scans))
        return rows

    def looked_up(self, case: Case) -> list[Figures]:
        """What is learnt from the other subjects: the source mapped by a look-up and, from MR to CT, a constant.

        From MR to CT they are fitted to each region by itself, so that they are as good as they can be in both.
        """
        scans = CaseScans(case, self._names, self._modalities)
        source = scans.source
        if self._modalities.hounsfield:
            assert source is not None
            return [_against_truth(case, LOOKUP, self._lookups.without(case.subject)(source), scans)]
        everywhere, in_core = (
            lookups.without(case.subject).arms(source, scans.synthetic.shape)
            for lookups in (self._crossings, self._core_crossings)
        )
        return [_row(case, arm) | scans.errors(volume, in_core[arm]) for arm, volume in everywhere.items()]

    def _learn_from(self, case: Case, scans: CaseScans) -> None:
        if not self._modalities.hounsfield and self._modalities.reference == "CT":
            self._crossings.add(case.subject, scans.source, scans.truth, scans.inside)
            self._core_crossings.add(case.subject, scans.source, scans.truth, scans.core)
        elif self._modalities.hounsfield and scans.source is not None:
            self._lookups.add(case.subject, scans.source, scans.truth, scans.inside)


class Unpaired:
    """Every arm against real images of other subjects: intensities by tissue, and how far apart they are."""

    def __init__(self, names: LabelNames | None, modalities: Modalities = ALL_CT) -> None:
        self._names, self._modalities = names, modalities
        self._lookups = _UnpairedLookups()
        self._samples: dict[tuple[str, str], NDArray[np.float64]] = {}

    def real(self, image: Image) -> list[Figures]:
        """A real image of the target domain, with the tissues that it has itself; the look-ups learn from it."""
        volume = read_volume(image.path).voxels
        inside = body_mask(volume)
        self._lookups.references.add(image.subject, volume, inside)
        return [self._described(image, REAL, volume, tissues.tissue_map(volume, inside))]

    def without_training(self, case: Case) -> list[Figures]:
        """The synthetic image and, where there is a source, the source itself, which the look-ups learn from."""
        scans = CaseScans(case, self._names, self._modalities)
        rows = [self._changed(case, SYNTHETIC, scans.synthetic, scans)]
        if scans.source is not None and self._modalities.hounsfield:
            rows.append(self._changed(case, DO_NOTHING, scans.source, scans))
            self._lookups.sources.add(case.subject, scans.source, scans.inside)
        return rows

    def looked_up(self, case: Case) -> list[Figures]:
        """The source with the histogram of the target domain, both of the other subjects."""
        scans = CaseScans(case, self._names, self._modalities)
        assert scans.source is not None
        return [self._changed(case, LOOKUP, self._lookups.without(case.subject)(scans.source), scans)]

    def add_distances(self, rows: Sequence[Figures]) -> dict[str, float]:
        """Fill in the distance of each row to real images of others; give that of each arm as a whole to all, in HU."""
        real = [row for row in rows if row["arm"] == REAL]
        subjects = {row["subject"] for row in rows}
        others = {subject: self._pooled([row for row in real if row["subject"] != subject]) for subject in subjects}
        for row in rows:
            row[DISTANCE] = tissues.distribution_distance_hu(self._pooled([row]), others[row["subject"]])
        arms = {arm: [row for row in rows if row["arm"] == arm] for arm in (SYNTHETIC, DO_NOTHING, LOOKUP)}
        every = self._pooled(real)
        return {arm: tissues.distribution_distance_hu(self._pooled(own), every) for arm, own in arms.items() if own}

    def _changed(self, case: Case, arm: str, volume: Array, scans: CaseScans) -> Figures:
        return self._described(case, arm, volume, scans.tissue_map) | scans.changes(volume)

    def _described(self, item: Case | Image, arm: str, volume: Array, own: tissues.TissueMap) -> Figures:
        self._samples[arm, item.name] = tissues.quantile_sample(volume[tissues.soft_tissue(own)])
        return _row(item, arm) | {DISTANCE: float("nan")} | tissues.intensities(volume, own)

    def _pooled(self, rows: Sequence[Figures]) -> NDArray[np.float64]:
        """The intensities of several images, each subject with the same weight."""
        by_subject = defaultdict(list)
        for row in rows:
            by_subject[row["subject"]].append(self._samples[str(row["arm"]), str(row["image"])])
        samples = [tissues.quantile_sample(np.concatenate(own)) for own in by_subject.values()]
        return np.concatenate([np.empty(0), *samples])


def judge_each(
    items: Iterable[Item], judge: Callable[[Item], list[Figures]], failures: list[Failure]
) -> tuple[list[Figures], list[Item]]:
    """The rows of every item that can be judged, and those items; the others are noted, and stop nothing."""
    rows, judged = [], []
    for item in items:
        try:
            rows += judge(item)
            judged.append(item)
        except (MedganError, OSError) as error:
            failures.append(Failure(item.name, str(error)))
    return rows, judged


def _against_truth(case: Case, arm: str, volume: Array, scans: CaseScans) -> Figures:
    return _row(case, arm) | scans.errors(volume) | scans.changes(volume)


def _row(item: Case | Image, arm: str) -> Figures:
    return {"subject": item.subject, "image": item.name, "arm": arm}


def _look_up(source_hu: Floats, change_hu: Floats) -> Callable[[Array], Hounsfield]:
    """A change (n,) for each known source intensity (n,), ascending; linear between them and constant beyond."""
    return lambda source: (source + np.interp(source, source_hu, change_hu)).astype(np.float32)


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


class _PairedLookups(_LeaveOneOut):
    """Look-ups with the least absolute error on pairs: for each source intensity the median change."""

    def __init__(self) -> None:
        super().__init__((HIGHEST_HU - LOWEST_HU) // BIN_HU, 2 * CHANGE_HU // CHANGE_BIN_HU + 1)

    def add(self, subject: str, source: Array, reference: Array, mask: Mask) -> None:
        """Learn from one pair of a subject, (X, Y, Z) each, on one grid, in HU."""
        start = source[mask].astype(np.float64)
        change = np.clip(reference[mask] - start, -CHANGE_HU, CHANGE_HU)
        rows = np.clip((start - LOWEST_HU) // BIN_HU, 0, self._shape[0] - 1).astype(np.int64)
        self.count(subject, rows, np.rint((change + CHANGE_HU) / CHANGE_BIN_HU).astype(np.int64))

    def without(self, subject: str) -> Callable[[Array], Hounsfield]:
        """The look-up of all other subjects."""
        counts = self.others(subject)
        known = counts.any(axis=1)
        centres = LOWEST_HU + BIN_HU * (np.arange(len(counts), dtype=np.float64) + 0.5)
        return _look_up(centres[known], CHANGE_BIN_HU * _medians(counts[known]).astype(np.float64) - CHANGE_HU)


class _Histogram(_LeaveOneOut):
    """How often each intensity occurs, in bins of 1 HU from -1024."""

    def __init__(self) -> None:
        super().__init__(1, len(LEVELS_HU))

    def add(self, subject: str, volume: Array, mask: Mask) -> None:
        """Learn from one image (X, Y, Z)."""
        place = np.clip(np.floor(volume[mask]) - LOWEST_HU, 0, len(LEVELS_HU) - 1).astype(np.int64)
        self.count(subject, np.zeros_like(place), place)


class _UnpairedLookups:
    """Histogram matching: each source intensity goes to the reference intensity of the same rank."""

    def __init__(self) -> None:
        self.sources, self.references = _Histogram(), _Histogram()

    def without(self, subject: str) -> Callable[[Array], Hounsfield]:
        """The look-up of all other subjects."""
        counts = [histogram.others(subject)[0] for histogram in (self.sources, self.references)]
        source, reference = (LEVELS_HU[own > 0] + 0.5 for own in counts)
        ranks, known = (((np.cumsum(own) - own / 2) / own.sum())[own > 0] for own in counts)
        return _look_up(source, np.interp(ranks, known, reference) - source)


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
    """A true image (X, Y, Z) moved by one voxel along left-right, as its affine (4, 4) says; the edge is repeated.

    Where that axis has one voxel only (a sagittal slice), the first longer axis.
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
