"""A training step against the authors' code, against an older medgan, and against what the processor could do.

python bench/step.py [--reference CHECKOUT] [--before CHECKOUT] [--case CASE ...] [--quick]
"""

import argparse
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from page import judged, table
from timing import CLOCKS, Command, Times, side_by_side

CONVOLUTIONS = {2: (128, 32), 3: (32, 32)}
"""By dimensions, channels and size of the convolution whose rate makes the floor: in 2D that of CycleGAN's blocks."""
TARGET_SHARE = 0.55
"""Of the floor: what a step should at least reach."""


FLOOR = """The floor is what the step's convolutions would take at the rate of one of them, alone in a loop.
That one has 3 x 3 taps and 128 channels on 32², as CycleGAN's blocks do; in 3D it has 32 channels on 32³.
All that is no convolution counts as lost.
"""
BEFORE, REFERENCE = "medgan before", "reference"


@dataclass(frozen=True)
class Case:
    """What is trained, and how fast it should be."""

    title: str
    learner: str
    """A case of arms/learners.py, and of arms/reference.py where that has it."""
    batch: int
    dimensions: int = 2
    reference: float | None = None
    """How many times faster than the reference it should be; None where the reference has no such network."""
    before: float | None = None
    """How many times faster than before it should be."""


CASES = {
    "cyclegan1": Case("CycleGAN, 128², batch 1, the reference's network", "cyclegan", 1, reference=3.2),
    "cyclegan4": Case("CycleGAN, 128², batch 4, the reference's network", "cyclegan", 4, reference=3.2),
    "pix2pix": Case("pix2pix, 256², batch 1, the reference's network", "pix2pix", 1, reference=2.0),
    "shipped": Case("CycleGAN as `size=small` ships it, 112², batch 2", "shipped", 2, before=2.0),
    "cyclegan3d": Case("CycleGAN, 64³, batch 1, 8 and 16 channels", "cyclegan3d", 1, 3, before=2.0),
}


def main(argv: list[str] | None = None) -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of pytorch-CycleGAN-and-pix2pix")
    parser.add_argument("--before", type=Path, help="an older checkout of medgan")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--quick", action="store_true", help="one round, and CPU seconds only")
    order = parser.parse_args(argv)
    print(FLOOR)
    for name in order.case or CASES:
        print(section(CASES[name], order.reference, order.before, quick=order.quick), flush=True)
    return 0


def section(case: Case, reference: Path | None, before: Path | None, *, quick: bool) -> str:
    """The case's table, and what came of its targets."""
    print(case.title, file=sys.stderr)
    rounds, clocks = (1, ("cpu",)) if quick else (3, CLOCKS)
    arguments = (case.learner, "--batch", str(case.batch))
    arms = {"medgan": Command("arms/learners.py", arguments)}
    if before:
        arms[BEFORE] = Command("arms/learners.py", arguments, code=before)
    if reference and case.reference:
        arms[REFERENCE] = Command("arms/reference.py", (str(reference), *arguments))
    times = side_by_side(arms, rounds=rounds, seconds=2, flops=("medgan",), clocks=clocks)
    precision = times.facts["medgan"]["precision"]
    floor = floor_s(case, times, precision, rounds)
    base = list(arms)[-1]
    rows = []
    for arm, facts in times.facts.items():
        share = f"{floor / times.seconds(arm, 'cpu').median:.0%}" if facts["precision"] == precision else ""
        rows.append((arm, facts["precision"], *times.row(arm, base), share))
    head = ("arm", "precision", "CPU ms", "wall ms", "ratio, CPU", "ratio, wall", f"of the {precision} floor")
    return f"### {case.title}\n\n{table(head, rows)}\n{verdicts(case, times, floor, precision)}"


def floor_s(case: Case, times: Times, precision: str, rounds: int) -> float:
    """Seconds of one thread that the step's FLOPs take at the rates of a convolution alone."""
    rates = convolution_rates(case.dimensions, case.batch, precision, rounds)
    return sum(flops / rates[way] for way, flops in times.flops["medgan"].items())


@cache
def convolution_rates(dimensions: int, batch: int, precision: str, rounds: int) -> dict[str, float]:
    """FLOP/s of one thread, ``forward`` and ``backward``, in the layout in which it is faster."""
    numbers = tuple(map(str, (batch, *CONVOLUTIONS[dimensions], dimensions)))
    each = [(way, layout) for way in ("forward", "backward") for layout in ("first", "last")]
    arms = {
        f"{way} {layout}": Command("arms/convolutions.py", (precision, way, layout, *numbers)) for way, layout in each
    }
    times = side_by_side(arms, rounds=rounds, seconds=0.3, clocks=("cpu",))
    rates: dict[str, float] = {}
    for arm, facts in times.facts.items():
        rate = facts["flops"] / min(times.rounds[arm]["cpu"])
        rates[arm.split()[0]] = max(rate, rates.get(arm.split()[0], 0))
    print(
        f"  {precision}, batch {batch}: GFLOP/s { ({way: round(rate / 1e9) for way, rate in rates.items()}) }",
        file=sys.stderr,
    )
    return rates


def verdicts(case: Case, times: Times, floor: float, precision: str) -> str:
    """A line for each target that can be judged with the arms there are."""
    lines = []
    for base, target in ((REFERENCE, case.reference), (BEFORE, case.before)):
        for clock in times.rounds["medgan"] if target and base in times.facts else ():
            ratio = times.speed_up("medgan", base, clock)
            lines.append((f"against {base}, {clock}", f"{ratio:.2f}", judged(ratio.median, target)))
        if target and base in times.facts:
            most = times.seconds(base, "cpu").median / floor
            lines.append((f"against {base}, were it at the floor", f"{most:.2f}", ""))
    share = floor / times.seconds("medgan", "cpu").median
    lines.append((f"share of the {precision} floor", f"{share:.0%}", judged(share, TARGET_SHARE)))
    return table(("target", "measured", ""), lines)


if __name__ == "__main__":
    sys.exit(main())
