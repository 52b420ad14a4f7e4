"""The arms of an evaluation: the synthetic images, and beside them what needs no network.

Look-ups are fitted for each subject on the other subjects, so cases are read twice; memory holds one case at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan.data.volumes import read_volume
from medgan.errors import MedganError
from medgan.evaluation.baselines import LOOKUP, CrossingLookups, PairedLookups, UnpairedLookups, shifted
from medgan.evaluation.fidelity import Array, body_mask
from medgan.evaluation.judging import ALL_CT, Figures, LabelNames, Modalities, Scans
from medgan.evaluation.matching import Case, Failure, Image
from medgan.evaluation.tissues import (
    TissueMap,
    distribution_distance_hu,
    intensities,
    quantile_sample,
    soft_tissue,
    tissue_map,
)

SYNTHETIC, DO_NOTHING, REAL, SHIFTED = "synthetic", "do_nothing", "real", "true_shifted"
DISTANCE = "soft_tissue_distance_hu"

Item = TypeVar("Item", Case, Image)


class Pairs:
    """Every arm against the true image of the same subject.

    Only between CT and CT, or MR and MR, doing nothing is an arm. If ``trained``, the look-ups learn from other cases,
    given to ``learn``, and not from the judged ones.
    """

    def __init__(self, names: LabelNames | None, modalities: Modalities = ALL_CT, *, trained: bool = False) -> None:
        self._names, self._modalities, self._trained = names, modalities, trained
        self._lookups = PairedLookups()
        self._crossings, self._core_crossings = CrossingLookups(), CrossingLookups()

    def learn(self, case: Case) -> list[Figures]:
        """A training case teaches the look-ups, and is not judged."""
        self._learn_from(case, Scans(case, None, self._modalities))
        return []

    def without_training(self, case: Case) -> list[Figures]:
        """The synthetic image and the arms that need no other subject; the look-ups learn from the pair."""
        scans = Scans(case, self._names, self._modalities)
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
        scans = Scans(case, self._names, self._modalities)
        source = scans.source
        if self._modalities.hounsfield:
            assert source is not None
            return [_against_truth(case, LOOKUP, self._lookups.without(case.subject)(source), scans)]
        everywhere, in_core = (
            lookups.without(case.subject).arms(source, scans.synthetic.shape)
            for lookups in (self._crossings, self._core_crossings)
        )
        return [_row(case, arm) | scans.errors(volume, in_core[arm]) for arm, volume in everywhere.items()]

    def _learn_from(self, case: Case, scans: Scans) -> None:
        if not self._modalities.hounsfield and self._modalities.reference == "CT":
            self._crossings.add(case.subject, scans.source, scans.truth, scans.inside)
            self._core_crossings.add(case.subject, scans.source, scans.truth, scans.core)
        elif self._modalities.hounsfield and scans.source is not None:
            self._lookups.add(case.subject, scans.source, scans.truth, scans.inside)


class Unpaired:
    """Every arm against real images of other subjects: intensities by tissue, and how far apart they are."""

    def __init__(self, names: LabelNames | None, modalities: Modalities = ALL_CT) -> None:
        self._names, self._modalities = names, modalities
        self._lookups = UnpairedLookups()
        self._samples: dict[tuple[str, str], NDArray[np.float64]] = {}

    def real(self, image: Image) -> list[Figures]:
        """A real image of the target domain, with the tissues that it has itself; the look-ups learn from it."""
        volume = read_volume(image.path).voxels
        inside = body_mask(volume)
        self._lookups.references.add(image.subject, volume, inside)
        return [self._described(image, REAL, volume, tissue_map(volume, inside))]

    def without_training(self, case: Case) -> list[Figures]:
        """The synthetic image and, where there is a source, the source itself, which the look-ups learn from."""
        scans = Scans(case, self._names, self._modalities)
        rows = [self._described(case, SYNTHETIC, scans.synthetic, scans.tissues) | scans.changes(scans.synthetic)]
        if scans.source is not None and self._modalities.hounsfield:
            untouched = self._described(case, DO_NOTHING, scans.source, scans.tissues)
            rows.append(untouched | scans.changes(scans.source))
            self._lookups.sources.add(case.subject, scans.source, scans.inside)
        return rows

    def looked_up(self, case: Case) -> list[Figures]:
        """The source with the histogram of the target domain, both of the other subjects."""
        scans = Scans(case, self._names, self._modalities)
        assert scans.source is not None
        volume = self._lookups.without(case.subject)(scans.source)
        return [self._described(case, LOOKUP, volume, scans.tissues) | scans.changes(volume)]

    def add_distances(self, rows: Sequence[Figures]) -> dict[str, float]:
        """Fill in the distance of each row to the real images of other subjects.

        Returned is by arm the distance in HU of all its subjects together to all real ones.
        """
        real = [row for row in rows if row["arm"] == REAL]
        subjects = {row["subject"] for row in rows}
        others = {subject: self._pooled([row for row in real if row["subject"] != subject]) for subject in subjects}
        for row in rows:
            row[DISTANCE] = distribution_distance_hu(self._pooled([row]), others[row["subject"]])
        arms = {arm: [row for row in rows if row["arm"] == arm] for arm in (SYNTHETIC, DO_NOTHING, LOOKUP)}
        every_real = self._pooled(real)
        return {arm: distribution_distance_hu(self._pooled(own), every_real) for arm, own in arms.items() if own}

    def _described(self, item: Case | Image, arm: str, volume: Array, tissues: TissueMap) -> Figures:
        self._samples[arm, item.name] = quantile_sample(volume[soft_tissue(tissues)])
        return _row(item, arm) | {DISTANCE: float("nan")} | intensities(volume, tissues)

    def _pooled(self, rows: Sequence[Figures]) -> NDArray[np.float64]:
        """The intensities of several images, each subject with the same weight."""
        by_subject: dict[object, list[NDArray[np.float64]]] = {}
        for row in rows:
            by_subject.setdefault(row["subject"], []).append(self._samples[str(row["arm"]), str(row["image"])])
        return np.concatenate([np.empty(0), *(quantile_sample(np.concatenate(own)) for own in by_subject.values())])


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


def _against_truth(case: Case, arm: str, volume: Array, scans: Scans) -> Figures:
    return _row(case, arm) | scans.errors(volume) | scans.changes(volume)


def _row(item: Case | Image, arm: str) -> Figures:
    return {"subject": item.subject, "image": item.name, "arm": arm}
