"""The same generator trained on pairs by L1 in other packages, each in its own loop and environment.

python bench/peers.py [--quick]      # `make bench` makes the environments in .bench/
"""

import argparse
import sys

from page import table
from timing import CLOCKS, HERE, Command, side_by_side

ENVIRONMENTS = HERE.parent / ".bench"
LEFT_OUT = (
    "ganslate 0.1.1 of 2021, its newest release, cannot be driven. "
    "`import ganslate.nn.gans.unpaired.cyclegan` fails since Python 3.11, where dataclasses refuse mutable defaults."
)


def main(argv: list[str] | None = None) -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, and CPU seconds only")
    rounds, clocks = (1, ("cpu",)) if parser.parse_args(argv).quick else (3, CLOCKS)
    konfai, monai = (str(ENVIRONMENTS / name / "bin" / "python") for name in ("konfai", "monai"))
    arms = {
        "medgan": Command("arms/learners.py", ("supervised", "--batch", "4")),
        "MONAI `SupervisedTrainer`": Command("arms/monai_training.py", ("4",), monai),
        "KonfAI `train_model`": Command("arms/konfai_training.py", ("4",), konfai),
        "KonfAI, `channels_last=True`": Command("arms/konfai_training.py", ("4", "channels-last"), konfai),
    }
    times = side_by_side(arms, rounds=rounds, seconds=2, clocks=clocks)
    rows = [(arm, times.facts[arm]["precision"], *times.row(arm, "MONAI `SupervisedTrainer`")) for arm in arms]
    print("CycleGAN's generator, 32 channels and 9 blocks, on pairs of 128² by L1, batch 4.")
    print("medgan also averages the weights; nobody augments.")
    print("MONAI and KonfAI know mixed precision on GPUs only.")
    print(f"{LEFT_OUT}\n")
    print(table(("arm", "precision", "CPU ms", "wall ms", "ratio, CPU", "ratio, wall"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
