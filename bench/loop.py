"""What an iteration of ``Fit`` takes beside the learner's step: batches in memory, average, sums of terms, record.

python bench/loop.py [--quick]
"""

import argparse
import sys

from page import table
from timing import CLOCKS, Command, Spread, side_by_side

CASES = {
    "CycleGAN, 128², batch 1": ("cyclegan", "--batch", "1"),
    "CycleGAN as `size=small` ships it, 112², batch 2": ("shipped", "--batch", "2"),
    "pix2pix, 256², batch 1": ("pix2pix", "--batch", "1"),
}


def main(argv: list[str] | None = None) -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, and CPU seconds only")
    rounds, clocks = (1, ("cpu",)) if parser.parse_args(argv).quick else (3, CLOCKS)
    rows = []
    for title, arguments in CASES.items():
        print(title, file=sys.stderr)
        arms = {"iteration": arguments, "step": (*arguments, "--bare")}
        commands = {name: Command("arms/learners.py", each) for name, each in arms.items()}
        times = side_by_side(commands, rounds=rounds, seconds=2, clocks=clocks)
        for clock in times.rounds["step"]:
            iterations, steps = (times.rounds[arm][clock] for arm in ("iteration", "step"))
            pairs = list(zip(iterations, steps, strict=True))
            beside = Spread.of([1000 * (iteration - step) for iteration, step in pairs])
            share = Spread.of([100 * (1 - step / iteration) for iteration, step in pairs])
            rows.append(
                (title, clock, f"{1000 * times.seconds('step', clock).median:.0f}", f"{beside:.1f}", f"{share:.1f}")
            )
    print(table(("learner", "clock", "step, ms", "beside it, ms", "of the iteration, %"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
