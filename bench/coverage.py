"""How often medgan's intervals and tests err where nothing differs: simulated null studies, one table each.

Printed by distribution of the subjects' differences and by number of subjects: how often each 95 % interval holds the
true difference, 0, and how often Wilcoxon's test finds one (p < .05). Then, for whole studies of seven comparisons, how
often at least one is found, what becomes of the interval when every training adds its own luck, and how often the
interval of a misalignment study's crossover holds the true one. Bootstraps stand beside what medgan uses.

    python bench/coverage.py [--studies 1000] [--draws 1000] [--seed 0]
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats
from scipy.special import expit

from medgan.evaluation.statistics import Interval, holm, signed_rank_p, t_interval
from medgan.studies.misalignment import crossover, crossover_bounds

SUBJECTS = (4, 6, 8, 12, 24)
FOUND = 0.05
SHIFTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
TRUE_CROSSOVER = 2.5
"""In voxels; the mean excess rises by one a voxel, about which subjects and each of their figures vary by one."""
PAIRS = (
    *(("real+standard", "real"), ("real+matched", "real"), ("real+synthetic", "real"), ("synthetic-only", "real")),
    *(("real+shuffled", "real"), ("oracle", "real+standard"), ("real+standard+synthetic", "real+standard")),
)
ARMS = tuple(dict.fromkeys(arm for pair in PAIRS for arm in reversed(pair)))

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def dice(rng: np.random.Generator, subjects: int, arms: int = 1) -> NDArray[np.float64]:
    """Made-up Dice (arms, subjects) of equal segmenters: subjects are hard or easy for all, each arm errs anew."""
    hardness = rng.normal(1.5, 1.0, subjects)
    return expit(hardness + rng.normal(0.0, 0.5, (arms, subjects)))


def with_ties(rng: np.random.Generator, subjects: int) -> NDArray[np.float64]:
    """A third of the subjects do not change at all."""
    return rng.normal(size=subjects) * (rng.random(subjects) > 1 / 3)


DIFFERENCES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "Dice of equal arms": lambda rng, n: np.subtract(*dice(rng, n, arms=2)),
    "a third unchanged": with_ties,
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1.0,
}
"""Differences of one study's subjects; their true mean is 0."""


def main() -> None:
    """Print four tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstraps, which medgan does not use")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console = Console(width=110)
    single = [one_difference(name, n, given) for name in DIFFERENCES for n in SUBJECTS]
    whole = [whole_study(n, given) for n in SUBJECTS]
    lucky = [lucky_trainings(spread, seeds, given) for spread in (0.0, 0.25, 0.5, 1.0) for seeds in (1, 3, 5)]
    crossed = [crossovers(n, given) for n in SUBJECTS]
    for title, rows in (
        (f"percent of {given.studies} null studies; 95 +- 1.4 is what an exact interval shows by chance", single),
        (f"percent of null studies of {len(PAIRS)} comparisons with at least one false finding", whole),
        ("12 subjects; spread between trainings as a multiple of that between subjects", lucky),
        (f"percent of studies whose interval holds the true crossover, {TRUE_CROSSOVER} voxels", crossed),
    ):
        console.print(f"\n{title}\n{pd.DataFrame(rows).to_string(index=False)}", highlight=False)


def one_difference(name: str, subjects: int, given: argparse.Namespace) -> dict[str, object]:
    """Coverage and false-positive rate for one comparison."""
    rng = np.random.default_rng([given.seed, subjects])
    t, bootstrap, p = [], [], []
    for _ in range(given.studies):
        differences = DIFFERENCES[name](rng, subjects)
        t.append(holds(t_interval(differences)))
        bootstrap.append(bootstrap_holds(differences, given))
        p.append(signed_rank_p(differences))
    return {
        "differences": name,
        "subjects": subjects,
        "t interval": percent(t),
        "bootstrap (BCa)": percent(bootstrap),
        "Wilcoxon p < .05": percent(np.array(p) < FOUND),
        "lowest p": f"{2.0 ** (1 - subjects):.2g}",
    }


def bootstrap_holds(differences: NDArray[np.float64], given: argparse.Namespace) -> bool:
    """Whether the interval of the bias-corrected and accelerated bootstrap holds 0 (Efron 1987)."""
    if np.ptp(differences) == 0:
        return bool(differences[0] == 0)
    found = stats.bootstrap((differences,), np.mean, n_resamples=given.draws, rng=np.random.default_rng(0))
    return bool(found.confidence_interval.low <= 0.0 <= found.confidence_interval.high)


def whole_study(subjects: int, given: argparse.Namespace) -> dict[str, object]:
    """How often something is found in a study of equal arms, which share their references and their subjects."""
    rng = np.random.default_rng([given.seed, subjects, 1])
    outside, raw, corrected = [], [], []
    for _ in range(given.studies):
        figures = dict(zip(ARMS, dice(rng, subjects, arms=len(ARMS)), strict=True))
        differences = [figures[arm] - figures[other] for arm, other in PAIRS]
        p = np.array([signed_rank_p(each) for each in differences])
        outside.append(not all(holds(t_interval(each)) for each in differences))
        raw.append(p.min() < FOUND)
        corrected.append(holm(p).min() < FOUND)
    return {
        "subjects": subjects,
        "an interval without 0": percent(outside),
        "Wilcoxon": percent(raw),
        "Wilcoxon, Holm": percent(corrected),
    }


def lucky_trainings(spread: float, seeds: int, given: argparse.Namespace) -> dict[str, object]:
    """Coverage where two arms are equal on average, but each training is a little better or worse than its arm."""
    rng = np.random.default_rng([given.seed, seeds, 2])
    held, signs = [], []
    for _ in range(given.studies):
        luck = spread * rng.normal(size=(2, seeds, 1))
        figures = luck + rng.normal(size=(2, 1, 12))
        differences = figures[0] - figures[1]
        held.append(holds(t_interval(differences.mean(axis=0))))  # over seeds first: the subject is the unit
        signs.append(abs(np.sign(differences.mean(axis=1)).sum()) == seeds)
    return {"spread": spread, "seeds": seeds, "t interval": percent(held), "all trainings agree": percent(signs)}


def crossovers(subjects: int, given: argparse.Namespace) -> dict[str, object]:
    """Coverage of the place where paired training becomes the worse one, beside the percentile bootstrap's."""
    rng = np.random.default_rng([given.seed, subjects, 3])
    shifts = np.array(SHIFTS)
    inverted, bootstrap = [], []
    for _ in range(given.studies):
        noise = rng.normal(size=(subjects, 1)) + rng.normal(size=(subjects, len(shifts)))
        excess = shifts - TRUE_CROSSOVER + noise
        inverted.append(between(crossover_bounds(pd.DataFrame(excess, columns=SHIFTS)) or (None, None)))
        drawn = excess[rng.integers(subjects, size=(given.draws, subjects))].mean(axis=1)
        places = [np.inf if place is None else place for place in (crossover(SHIFTS, means) for means in drawn)]
        lower, upper = np.quantile(places, [0.025, 0.975], method="nearest")
        bootstrap.append(between((lower, upper)))
    return {"subjects": subjects, "t, inverted": percent(inverted), "bootstrap (percentile)": percent(bootstrap)}


def between(bounds: tuple[float | None, float | None]) -> bool:
    """Whether bounds, of which None lies beyond every shift, hold the true crossover."""
    lower, upper = (np.inf if bound is None else bound for bound in bounds)
    return bool(lower <= TRUE_CROSSOVER <= upper)


def holds(interval: Interval) -> bool:
    """Whether it holds the truth, which is 0."""
    return interval.lower <= 0.0 <= interval.upper


def percent(flags: list[bool] | NDArray[np.bool_]) -> str:
    """How many of them, to one place."""
    return f"{100 * np.mean(flags):.1f}"


if __name__ == "__main__":
    main()
