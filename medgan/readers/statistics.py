"""What readers' answers say: figures over readers and subjects that are both random, agreement, equivalence, power.

Readers and subjects are crossed: each reader reads each subject. A figure shall hold for other readers and other
subjects, so its variance has a part of each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import ndtri, stdtr, stdtrit

from medgan.evaluation.statistics import LEVEL, Interval

Floats = NDArray[np.float64]

CHANCE = 0.5
POWER = 0.8
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure over readers and subjects, with the variance that both of them bring."""

    value: float
    variance: float
    df: float
    """Degrees of freedom of the variance (Satterthwaite)."""
    readers: int
    subjects: int
    share: bool = True
    """Whether it lies between 0 and 1, as an AUC or a proportion; else it is a difference of two such."""

    @property
    def trials(self) -> float:
        """Of a share, the number of independent answers that would be as informative (Korn and Graubard 1998)."""
        most = float(self.readers * self.subjects)
        if not 0 < self.value < 1:
            return float(self.subjects)
        spread = self.value * (1 - self.value)
        return min(spread / self.variance, most) if self.variance > 0 else most

    def interval(self) -> Interval:
        """The values that a test at ``1 - LEVEL`` would not reject; of a share Wilson's, which stays within 0 and 1."""
        if not np.isfinite(self.value) or not self.df > 0:
            return Interval(self.value, np.nan, np.nan, self.subjects)
        t = float(stdtrit(self.df, (1 + LEVEL) / 2))
        if not self.share:
            half = t * self.variance**0.5
            return Interval(self.value, max(self.value - half, -1.0), min(self.value + half, 1.0), self.subjects)
        n = self.trials
        centre = (self.value + t**2 / (2 * n)) / (1 + t**2 / n)
        half = t / (1 + t**2 / n) * (self.value * (1 - self.value) / n + t**2 / (4 * n**2)) ** 0.5
        return Interval(self.value, max(centre - half, 0.0), min(centre + half, 1.0), self.subjects)

    def above(self, bound: float) -> float:
        """One-sided p: how likely a figure at least as high is where the true one is ``bound``."""
        variance = bound * (1 - bound) / self.trials if self.share else self.variance
        if not self.df > 0 or not variance > 0:
            return float("nan")
        return float(stdtr(self.df, (bound - self.value) / variance**0.5))

    def below(self, bound: float) -> float:
        """One-sided p: how likely a figure at least as low is where the true one is ``bound``."""
        return 1 - self.above(bound)

    def differs(self, null: float) -> float:
        """Two-sided p."""
        return min(1.0, 2 * min(self.above(null), self.below(null)))

    def equivalent(self, null: float, margin: float) -> float:
        """P of two one-sided tests: below .05, the figure is shown to lie within ``margin`` of ``null``.

        Source: Schuirmann 1987, doi:10.1007/BF01068419. A large p of :meth:`differs` shows nothing of the kind.
        """
        return max(self.above(null - margin), self.below(null + margin))


def over_readers_and_subjects(values: ArrayLike, influence: ArrayLike, *, share: bool = True) -> Estimate:
    """The mean of readers' figures (R,), with the ``influence`` (R, S) that each subject has on each reader's.

    The influences of a reader sum to 0. Images of a subject are one unit, so that they may be alike.

    Source: Obuchowski and Rockette 1995, doi:10.1080/03610919508813243, with covariances by influence (DeLong 1988,
    doi:10.2307/2531595; of clusters Obuchowski 1997, doi:10.2307/2533958).
    """
    own, by_subject = np.asarray(values, dtype=np.float64), np.asarray(influence, dtype=np.float64)
    readers, subjects = by_subject.shape
    mean = float(own.mean()) if own.size else np.nan
    if subjects < 2:
        return Estimate(mean, np.nan, np.nan, readers, subjects, share)
    covariance = subjects / (subjects - 1) * by_subject @ by_subject.T
    if readers == 1:
        return Estimate(mean, float(covariance[0, 0]), subjects - 1.0, 1, subjects, share)
    of_readers = float(own.var(ddof=1)) / readers
    of_subjects = max(float(covariance.sum() - np.trace(covariance)) / (readers * (readers - 1)), 0.0)
    variance = of_readers + of_subjects
    df = (
        variance**2 / (of_readers**2 / (readers - 1) + of_subjects**2 / (subjects - 1))
        if variance > 0
        else subjects - 1.0
    )
    return Estimate(mean, variance, df, readers, subjects, share)


def share_influence(right: Floats, subjects: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Readers' shares of right answers (R,), and each subject's influence (R, S).

    ``right`` is (R, trials) of 0 and 1, or what lies between; ``subjects`` (trials,) numbers whose trials they are.
    """
    shares = right.mean(axis=1)
    return shares, by_subject((right - shares[:, np.newaxis]) / right.shape[1], subjects)


def auc_influence(scores: Floats, positive: NDArray[np.bool_], subjects: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Readers' areas under the ROC curve (R,) of ``scores`` (R, trials), and each subject's influence (R, S).

    The area is the share of pairs of a positive and a negative trial in which the positive one has the higher score;
    ties count half. Both are means of kernels, so U-statistics.
    """
    above = scores[:, positive, np.newaxis] - scores[:, np.newaxis, ~positive]
    kernel = np.where(above > 0, 1.0, np.where(above == 0, 0.5, 0.0))
    areas = kernel.mean(axis=(1, 2))
    parts = np.empty_like(scores, dtype=np.float64)
    parts[:, positive] = (kernel.mean(axis=2) - areas[:, np.newaxis]) / max(positive.sum(), 1)
    parts[:, ~positive] = (kernel.mean(axis=1) - areas[:, np.newaxis]) / max((~positive).sum(), 1)
    return areas, by_subject(parts, subjects)


def by_subject(parts: Floats, subjects: NDArray[np.intp]) -> Floats:
    """Parts (R, trials) summed within each subject (R, S)."""
    one_hot = np.eye(int(subjects.max()) + 1)[subjects]
    return np.asarray(parts @ one_hot[:, one_hot.any(axis=0)])


def resampled(
    figure: Callable[[NDArray[np.intp], NDArray[np.intp]], float], readers: int, subjects: int, seed: int
) -> tuple[float, float]:
    """The middle ``LEVEL`` of a figure over readers and subjects that are both drawn anew, with replacement."""
    rng = np.random.default_rng(seed)
    values = [figure(rng.integers(readers, size=readers), rng.integers(subjects, size=subjects)) for _ in range(DRAWS)]
    lower, upper = np.nanpercentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(lower), float(upper)


def d_prime(share: float) -> float:
    """The distance of two images' normal evidence, in standard deviations, of which the better is chosen so often."""
    return float(2**0.5 * ndtri(share))


def fleiss_kappa(answers: ArrayLike) -> float:
    """Agreement beyond chance of readers on trials; ``answers`` is (R, trials) of categories.

    Not a number where all answers are of one category. Source: Fleiss 1971, doi:10.1037/h0031619.
    """
    given = np.asarray(answers)
    readers, trials = given.shape
    if readers < 2 or not trials:
        return float("nan")
    counts = np.stack([(given == category).sum(axis=0) for category in np.unique(given)])
    agreed = float(((counts**2).sum(axis=0) - readers).mean() / (readers * (readers - 1)))
    by_chance = float(((counts.sum(axis=1) / (readers * trials)) ** 2).sum())
    return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def cohen_kappa(first: ArrayLike, again: ArrayLike) -> float:
    """Agreement beyond chance of a reader's answers (trials,) with the same reader's at a second look.

    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    one, two = np.asarray(first), np.asarray(again)
    if not one.size:
        return float("nan")
    categories = np.unique(np.concatenate([one, two]))
    by_chance = float(sum((one == each).mean() * (two == each).mean() for each in categories))
    return float(((one == two).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def trials_to_see(share: float) -> int:
    """Answers of one reader that show a true ``share`` to differ from chance; normal approximation."""
    spread = ndtri((1 + LEVEL) / 2) * CHANCE + ndtri(POWER) * (share * (1 - share)) ** 0.5
    return int(np.ceil((spread / (share - CHANCE)) ** 2))


def trials_to_claim_chance(margin: float) -> int:
    """Answers of one reader that show a true share of one half to lie within ``margin`` of it, by two one-sided tests.

    Normal approximation.
    """
    spread = (ndtri(LEVEL) + ndtri((1 + POWER) / 2)) * CHANCE
    return int(np.ceil((spread / margin) ** 2))


def power_to_see(share: float, trials: int) -> float:
    """How often one reader's exact two-sided binomial test shows a true ``share`` to differ from chance."""
    least = int(stats.binom.isf((1 - LEVEL) / 2, trials, CHANCE)) + 1
    return float(stats.binom.sf(least - 1, trials, share) + stats.binom.cdf(trials - least, trials, share))
