"""Does a conditional generator do what it is asked? Three ways for the condition to enter, on the head phantom's FLAIR.

Each arm learns 32 x 32 patches of the phantom's training subjects: with a small or a large lesion of white matter, or
of the same places in the same subjects rendered without lesions. The class is then the lesion alone; healthy patches
from anywhere would be told by their scalp, and class would mean place. A classifier that has learnt from the *real*
patches of these subjects, images without label maps, says what the samples of held-out z show. Printed by arm:

    agreement        percent of samples that the classifier takes for healthy, or for a lesion, as asked; then
    with size        the same with the size bin; both beside the classifier's own on real patches of test subjects,
    shuffled         agreement with what other samples were asked, where chance is 50 and 33 percent,
    swapped          percent of z whose sample is taken for a lesion when one is asked and for healthy when none is,
    kept             SSIM of these two samples outside both drawn masks (mean, and the lowest of all),
    changed          mean absolute difference inside the drawn mask and outside, in percent of the intensity range,
    diversity        mean distance between samples as a share of that between real patches; 1 is as diverse as real.

    python bench/conditioning.py --out bench/results/conditioning [--iterations 1200] [--arm layers] [KEY=VALUE ...]

The settings that follow are the generator's, such as ``adversarial=vanilla``.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import seed_everything
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import default_collate

from medgan.config import from_overrides, load
from medgan.data.augmentation import Batch
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import DomainPair
from medgan.data.patches import Patches, batches
from medgan.data.splits import Part, SplitConfig, split_subjects
from medgan.data.studies import find_cohort
from medgan.evaluation.fidelity import fidelity
from medgan.networks.latent import WholeDiscriminator
from medgan.phantom.cohort import write_phantom
from medgan.phantom.tissues import HEAD_LESIONS
from medgan.pictures.tiles import Picture, Row, sheet
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled, LabelledHeldOut
from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN
from medgan.synthesis.generator import GENERATOR, joint, patch_tile, split_joint, spread
from medgan.synthesis.generators import read_cases
from medgan.synthesis.patches import CONDITION, LesionConfig, LesionPatches
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.recorder import Recorder

ARMS = {
    "layers": {"entry": "normalisation", "judged": "projection", "layers": True},
    "normalisation": {"entry": "normalisation", "judged": "projection", "layers": False},
    "concatenation": {"entry": "concatenation", "judged": "concatenation", "layers": False},
}
SMALL = {
    "generator_rate": 1e-3,
    "discriminator_rate": 1e-3,
    "generator": {"latent": 64, "channels": 24},
    "discriminator": {"channels": 24, "norm": "none"},
}
"""For few iterations on a CPU; a discriminator without norm is the steadier one at these rates."""
EDGE_VOXELS = 20
"""Where small ends and large begins: about the median of the phantom's lesions in a slice."""
LESIONS = LesionConfig(
    labels={"lesion": tuple(int(value) for value in HEAD_LESIONS)},
    patch={"size_voxels": 32, "flip": True, "rotation_degrees": 15.0, "scaling": 0.1},
    lesion_share=1.0,
    condition={"classes": True, "size_edges_voxels": (EDGE_VOXELS,)},
)
ASKED = ("healthy", "small", "large")
MARKED = (0, EDGE_VOXELS // 2, 2 * EDGE_VOXELS)
"""Voxels of a lesion of each kind, from which its condition follows."""
POOL, TESTED, DRAWN, SWAPPED, BATCH = 4096, 600, 600, 200, 32


@dataclass(frozen=True)
class Twins:
    """Subjects of one part with their lesions, and the same subjects without."""

    ill: list[Labelled]
    healthy: list[Labelled]
    """Label maps are those of the ill: they say where a lesion would be."""


class Pool(Patches):
    """Patches that were drawn once, in turn: drawing a patch costs more than learning from it.

    Every third is healthy.
    """

    def __init__(self, twins: Twins, config: LesionConfig, number: int, seed: int) -> None:
        ill, healthy = (LesionPatches(cases, config, seed=seed) for cases in (twins.ill, twins.healthy))
        self.patches = [ill.patch(each) if each % 3 else unlabelled(healthy.patch(each)) for each in range(number)]

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number``, begun again where they end."""
        return self.patches[number % len(self.patches)]

    def whole(self) -> Batch:
        """All of them."""
        return default_collate(self.patches)


def main() -> None:
    """Train the classifier and every arm, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results/conditioning"))
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=1200, help="of each arm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arm", action="append", choices=sorted(ARMS), help="only these arms")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    pool = Pool(twins(given, "train"), LESIONS, POOL, given.seed)
    real = Pool(twins(given, "test"), LESIONS.still(), TESTED, given.seed).whole()
    judge = classifier(pool, given.seed)
    columns = {"real patches": of_real(judge, real)}
    for arm in given.arm or ARMS:
        started = time.process_time()
        network = trained(arm, pool, given)
        seconds = time.process_time() - started
        columns[arm] = of_samples(judge, network, real, given.seed) | {"training, s of CPU": seconds}
        (given.out / f"{arm}.png").write_bytes(picture(network, given.seed).png())
        pd.DataFrame(columns).to_csv(given.out / "conditioning.csv")
    table = pd.DataFrame(columns)
    Console(width=110).print(table.map(lambda value: "" if pd.isna(value) else f"{value:.4g}").to_string())


def twins(given: argparse.Namespace, part: Part) -> Twins:
    """The phantom's FLAIR of one part, with and without lesions."""
    ill, healthy = (
        cases(given.out / name, given.subjects, share, part) for name, share in (("ill", 1), ("healthy", 0))
    )
    return Twins(ill, [replace(one, labels=other.labels) for one, other in zip(healthy, ill, strict=True)])


def cases(folder: Path, subjects: int, share: float, part: Part) -> list[Labelled]:
    """Subjects of one part of a phantom of which a share have lesions."""
    table = folder / "cohort.csv"
    if not table.exists():
        write_phantom(folder, kind="head_mr", subjects=subjects, seed=0, lesions=share)
    pair = DomainPair(source=LESIONS.domain, target=LESIONS.domain, paired=False)
    cohort = find_cohort(table, pair)
    return read_cases(cohort, split_subjects(cohort, pair, SplitConfig()), part, LESIONS, Cache(default_folder()))


def unlabelled(patch: Batch) -> Batch:
    """A patch of a healthy twin, with what is true of it."""
    return patch | {LABELS: torch.zeros_like(patch[LABELS]), CONDITION: vectors()[0]}


def vectors() -> Tensor:
    """The condition of each of ``ASKED``, (3, D)."""
    labels = [np.repeat([1, 0], [marked, 1000]) for marked in MARKED]
    found = [LESIONS.condition.vector(LESIONS.names, each, (0.0, 0.0, 0.0), "") for each in labels]
    return torch.from_numpy(np.stack(found))


def kinds(batch: Batch) -> Tensor:
    """Which of ``ASKED`` each real patch is, (B,)."""
    marked = batch[LABELS].flatten(1).count_nonzero(dim=1)
    return (marked > 0).long() + (marked >= EDGE_VOXELS)


def classifier(pool: Pool, seed: int, iterations: int = 1500) -> nn.Module:
    """Learns from real images alone to tell ``ASKED`` apart: (B, 1, 32, 32) to (B, 3)."""
    seed_everything(seed, verbose=False)
    network = WholeDiscriminator(LESIONS.shape, 1, len(ASKED), channels=16)
    optimizer = Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, iterations)
    for batch in batches(pool, 0, iterations, BATCH, workers=0):
        optimizer.zero_grad()
        F.cross_entropy(network(batch[IMAGE]), kinds(batch)).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def trained(arm: str, pool: Pool, given: argparse.Namespace) -> nn.Module:
    """An arm's averaged generator after its last iteration."""
    seed_everything(given.seed, verbose=False)
    config = load(ConditionalConfig, SMALL, ARMS[arm], from_overrides(given.overrides))
    fit = FitConfig(
        epochs=4, iterations_per_epoch=given.iterations // 4, batch_size=BATCH, average_decay=0.99, keep="last"
    )
    folder = given.out / arm
    folder.mkdir(parents=True, exist_ok=True)
    loop = Fit(
        ConditionalGAN(config, LESIONS),
        pool,
        LabelledHeldOut.of([]),
        fit,
        fabric=make_fabric("cpu", "32"),
        folder=folder,
        recorder=Recorder(folder),
    )
    return loop.run().networks[GENERATOR].eval()


def of_real(judge: nn.Module, real: Batch) -> dict[str, float]:
    """The classifier on real patches of subjects that it has not seen: what agreement can be hoped for."""
    asked, generator = kinds(real), torch.Generator().manual_seed(0)
    return agreements(judge, real[IMAGE], asked, asked[torch.randperm(len(asked), generator=generator)])


def of_samples(judge: nn.Module, network: nn.Module, real: Batch, seed: int) -> dict[str, float]:
    """All figures of one generator."""
    torch.manual_seed(seed + 1)
    asked = torch.arange(DRAWN) % len(ASKED)
    samples = drawn(network, torch.randn(DRAWN, network.latent), asked)
    figures = agreements(judge, samples[:, :1], asked, asked[torch.randperm(DRAWN)])
    figures |= swaps(judge, network, torch.randn(SWAPPED, network.latent))
    reference = joint(real[IMAGE], real[LABELS], len(LESIONS.names))
    return figures | {"diversity": spread(samples) / spread(reference)}


@torch.no_grad()
def drawn(network: nn.Module, z: Tensor, asked: Tensor) -> Tensor:
    """Joint samples (B, 2, 32, 32) of z (B, latent), each of the kind (B,) that is asked."""
    samples: Tensor = network(z, vectors()[asked])
    return samples


@torch.no_grad()
def agreements(judge: nn.Module, images: Tensor, asked: Tensor, shuffled: Tensor) -> dict[str, float]:
    """Percent of images that the classifier takes for what was asked, and for what others were asked.

    Healthy and lesion count alike, and so do the three kinds: the means over kinds, whose chance is 1/2 and 1/3.
    """
    found = judge(images).argmax(dim=1)
    return {
        "agreement, %": balanced(found > 0, asked > 0),
        "with size, %": balanced(found, asked),
        "shuffled, %": balanced(found > 0, shuffled > 0),
        "shuffled with size, %": balanced(found, shuffled),
    }


def balanced(found: Tensor, asked: Tensor) -> float:
    """Percent of hits, the mean over what is asked."""
    return float(np.mean([100 * float((found == kind)[asked == kind].double().mean()) for kind in asked.unique()]))


def swaps(judge: nn.Module, network: nn.Module, z: Tensor) -> dict[str, float]:
    """What becomes of samples when a lesion is asked instead of none, z (B, latent) kept; every other one is large."""
    none = torch.zeros(len(z), dtype=torch.long)
    without, lesion = drawn(network, z, none), drawn(network, z, 1 + torch.arange(len(z)) % 2)
    mask = (split_joint(without)[1] + split_joint(lesion)[1] > 0).numpy()
    change = (lesion - without)[:, :1].abs().numpy() / 2 * 100
    with torch.no_grad():
        obeyed = (judge(without[:, :1]).argmax(dim=1) == 0) & (judge(lesion[:, :1]).argmax(dim=1) > 0)
    couples = zip(volumes(lesion), volumes(without), np.moveaxis(~mask, 1, -1), strict=True)
    kept = [fidelity(one, other, outside, (-1.0, 1.0))["ssim"] for one, other, outside in couples]
    return {
        "swapped, %": 100 * float(obeyed.double().mean()),
        "kept, SSIM": float(np.mean(kept)),
        "kept, lowest SSIM": float(np.min(kept)),
        "changed inside, %": float(change[mask].mean()),
        "changed outside, %": float(change[~mask].mean()),
    }


def volumes(samples: Tensor) -> np.ndarray:
    """The images of joint samples (B, 2, X, Y) as (B, X, Y, 1)."""
    return np.moveaxis(samples[:, :1].numpy(), 1, -1)


def picture(network: nn.Module, seed: int, columns: int = 6) -> Picture:
    """Each column a z: healthy, small and large, with the outlines of what was drawn as a lesion."""
    torch.manual_seed(seed + 2)
    z = torch.randn(columns, network.latent)
    rows = []
    for kind, name in enumerate(ASKED):
        images, labels = split_joint(drawn(network, z, torch.full((columns,), kind)))
        pairs = zip(images, labels, strict=True)
        rows.append(Row([patch_tile(image, LESIONS, labels=own) for image, own in pairs], str(name)))
    return sheet(rows, "samples of one z in each column, by what was asked for")


if __name__ == "__main__":
    main()
