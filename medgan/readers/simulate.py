"""Readers of a known d′: what a study of given size shows, before anybody reads.

Evidence is normal. A reader's own skill, how hard a subject is, and chance add to it, so that over all readers and all
subjects the share of right answers is exactly that of ``d_prime``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medgan.evaluation.statistics import LEVEL
from medgan.readers.statistics import (
    CHANCE,
    Estimate,
    Floats,
    d_prime,
    over_readers_and_subjects,
    share_influence,
)


@dataclass(frozen=True)
class Crowd:
    """Readers and subjects, and how much of the evidence's variance each of them is."""

    readers: int
    subjects: int
    of_readers: float = 0.05
    of_subjects: float = 0.2

    def evidence(self, rng: np.random.Generator, variance: float) -> Floats:
        """Noise (R, S) of that variance."""
        alone = 1 - self.of_readers - self.of_subjects
        return np.asarray(
            (self.of_readers * variance) ** 0.5 * rng.standard_normal((self.readers, 1))
            + (self.of_subjects * variance) ** 0.5 * rng.standard_normal((1, self.subjects))
            + (alone * variance) ** 0.5 * rng.standard_normal((self.readers, self.subjects))
        )


def choices(crowd: Crowd, d_prime: float, studies: int, seed: int = 0) -> Iterator[Estimate]:
    """Studies in which each reader chooses once between the two images of each subject."""
    rng = np.random.default_rng(seed)
    for _ in range(studies):
        right = (d_prime + crowd.evidence(rng, 2.0) > 0).astype(np.float64)
        yield over_readers_and_subjects(*share_influence(right, np.arange(crowd.subjects)))


def power(crowd: Crowd, share: float, studies: int = 400, seed: int = 0) -> float:
    """How often a study of choices shows a true ``share`` of right ones to differ from chance, a choice a subject."""
    drawn = choices(crowd, d_prime(share), studies, seed)
    return float(np.mean([each.differs(CHANCE) < 1 - LEVEL for each in drawn]))
