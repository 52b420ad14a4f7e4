"""Is a plan near the best of settings made by hand? One and five trainings of equal minutes, by validation error.

Each training takes as many iterations as its own measured step allows, so that its trial is as a plan's. The error is
that of the last averages on the validation subjects, on the grid that all share.

    python bench/plans.py [--data COHORT] [--minutes 2] [--seed 0] [--arm plan ...] [KEY=VALUE ...]
"""

import argparse
import time
from pathlib import Path

import pandas as pd
from page import table
from rich.console import Console

from medgan.config import read_yaml
from medgan.planning.plan import planned
from medgan.training.run import Order, train
from medgan.training.run_folder import RunFolder

ERROR = "val/mae_hu"
WHOLE = "patch.length_voxels=null"
ARMS = {
    "plan": [],
    "2.5D, 8 patches": ["patch.size_voxels={size}", WHOLE, "fit.batch_size=8"],
    "2.5D, 2 patches": ["patch.size_voxels={size}", WHOLE, "fit.batch_size=2"],
    "2D, 8 patches": ["patch.size_voxels={size}", WHOLE, "fit.batch_size=8", "patch.dimensions=2"],
    "2.5D, 4 patches, 32 channels": [
        "patch.size_voxels={size}", WHOLE, "fit.batch_size=4", "generator.network.channels=32",
    ],
    "3D, 2 blocks of 48 x 48 x 16": [
        "patch.size_voxels=48", WHOLE, "patch.depth_voxels=16", "fit.batch_size=2", "patch.dimensions=3",
        "generator.network.downs=3",
    ],
}  # fmt: skip
"""What a person might set; what an arm does not name is planned around it."""


def main() -> None:
    """Train each arm and print a row for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a cohort of pairs; else the phantom")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="of the hand-made patches, in voxels")
    parser.add_argument("--arm", action="append", choices=sorted(ARMS), help="only these")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    heads = ["settings", "iterations", "minutes", "validation error, HU"]
    print(table(heads, [row(arm, given) for arm in given.arm or ARMS]))


def row(arm: str, given: argparse.Namespace) -> list[str]:
    """One training: its iterations, the minutes that it took with its validations, and the error at its end."""
    overrides = [f"seed={given.seed}", *(each.format(size=given.size) for each in ARMS[arm]), *given.overrides]
    name = f"plans-{given.seed}-{list(ARMS).index(arm)}-{time.strftime('%H%M%S')}"
    order = Order("mr_to_ct", given.data, overrides=overrides, out=given.out / "runs", name=name)
    console = Console(stderr=True)
    order = planned(order, console, given.minutes, None)
    begun = time.perf_counter()
    train(order, console)
    minutes = (time.perf_counter() - begun) / 60
    run = RunFolder(given.out / "runs" / "mr_to_ct" / name)
    metrics = pd.read_csv(run.path / "metrics.csv")
    fit = read_yaml(run.config)["fit"]
    iterations = fit["epochs"] * fit["iterations_per_epoch"]
    return [arm, f"{iterations}", f"{minutes:.1f}", f"{metrics[ERROR].dropna().iloc[-1]:.1f}"]


if __name__ == "__main__":
    main()
