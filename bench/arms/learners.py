"""An arm: medgan's own learners in medgan's own loop, on patches that lie in memory.

    python bench/arms/learners.py CASE [--batch N] [--precision 32] [--bare]

One call is one iteration of ``Fit``, with the moving average, the sums of terms and the record; with ``--bare`` it is
the learner's part alone. It uses nothing that an older medgan lacks, and so runs in an older checkout, too.
"""

import argparse
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from gate import Gate
from rich.console import Console
from timing import serve

from medgan import catalog
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, ResNetConfig, UNetConfig
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.learner import HeldOut, Learner
from medgan.training.recorder import Recorder
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig


def pair(*, paired: bool) -> DomainPair:
    """Two kinds of CT."""
    ct: dict[str, Any] = {"modality": "CT", "unit": "HU", "air": -1024.0, "window": Window(lower=-300.0, upper=700.0)}
    return DomainPair(source=Domain(name="contrast", **ct), target=Domain(name="plain", **ct), paired=paired)


def cyclegan(network: ResNetConfig, patch: PatchConfig, channels: int = 64) -> Learner:
    """CycleGAN with the reference's discriminators, or narrower ones."""
    judge = DiscriminatorConfig(channels=channels)
    parts: dict[str, Any] = {"generator": GeneratorConfig(network=network), "discriminator": judge}
    return CycleGAN(CycleGANConfig(), pair=pair(paired=False), patch=patch, seed=0, **parts)


def shipped() -> Learner:
    """The CycleGAN of ``size=small``, in the game that follows its first iterations on simulated pairs."""
    settings = {"size": "small", "cyclegan": {"anchor_iterations": 0}}
    pipeline = catalog.load("ct_contrast").configured(settings, on_phantom=False, on_cpu=True)
    return pipeline.learner()


def supervised() -> Learner:
    """The reference's generator on pairs, by L1 alone."""
    config = Pix2PixConfig(adversarial="none", l1=1.0)
    parts: dict[str, Any] = {"generator": GeneratorConfig(network=REFERENCE), "discriminator": DiscriminatorConfig()}
    return Pix2Pix(config, pair=pair(paired=True), patch=FLAT, **parts)


def pix2pix() -> Learner:
    """The reference's U-Net of eight levels, which needs 256 voxels, and its discriminator."""
    parts = {"generator": GeneratorConfig(network=UNetConfig()), "discriminator": DiscriminatorConfig(norm="batch")}
    return Pix2Pix(Pix2PixConfig(), pair=pair(paired=True), patch=PatchConfig(size_voxels=256), **parts)


REFERENCE = ResNetConfig(channels=32, upsampling="transposed")
FLAT, SOLID = PatchConfig(size_voxels=128), PatchConfig(dimensions=3, size_voxels=64)
CASES = {
    "cyclegan": lambda: cyclegan(REFERENCE, FLAT),
    "shipped": shipped,
    "pix2pix": pix2pix,
    "supervised": supervised,
    "cyclegan3d": lambda: cyclegan(ResNetConfig(channels=8, blocks=4), SOLID, channels=16),
}


class Patches(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The same few patches over and over: (1, *shape) in [-1, 1] for each key."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        keys = ("source", "target", "anchor_source", "anchor_target", "region")
        self.patches = [{key: torch.rand(1, *shape) * 2 - 1 for key in keys} for _ in range(4)]

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.patches[number % len(self.patches)]

    def augmented(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """As it is."""
        return batch


def main() -> None:
    """Build the case and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--bare", action="store_true")
    order = parser.parse_args()
    torch.manual_seed(0)
    learner = CASES[order.case]()
    patch: PatchConfig = learner.patch  # type: ignore[attr-defined]
    shape = (patch.size_voxels,) * patch.spatial
    config = FitConfig(epochs=1, iterations_per_epoch=1_000_000, batch_size=order.batch, precision=order.precision)
    fabric, folder = make_fabric("cpu", order.precision), Path(tempfile.mkdtemp(prefix="medgan-bench"))
    fit = Fit(
        learner, Patches(shape), HeldOut([], []), config, fabric=fabric, folder=folder,
        recorder=Recorder(folder, None, Console(quiet=True)),
    )  # fmt: skip
    bare = Patches(shape)[0]

    step = getattr(learner, "iterate", learner.training_step)

    def steps(calls: int) -> None:
        batch = fit._on_device({key: each.expand(order.batch, *each.shape).clone() for key, each in bare.items()})
        for _ in range(calls):
            step(batch)

    networks = learner.networks().values()
    parameters = sum(each.numel() for network in networks for each in network.parameters())
    facts = {"parameters": parameters, "precision": fabric.strategy.precision.precision}
    if order.bare:
        serve(steps, **facts)
        return
    gate, inner = Gate(), learner.training_step

    def gated(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if threading.current_thread() is threading.main_thread():
            gate.wait()
        return inner(batch)

    learner.training_step = gated  # type: ignore[method-assign]
    gate.serve(fit.run, flops_of=steps, **facts)


if __name__ == "__main__":
    main()
