"""Two processes that share a batch, against one that has it alone: how far weights are apart, and patches a second.

    python bench/ranks.py [--rounds 3] [--iterations 10] [--quick]

CycleGAN on patches of 128 x 128 voxels, batch 2, 32 bits, on the CPU: two ranks of one thread each, one process of two
threads, and one of one thread, in turn. Random patches lie in memory: only steps, gradients and agreement count.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from page import judged, table
from timing import Round, Spread, in_turn

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import Batch, PatchConfig, Patches
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, ResNetConfig
from medgan.training.device import Place, make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.learner import HeldOut
from medgan.training.ranks import Ranks, joined
from medgan.training.recorder import Recorder, Unrecorded
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig

TWO, ONE, ALONE = "two ranks, a thread each", "one process, two threads", "one process, one thread"
TARGET = 0.9
"""Of one process with two threads."""


class Noise(Patches):
    """Patches of noise by number."""

    def __getitem__(self, number: int) -> Batch:
        """Source and target, (1, 128, 128)."""
        random = torch.Generator().manual_seed(number)
        return {side: torch.rand(1, 128, 128, generator=random) * 2 - 1 for side in ("source", "target")}


def fit(ranks: Ranks, folder: Path, iterations: int) -> Fit:
    """A training that begins with the same weights each time."""
    torch.manual_seed(0)
    window = Window(lower=-1000.0, upper=1000.0)
    source, target = (Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=window) for name in "ab")
    learner = CycleGAN(
        CycleGANConfig(pool=4), seed=0, pair=DomainPair(source=source, target=target, paired=False),
        patch=PatchConfig(size_voxels=128), generator=GeneratorConfig(network=ResNetConfig(channels=32)),
        discriminator=DiscriminatorConfig(channels=32),
    )  # fmt: skip
    config = FitConfig(epochs=1, iterations_per_epoch=iterations, batch_size=2, precision="32", keep="last")
    recorder = (Recorder if ranks.first else Unrecorded)(folder)
    return Fit(
        learner, Noise(), HeldOut([], []), config, fabric=make_fabric("cpu", "32"), folder=folder, recorder=recorder,
        ranks=ranks,
    )  # fmt: skip


def timed(ranks: Ranks, folder: str, iterations: int, threads: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Patches a second, without the first two iterations, and weights by network."""
    torch.set_num_threads(threads)
    training, stamps = fit(ranks, Path(folder), iterations), list[float]()
    step = training.learner.training_step

    def stamped(batch: Batch) -> dict[str, torch.Tensor]:
        stamps.append(time.perf_counter())
        return step(batch)

    training.learner.training_step = stamped  # type: ignore[method-assign]
    training.run()
    weights = {
        name: torch.cat([each.detach().flatten() for each in network.parameters() if each.dim() > 1])
        for name, network in training.state.networks.items()
    }
    return 2 * (iterations - 3) / (stamps[-1] - stamps[2]), weights


def main(argv: list[str] | None = None) -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one round of few iterations: it runs, and is no evidence")
    order = parser.parse_args(argv)
    rounds, iterations = (1, 5) if order.quick else (order.rounds, order.iterations)
    weights = {}

    def rate(name: str) -> Round:
        with tempfile.TemporaryDirectory() as folder:
            given = folder, iterations, 2 if name == ONE else 1
            if name == TWO:
                with joined(Place(0, 2, 0, 2), ("cpu", "cpu"), timed, *given) as ranks:
                    patches, weights[name] = timed(ranks, *given)
            else:
                patches, weights[name] = timed(Ranks(), *given)
        return {"patches": patches}

    times = in_turn({name: partial(rate, name) for name in (TWO, ONE, ALONE)}, rounds)
    rates = {name: [each["patches"] for each in rows] for name, rows in times.items()}
    share = Spread.of([ours / other for ours, other in zip(rates[TWO], rates[ONE], strict=True)])
    apart = max(float((one - weights[ALONE][name]).abs().max()) for name, one in weights[TWO].items())
    print(
        f"CycleGAN on patches of 128², batch 2; after {iterations} iterations weights differ by {apart:.1e} at most.\n"
    )
    print(table(("", "patches a second"), [(name, f"{Spread.of(each):.2f}") for name, each in rates.items()]))
    verdict = f"{TWO} against {ONE}", f"{share:.2f}", judged(share.median, TARGET)
    print(table(("target", "measured", ""), [verdict]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
