"""How many of the real samples' kinds samples come in."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

from medgan.evaluation.synthesis.frechet import Features

MOST_MODES = 10
PER_MODE = 5
"""Real samples that there are for each cluster at least."""


@dataclass(frozen=True, eq=False)
class Modes:
    """Kinds of real samples, to which others are counted."""

    centres: Features
    """(K, D)."""

    @classmethod
    def of(cls, real: Features, seed: int) -> "Modes":
        """Clusters of real features (N, D): ten at most, and at least 5 real samples for each on average.

        Source: k-means from the seeding of Arthur and Vassilvitskii 2007, as implemented by scipy.
        """
        count = int(np.clip(len(real) // PER_MODE, 1, MOST_MODES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # equal samples make an empty cluster
            centres, which = kmeans2(real, count, minit="++", rng=np.random.default_rng(seed))
        return cls(centres[np.unique(which)])

    def counts(self, features: Features) -> NDArray[np.intp]:
        """(K,), how many samples (N, D) are nearest to each centre."""
        return np.bincount(vq(features, self.centres)[0], minlength=len(self.centres))

    def covered(self, features: Features) -> int:
        """Kinds that at least one of the samples belongs to; compare equally many samples."""
        return int(np.count_nonzero(self.counts(features)))
