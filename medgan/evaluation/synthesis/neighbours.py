"""Fidelity and coverage by nearest neighbours: precision and recall, density and coverage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from medgan.errors import DataError
from medgan.evaluation.synthesis.frechet import Features

PRECISION_NEIGHBOURS = 3
"""As in Kynkäänniemi et al."""
DENSITY_NEIGHBOURS = 5
"""As in Naeem et al."""


@dataclass(frozen=True)
class Neighbourhoods:
    """How samples and real ones lie among each other; all but density are shares."""

    precision: float
    """Of the samples, those that look real: within a real one's neighbourhood."""
    recall: float
    """Of the real ones, those that could have been drawn: within a sample's neighbourhood."""
    density: float
    """Real neighbourhoods that a sample lies in, 1 where expected: precision that no outlier decides."""
    coverage: float
    """Of the real ones, those with a sample in their neighbourhood."""


def neighbourhoods(samples: Features, real: Features) -> Neighbourhoods:
    """Precision and recall with 3, density and coverage with 5 nearest neighbours.

    Args:
        samples: (N, D), what is judged.
        real: (M, D).

    Raises:
        DataError: Not more samples on a side than neighbours are asked for.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, Eqs. 1 and 2; Naeem et al. 2020, arXiv:2002.09797, Eqs. 3, 4.
    """
    if min(len(samples), len(real)) <= DENSITY_NEIGHBOURS:
        raise DataError(
            f"neighbourhoods need more than {DENSITY_NEIGHBOURS} samples on each side, and there are {len(samples)} "
            f"and {len(real)}; give more."
        )
    distances = cdist(samples, real)
    real_radii, sample_radii = (radii(each, PRECISION_NEIGHBOURS) for each in (real, samples))
    wide = radii(real, DENSITY_NEIGHBOURS)
    return Neighbourhoods(
        precision=float((distances <= real_radii).any(axis=1).mean()),
        recall=float((distances <= sample_radii[:, None]).any(axis=0).mean()),
        density=float((distances <= wide).sum(axis=1).mean() / DENSITY_NEIGHBOURS),
        coverage=float((distances.min(axis=0) <= wide).mean()),
    )


def radii(features: Features, neighbours: int) -> NDArray[np.float64]:
    """(N,), each sample's distance to its ``neighbours``-th nearest other one."""
    # Itself is the nearest, at 0.
    return np.asarray(np.partition(cdist(features, features), neighbours, axis=1)[:, neighbours])
