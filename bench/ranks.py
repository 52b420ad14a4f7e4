"""Two processes that share a batch, against one that has it alone: how far weights are apart, and patches a second.

    python bench/ranks.py [--rounds 3] [--iterations 12]

CycleGAN on patches of 128 x 128 voxels, batch 2, 32 bits, on the CPU: two ranks of one thread each, one process of two
threads, and one of one thread, in turn. Random patches lie in memory: only steps, gradients and agreement count.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import Batch, PatchConfig, Patches
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, ResNetConfig
from medgan.training.device import Place, make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.learner import HeldOut
from medgan.training.ranks import Ranks, joined
from medgan.training.recorder import Recorder, Unrecorded
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=12)
    asked = parser.parse_args()
    rates: dict[str, list[float]] = {"two ranks, a thread each": [], "one process, two threads": [], "one thread": []}
    weights = {}
    for _ in range(asked.rounds):
        for name in rates:
            with tempfile.TemporaryDirectory() as folder:
                given = folder, asked.iterations, 2 if "two threads" in name else 1
                if name.startswith("two"):
                    with joined(Place(0, 2, 0, 2), ("cpu", "cpu"), timed, *given) as ranks:
                        rate, weights[name] = timed(ranks, *given)
                else:
                    rate, weights[name] = timed(Ranks(), *given)
            rates[name].append(rate)
    print("| | patches a second, median | lowest | highest |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    two, one, _ = rates.values()
    ratios = [ours / other for ours, other in zip(two, one, strict=True)]
    median = statistics.median(ratios)
    met = "met" if median >= TARGET else f"missed by {TARGET - median:.2f}"
    print(f"\nTwo ranks have {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of the throughput of one process")
    print(f"with two threads; the target is {TARGET}: {met}.")
    ours, others = weights["two ranks, a thread each"], weights["one thread"]
    apart = max(float((ours[name] - others[name]).abs().max()) for name in ours)
    print(f"After {asked.iterations} iterations their weights differ by {apart:.1e} at most.")


if __name__ == "__main__":
    main()
