"""Pseudo-healthy filling where the truth is known: holes in healthy heads of the phantom, filled in several ways.

A painter of healthy tissue learns on some subjects' FLAIR without any lesion. On others the same holes, ellipses of 5
to 16 voxels and a margin, are filled by the mean of the patch's tissue, by a smooth surface (biharmonic inpainting,
Damelin and Hoang 2018, doi:10.1155/2018/3950312), by the painter and, with --sampler, by the search of a generator's
inputs (Yeh et al. 2017, arXiv:1607.07539). Printed by way over the test subjects: mean absolute error inside the holes
in percent of the window, the same as a share of the mean fill's, and how much the filled voxels vary as a share of how
much the true ones do: 1 is lifelike, 0 flat. Then the painter's difference to each other way, with its 95 % interval.

    python bench/inpainting.py --out bench/results [--iterations 600] [--adversarial hinge] [--sampler MODEL]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from rich.console import Console
from skimage.restoration import inpaint_biharmonic
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import default_collate

from medgan import losses
from medgan.config import Config
from medgan.data.domains import Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import prepare
from medgan.data.volumes import read_volume
from medgan.evaluation.statistics import t_interval
from medgan.networks.painter import composite
from medgan.phantom.cohort import write_phantom
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.generators import GeneratorDescription, GeneratorModel, SynthesisConfig, generator_task
from medgan.synthesis.painting import HidingConfig, InpaintingConfig, hide
from medgan.synthesis.patches import FLAIR, LesionConfig, LesionPatches
from medgan.training.device import make_fabric
from medgan.training.fit import FitConfig
from medgan.training.model_folder import read_model

PERCENT = 50.0
"""Of the window, for a distance of 1 in [-1, 1]."""
MARGINS = HidingConfig(margin_voxels=(1, 3))
WINDOW = Window(lower=0.5, upper=99.5, percentiles=True)
HEALTHY = LesionConfig(
    domain=FLAIR.model_copy(update={"window": WINDOW}), patch=PatchConfig(size_voxels=32, flip=True), lesion_share=0.0
)

Fill = Callable[[Tensor, Tensor], NDArray[np.float32]]
"""Context and hidden region, both (B, 1, *shape), to filled patches of that shape."""


def main() -> None:
    """Train, fill, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--subjects", type=int, default=10, help="the last four are tested on")
    parser.add_argument("--patches", type=int, default=32, help="holes a test subject")
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--adversarial", default="none", help="the painter's game; none is L1 alone")
    parser.add_argument("--sampler", type=Path, help="model folder of a sampler, trained on patches of 32 x 32 voxels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cases = healthy_heads(given.out / "healthy_heads", given.subjects, given.seed)
    fills: dict[str, Fill] = {"mean of the tissue": mean_fill, "biharmonic": smooth_fill}
    if given.sampler:
        fills["semantic"] = searched(read_model(given.sampler, GeneratorDescription))
    fills["painter"] = painted(train(cases[:-4], given))
    rows = [row for case in cases[-4:] for row in judged(case, fills, given)]
    frame = pd.DataFrame(rows)
    frame.to_csv(given.out / "inpainting.csv", index=False)
    show(frame, Console(width=110))


def healthy_heads(folder: Path, subjects: int, seed: int) -> list[Labelled]:
    """FLAIR of heads without a lesion."""
    write_phantom(folder, kind="head_mr", subjects=subjects, seed=seed, lesions=0.0)
    cases = []
    for subject in sorted(folder.glob("sub-*")):
        image = prepare(read_volume(subject / "flair.nii.gz"), HEALTHY.domain, HEALTHY.grid)
        cases.append(Labelled(subject.name, image, np.zeros(image.voxels.shape, dtype=np.uint8)))
    return cases


def train(cases: list[Labelled], given: argparse.Namespace) -> GeneratorModel:
    """A painter of healthy tissue."""
    generator = InpaintingConfig(
        adversarial=given.adversarial, hiding=MARGINS, warm_up_iterations=given.iterations // 3
    )
    fit = FitConfig(
        epochs=4, iterations_per_epoch=given.iterations // 4, batch_size=8, keep="last", average_decay=0.99,
        validate_every=4,
    )  # fmt: skip
    config = SynthesisConfig(**dict(HEALTHY), generator=generator, fit=fit)
    folder = given.out / f"inpainting_{given.adversarial}"
    return generator_task(cases, cases[:1], config, seed=given.seed).train(folder, make_fabric("auto", "auto"))


def judged(case: Labelled, fills: dict[str, Fill], given: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each way to fill one subject's holes."""
    still = HEALTHY.model_copy(update={"patch": HEALTHY.patch.still()})
    patches = LesionPatches([case], still, seed=given.seed)
    batch = default_collate([patches.patch(number) for number in range(given.patches)])
    image = batch["image"]
    hidden = hide(image, batch["labels"], MARGINS, np.random.default_rng(given.seed), holes_only=True)
    inside, context, truth = hidden.numpy() > 0, image * (1 - hidden), image.numpy()
    rows: list[dict[str, object]] = []
    for name, fill in fills.items():
        found = fill(context, hidden)
        pairs = [(f[i], t[i]) for f, t, i in zip(found, truth, inside, strict=True) if i.sum() > 1]
        error = PERCENT * np.abs(found - truth)[inside].mean()
        spread = np.mean([f.std() for f, _ in pairs]) / np.mean([t.std() for _, t in pairs])
        rows.append({"subject": case.subject, "way": name, "error, %": error, "variation": spread})
    return rows


def mean_fill(context: Tensor, hidden: Tensor) -> NDArray[np.float32]:
    """The mean of what is known and no air."""
    known = (hidden == 0) & (context > -0.9)
    axes = tuple(range(1, context.dim()))
    mean = (context * known).sum(axes, keepdim=True) / known.sum(axes, keepdim=True).clamp_min(1)
    return torch.where(hidden > 0, mean, context).numpy()


def smooth_fill(context: Tensor, hidden: Tensor) -> NDArray[np.float32]:
    """The surface whose biharmonic vanishes inside the hole."""
    pairs = zip(context[:, 0].numpy(), hidden[:, 0].numpy() > 0, strict=True)
    return np.stack([inpaint_biharmonic(*pair) for pair in pairs])[:, None].astype(np.float32)


def painted(model: GeneratorModel) -> Fill:
    """What a painter paints without a mask."""

    @torch.no_grad()
    def fill(context: Tensor, hidden: Tensor) -> NDArray[np.float32]:
        return model.network(context, hidden, *asks_nothing(context, model.description.config)).float().numpy()

    return fill


def searched(model: GeneratorModel) -> Fill:
    """The sample of a generator that fits around the hole."""
    latent: int = getattr(model.description.config.generator, "latent")  # noqa: B009 - samplers have it, painters do not
    painter = SemanticInpainting(model.network, latent, SemanticConfig())

    def fill(context: Tensor, hidden: Tensor) -> NDArray[np.float32]:
        return painter(context, hidden, *asks_nothing(context, model.description.config)).numpy()

    return fill


def asks_nothing(context: Tensor, lesions: LesionConfig) -> tuple[Tensor, Tensor]:
    """Empty masks and an empty condition."""
    masks = torch.zeros(len(context), len(lesions.names), *context.shape[2:])
    return masks, torch.zeros(len(context), lesions.condition_size)


def show(frame: pd.DataFrame, console: Console) -> None:
    """Means over subjects, and differences to the painter."""
    table = frame.groupby("way", sort=False)[["error, %", "variation"]].mean()
    table["of mean fill"] = table["error, %"] / table.loc["mean of the tissue", "error, %"]
    console.print(table.round(3).to_string())
    by_subject = frame.pivot(index="subject", columns="way", values="error, %")
    for way in by_subject.columns.drop("painter"):
        interval = t_interval((by_subject["painter"] - by_subject[way]).to_numpy())
        console.print(f"painter - {way}: {interval.mean:+.2f} % [{interval.lower:+.2f}, {interval.upper:+.2f}]")


Realness = Callable[[Tensor], Tensor]
"""A discriminator: joint patches (B, 1 + names, *spatial) to raw scores."""


class SemanticConfig(Config):
    """How a sampler's inputs are searched; the defaults are the paper's."""

    steps: PositiveInt = 1500
    rate: PositiveFloat = 0.01
    window_voxels: PositiveInt = 7
    """Edge of the neighbourhood in which a known voxel's distance to the hole counts."""
    prior: NonNegativeFloat = 0.003
    """Weight of the prior: that a discriminator takes the sample for real or, without one, that z is a likely draw."""
    seed: int = 0


class SemanticInpainting(nn.Module):
    """A sampler as painter: the sample that fits best around the hidden region fills it.

    ``z = argmin sum W |G(z) - y| + prior * L_p(z)``, over known voxels of the image and, as the masks are known
    everywhere, over all of theirs. W is the share of hidden voxels around each known one. L_p is log(1 - D(G(z))) with
    a discriminator. A model folder holds none; then it is the mean of z squared, z's own likelihood.

    Args:
        sampler: z (B, latent) and condition (B, D) to joint patches (B, 1 + names, *spatial) in [-1, 1].
        latent: The length of z.
        config: The search.
        realness: The sampler's discriminator.

    Source: Yeh et al. 2017, arXiv:1607.07539, section 3: importance weighted context loss and prior loss. Their Poisson
    blending is left to what inserts the patch.
    """

    def __init__(
        self, sampler: nn.Module, latent: int, config: SemanticConfig, realness: Realness | None = None
    ) -> None:
        super().__init__()
        self.sampler, self.latent, self.config, self.realness = (
            sampler.eval().requires_grad_(False),
            latent,
            config,
            realness,
        )

    def forward(self, context: Tensor, hidden: Tensor, masks: Tensor, condition: Tensor) -> Tensor:
        """As :class:`medgan.networks.painter.Painter`'s; outside the hidden region the context to the bit."""
        config, weight = self.config, importance(hidden, self.config.window_voxels)
        wanted = 2 * masks.to(context.dtype) - 1
        random = torch.Generator().manual_seed(config.seed)
        z = torch.randn(len(context), self.latent, generator=random).to(context).requires_grad_()
        optimizer = Adam([z], config.rate)
        # A painter is used without gradients; this one descends for each patch.
        with torch.enable_grad():
            for _ in range(config.steps):
                optimizer.zero_grad(set_to_none=True)
                sample = self.sampler(z, condition)
                image, drawn = sample[:, :1], sample[:, 1:]
                fit = (weight * (image - context).abs()).sum() / weight.sum().clamp_min(1e-6)
                self._loss(fit + F.l1_loss(drawn, wanted), sample, z).backward()
                optimizer.step()
        with torch.no_grad():
            return composite(context, hidden, self.sampler(z, condition)[:, :1])

    def _loss(self, fit: Tensor, sample: Tensor, z: Tensor) -> Tensor:
        if self.realness is None:
            return fit + self.config.prior * z.square().mean()
        # log(1 - D) of raw scores: minus the cross-entropy with the label "fake".
        return fit - self.config.prior * losses.binary_cross_entropy(self.realness(sample), real=False)


def importance(hidden: Tensor, window_voxels: int) -> Tensor:
    """How much each known voxel counts: the share of hidden ones in the window around it; hidden ones count 0.

    Args:
        hidden: (B, 1, *spatial) of 0 and 1.
        window_voxels: Edge of the window, odd.
    """
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[hidden.dim() - 2]
    around = pool(hidden, window_voxels, 1, window_voxels // 2)
    return (1 - hidden) * around


if __name__ == "__main__":
    main()
