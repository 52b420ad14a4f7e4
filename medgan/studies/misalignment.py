"""Paired training on pairs moved apart, against unpaired training: where does unpaired become better?

Wolterink et al. 2017 (arXiv:1708.01155) found unpaired training to be the better one for MR to CT where pairs do not
fit exactly; here the misfit is made, so the shift at which that begins can be read off.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from rich.console import Console

from medgan.errors import ConfigError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.statistics import t_interval
from medgan.studies.base import StudyOrder
from medgan.studies.sweep import Sweep, headlines, higher_is_better, metrics_of
from medgan.studies.translator import Cell, adversarial_game, check_translators, configured

UNPAIRED = "cyclegan"
ARMS = ("pix2pix", "l1")
"""The paired arms: the adversarial one, and L1 alone."""
SHIFTS = "0,1,2,3,4,6"


class Misalignment(Sweep):
    """The unpaired arm, which shifts do not concern, and both paired arms at every shift of ``--shifts``, in voxels."""

    heeds = ("data", "shifts", "metric")

    def __init__(self, order: StudyOrder, console: Console) -> None:
        self.shifts = _read_shifts(order.options.get("shifts", SHIFTS))
        super().__init__(order, console)

    def cells(self) -> tuple[Sequence[str], Sequence[Cell]]:
        """See the class; the pipeline must be trainable both ways."""
        order = self.order
        check_translators(order.pipeline, ["pix2pix", UNPAIRED])
        config = configured(order, [*order.overrides, "translator=pix2pix"]).config
        game = {"pix2pix": adversarial_game(config.model_dump(mode="json")), "l1": "none"}
        paired = "translator=pix2pix"
        cells = [
            Cell(f"{arm},shift={shift}", (paired, f"pix2pix.adversarial={game[arm]}", f"misalignment_voxels={shift}"))
            for shift in self.shifts
            for arm in ARMS
        ]
        return order.overrides, [Cell(UNPAIRED, (f"translator={UNPAIRED}",)), *cells]

    def findings(self, rows: pd.DataFrame) -> Mapping[str, str]:
        """For each paired arm, the shift at which the unpaired one becomes better."""
        return crossovers(rows, self.shifts, self.order.options.get("metric"))


def _read_shifts(text: str) -> tuple[int, ...]:
    """``"0,1,2"`` as numbers, sorted."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < 2:
        raise ConfigError(f"--shifts {text}: write at least two whole numbers of voxels, as in 0,1,2,3,4,6.")
    return tuple(sorted({int(part) for part in parts}))


def crossovers(rows: pd.DataFrame, shifts: Sequence[int], metric: str | None = None) -> dict[str, str]:
    """For each paired arm, in words, at which of the rising shifts the unpaired one becomes better.

    It is judged by ``metric``; None is the first headline.

    Raises:
        ConfigError: The evaluation has no such metric.
    """
    known = metrics_of(rows)
    judged = metric or headlines(known)[0]
    if judged not in known:
        raise ConfigError(f"the evaluation has no metric '{judged}'; it has {', '.join(known)}.")
    own = rows[rows["arm"] == SYNTHETIC]
    values = own.groupby(["subject", "cell"])[judged].mean().unstack("cell")
    unpaired = values.get(UNPAIRED, pd.Series(np.nan, values.index))
    lines = {}
    for arm in ARMS:
        cells = {shift: values[f"{arm},shift={shift}"] for shift in shifts if f"{arm},shift={shift}" in values}
        excess = (pd.DataFrame(cells, values.index).sub(unpaired, axis=0)).dropna()
        words = _described(-excess if higher_is_better(judged) else excess)
        lines[f"crossover of {arm}"] = f"{words} ({judged}, {UNPAIRED} against {arm})"
    return lines


def _described(excess: pd.DataFrame) -> str:
    """A crossover in words, with its interval where there is one; ``excess`` as for ``crossover_bounds``."""
    if excess.empty:
        return "unknown: an arm has no figures"
    shifts = [float(shift) for shift in excess.columns]
    bounds = crossover_bounds(excess)
    interval = "" if bounds is None else f" [{_place(bounds[0], shifts)}, {_place(bounds[1], shifts)}]"
    return f"{_place(crossover(shifts, excess.mean()), shifts)}{interval}"


def crossover_bounds(excess: pd.DataFrame) -> tuple[float | None, float | None] | None:
    """Where the crossover may be, by inverting Student's interval: it is no mean over subjects.

    From the shift at which the upper bound of the mean excess first rises above 0, before which paired training is
    surely better, to that at which the lower bound does. Bounds are interpolated between the shifts, where the true
    ones lie nearer to the mean: that makes it a little wider, never narrower.

    Args:
        excess: A row a subject, a column a shift, rising: how much worse paired training is than unpaired.

    Returns:
        Lower and upper bound, each None where it lies beyond the last shift; nothing below two subjects.

    Source: Fieller 1954, doi:10.1111/j.2517-6161.1954.tb00159.x, who inverts it for a ratio of means.
    """
    shifts = [float(shift) for shift in excess.columns]
    at_each = [t_interval(excess[shift]) for shift in excess]
    if not np.isfinite([interval.lower for interval in at_each]).all():
        return None
    upper, lower = [interval.upper for interval in at_each], [interval.lower for interval in at_each]
    return crossover(shifts, upper), crossover(shifts, lower)


def crossover(shifts: Sequence[float], excess: Iterable[float]) -> float | None:
    """Where a curve first rises above 0, by linear interpolation between rising shifts; None where it never does."""
    points = list(zip(shifts, excess, strict=True))
    if points[0][1] > 0:
        return shifts[0]
    for (before, below), (after, above) in pairwise(points):
        if below <= 0 < above:
            return float(before + (after - before) * -below / (above - below))
    return None


def _place(shift: float | None, shifts: Sequence[float]) -> str:
    if shift is None:
        return f"none up to {shifts[-1]:g}"
    return f"at {shift:g}, the first shift" if shift == shifts[0] else f"{shift:.2g} voxels"
