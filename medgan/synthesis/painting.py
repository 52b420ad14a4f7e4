"""Painters: networks that fill a hidden region, with lesions as masks ask for them or with healthy tissue."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from medgan import losses
from medgan.config import Channels, Config, Downs, Layers
from medgan.data.masks import components
from medgan.data.patches import Batch
from medgan.evaluation.synthesis.distances import sliced_wasserstein
from medgan.networks.painter import Painter
from medgan.networks.spade import SpadeGenerator, SpadeNorm
from medgan.segmentation.labelled import IMAGE, LABELS
from medgan.synthesis.generator import GENERATOR, PROJECTIONS, SHOWN, LesionGenerator, masks, volume
from medgan.synthesis.patches import CONDITION, LesionConfig
from medgan.training.architecture import DiscriminatorConfig, ResNetConfig, UNetConfig
from medgan.training.learner import HeldOut, Judgement, Networks, Terms, bare, panel

TISSUE = -0.9
"""Holes are centred on what is brighter than this, of -1 to 1: in the body, not beside it."""
RADII = (1 / 12, 1 / 4)
"""Of the ellipsoids that stand in where no lesion lends its shape, as shares of the patch's edges."""

Mask = NDArray[np.bool_]


class HidingConfig(Config):
    """How much of a training patch is hidden, and how often it is healthy tissue."""

    margin_voxels: tuple[NonNegativeInt, NonNegativeInt] = (1, 4)
    """Smallest and largest margin around what is painted, in plane. It varies, so that the edge of the hidden region
    does not say where a lesion ends."""
    margin_slices: tuple[NonNegativeInt, NonNegativeInt] = (0, 1)
    """The same along the third axis of a block; slices are often thick."""
    healthy_share: float = Field(default=0.25, ge=0, le=1)
    """The share of patches with a lesion in which healthy tissue is hidden instead, as in all patches without one."""
    visible_share: float = Field(default=0.3, ge=0, lt=1)
    """How likely each lesion beside the first stays visible, so that it tells how bright this patient's are."""
    outline_share: float = Field(default=0.0, ge=0, le=1)
    """The share of the patches whose lesions are hidden in which only their outlines are, and those between names: for
    organs that change their shape and keep their inside (``insertion.renew=changed``)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("margin_voxels", "margin_slices"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is the smallest and the largest margin, not [{least}, {most}]")
        return self

    def margins(self, rng: np.random.Generator, spatial: int) -> list[int]:
        """One margin for each axis of a patch, the same for both in plane."""
        plane = int(rng.integers(self.margin_voxels[0], self.margin_voxels[1] + 1))
        slices = int(rng.integers(self.margin_slices[0], self.margin_slices[1] + 1))
        return [plane, plane, slices][:spatial]


def hide(image: Tensor, labels: Tensor, config: HidingConfig, rng: np.random.Generator) -> Tensor:
    """What is hidden of each patch: some of its lesions with a margin, else a hole that touches none of them.

    Args:
        image: (B, 1, *spatial) in [-1, 1].
        labels: (B, 1, *spatial), 0 where there is no lesion.
        config: How much and how often.
        rng: All chance comes from here.

    Returns:
        (B, 1, *spatial) of 0 and 1, of the image's type and on its device.
    """
    drawn = labels[:, 0].cpu().numpy()
    marked, tissue = drawn > 0, (image > TISSUE)[:, 0].cpu().numpy()
    regions = []
    for number, lesions in enumerate(marked):
        margins = config.margins(rng, lesions.ndim)
        if lesions.any() and rng.random() >= config.healthy_share:
            if config.outline_share and rng.random() < config.outline_share:
                region = grown(outline(drawn[number]), margins)
            else:
                region = grown(some_of(lesions, config.visible_share, rng), margins)
        else:
            lender = marked[(number + 1) % len(marked)]
            region = grown(
                moved(lender if lender.any() else ellipsoid(lesions.shape, rng), tissue[number], rng), margins
            )
            region &= ~grown(lesions, [1] * lesions.ndim)
        regions.append(region)
    return torch.from_numpy(np.stack(regions)[:, None]).to(image)


def holes(image: Tensor, labels: Tensor, config: HidingConfig, rng: np.random.Generator) -> Tensor:
    """Healthy tissue of each patch and nothing else; arguments and result as :func:`hide`'s."""
    return hide(image, labels, config.model_copy(update={"healthy_share": 1.0}), rng)


def grown(mask: Mask, margins: Sequence[int]) -> Mask:
    """The mask with a margin of voxels along each axis."""
    return np.asarray(ndimage.maximum_filter(mask, [2 * margin + 1 for margin in margins], mode="constant"))


def outline(labels: NDArray[np.integer]) -> Mask:
    """Voxels that differ from a neighbour, on both sides of every edge of a label map."""
    return np.asarray(ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3))


def some_of(lesions: Mask, visible_share: float, rng: np.random.Generator) -> Mask:
    """The lesions to hide: one of them for sure, any other unless it stays visible."""
    numbered, count = components(lesions)
    chosen = rng.random(count) >= visible_share
    chosen[rng.integers(count)] = True
    return np.asarray(chosen[numbered - 1] & lesions)


def moved(mask: Mask, tissue: Mask, rng: np.random.Generator) -> Mask:
    """The mask mirrored at random and brought onto a random voxel of the tissue; what leaves the patch is lost."""
    voxels = np.argwhere(mask)
    voxels = voxels - np.rint(voxels.mean(axis=0)).astype(int)
    places = np.argwhere(tissue)
    target = places[rng.integers(len(places))] if len(places) else np.array(mask.shape) // 2
    landed = voxels * rng.choice([-1, 1], size=mask.ndim) + target
    inside = ((landed >= 0) & (landed < mask.shape)).all(axis=1)
    result = np.zeros_like(mask)
    result[tuple(landed[inside].T)] = True
    return result


def ellipsoid(shape: Sequence[int], rng: np.random.Generator) -> Mask:
    """An ellipsoid in the middle of a patch, with radii of ``RADII`` of its edges."""
    radii = np.maximum(rng.uniform(*RADII, size=len(shape)) * shape, 1.0)
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    squares = [((axis - size // 2) / radius) ** 2 for axis, size, radius in zip(axes, shape, radii, strict=True)]
    return np.asarray(sum(squares) <= 1)


DISCRIMINATOR = "discriminator"
PERCENT = 50.0
"""Of the window, for a distance of 1 in [-1, 1]."""


class SpadeConfig(Config):
    """A U-Net whose decoder sees context and masks anew after every norm."""

    kind: Literal["spade"] = "spade"
    channels: Channels = 16
    """Channels at full size; they double with each down-sampling."""
    downs: Downs = 2
    hidden: Channels = 16
    """Width of the layer between the maps and the scales and shifts that they give: 128 in the paper."""
    norm: SpadeNorm = "group"

    def build(self, spatial: int, inputs: int) -> nn.Module:
        """The network: (B, inputs, *spatial) to (B, 1, *spatial)."""
        return SpadeGenerator(spatial, inputs, 1, **self.model_dump(exclude={"kind"}))


class PaintingConfig(Config):
    """What all painters are made of and how they learn."""

    network: Annotated[SpadeConfig | ResNetConfig | UNetConfig, Field(discriminator="kind")] = SpadeConfig()
    """resnet and unet take the masks at their first layer, by concatenation, as pix2pix does."""
    noise: Layers = 1
    """Channels of noise, from which one mask may become several lesions; 0 paints one."""
    hiding: HidingConfig = HidingConfig()
    adversarial: losses.Adversarial | Literal["none"] = "hinge"
    """none leaves the L1 term alone: what it paints is as smooth as the median of all that could be there."""
    l1: NonNegativeFloat = 10.0
    """Weight of the mean absolute distance to the truth inside the hidden region, relative to the adversarial term."""
    lesion_weight: PositiveFloat = 2.0
    """How much more a lesion's voxel counts in it than one of the margin."""
    grain: NonNegativeFloat = 0.0
    """Weight of the distance of the hidden region's roughness to the true one: L1 alone paints without noise. At 10 a
    painter uses its noise for it but, without a game and after few steps, also draws the region's outline."""
    warm_up_iterations: NonNegativeInt = 500
    """Iterations at the start without the game."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    discriminator: DiscriminatorConfig = DiscriminatorConfig(receptive_field=16, channels=32, norm="none")
    """It sees the patch beside the hidden region and the masks, and is asked where something is hidden."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Adam's first beta."""
    generator_rate: PositiveFloat = 1e-3
    discriminator_rate: PositiveFloat = 1e-3

    def build(self, lesions: LesionConfig) -> Painter:
        """A fresh painter of patches as ``lesions`` has them."""
        inputs = Painter.inputs(len(lesions.names), lesions.condition_size, self.noise)
        return Painter(self.network.build(lesions.spatial, inputs), self.noise)


class Painting(LesionGenerator):
    """A painter, and a discriminator that sees what was asked for.

    Args:
        config: The settings.
        lesions: What is learnt from.
    """

    best = "val/sliced_wasserstein"

    def __init__(self, config: PaintingConfig, lesions: LesionConfig) -> None:
        super().__init__(lesions)
        self.config, self.iteration = config, 0
        self.painter: nn.Module = config.build(lesions)
        self.discriminator = config.discriminator.build(lesions.spatial, 2 + len(lesions.names), lesions.domain)
        betas = (config.momentum, 0.999)
        self.generator_optimizer: Optimizer = Adam(self.painter.parameters(), config.generator_rate, betas)
        self.discriminator_optimizer: Optimizer = Adam(
            self.discriminator.parameters(), config.discriminator_rate, betas
        )

    @abstractmethod
    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """What is hidden of each patch, (B, 1, *spatial) of 0 and 1."""

    @property
    def plays(self) -> bool:
        """Whether there is a discriminator."""
        return self.config.adversarial != "none"

    def networks(self) -> dict[str, nn.Module]:
        """The painter and, in a game, the discriminator."""
        return {GENERATOR: self.painter} | ({DISCRIMINATOR: self.discriminator} if self.plays else {})

    def optimizers(self) -> dict[str, Optimizer]:
        """One for each network."""
        painter = {GENERATOR: self.generator_optimizer}
        return painter | ({DISCRIMINATOR: self.discriminator_optimizer} if self.plays else {})

    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Work with the wrapped networks from now on."""
        self.fabric = fabric
        self.painter, self.generator_optimizer = networks[GENERATOR], optimizers[GENERATOR]
        if self.plays:
            self.discriminator, self.discriminator_optimizer = networks[DISCRIMINATOR], optimizers[DISCRIMINATOR]

    def training_step(self, batch: Batch) -> Terms:
        """Hide, paint, and descend: the discriminator first, then the painter."""
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        asked = self.asked(batch, self.hidden(batch, rng))
        real, fake = batch[IMAGE], self.painter(*asked)
        terms = self.truth_terms(real, fake, asked)
        if self.plays and self.iteration >= self.config.warm_up_iterations:
            seen = torch.cat(asked[1:3], dim=1)
            self.discriminator.requires_grad_(True)
            discriminator = self.discriminator_terms(seen, real, fake.detach())
            self.descend(self.discriminator_optimizer, discriminator)
            self.discriminator.requires_grad_(False)
            terms |= self.adversarial_terms(seen, fake)
            self.descend(self.generator_optimizer, terms)
            terms |= discriminator
        else:
            self.descend(self.generator_optimizer, terms)
        self.iteration += 1
        return {name: term.detach() for name, term in terms.items()}

    def asked(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a painter is given of a batch: context, hidden region, masks in it, condition."""
        image = batch[IMAGE]
        wanted = masks(batch[LABELS], len(self.lesions.names)).to(image.dtype) * hidden
        return image * (1 - hidden), hidden, wanted, batch[CONDITION]

    def truth_terms(self, real: Tensor, fake: Tensor, asked: tuple[Tensor, ...]) -> Terms:
        """The distances of fake to real (B, 1, *spatial) inside the hidden region; outside there are none."""
        _, hidden, wanted, _ = asked
        weight = hidden + (self.config.lesion_weight - 1) * wanted.sum(dim=1, keepdim=True)
        terms = {"l1": self.config.l1 * losses.reconstruction(fake, real, weight)}
        if self.config.grain:
            terms["grain"] = self.config.grain * losses.grain(fake, real, hidden)
        return terms

    def adversarial_terms(self, seen: Tensor, fake: Tensor) -> Terms:
        """What the discriminator thinks of fake (B, 1, *spatial) beside hidden region and masks."""
        assert self.config.adversarial != "none"
        scores = of_hidden(self.discriminator(torch.cat([seen, fake], dim=1)), seen[:, :1])
        return {"generator": losses.generator_loss(self.config.adversarial, scores)}

    def discriminator_terms(self, seen: Tensor, real: Tensor, fake: Tensor) -> Terms:
        """The conditional discriminator's terms; its input is (B, 2 + names, *spatial)."""
        assert self.config.adversarial != "none"
        real_pair, fake_pair = torch.cat([seen, real], dim=1), torch.cat([seen, fake], dim=1)
        scores = [of_hidden(self.discriminator(pair), seen[:, :1]) for pair in (real_pair, fake_pair)]
        terms = {"discriminator": losses.discriminator_loss(self.config.adversarial, *scores)}
        if self.config.adversarial == "wasserstein":
            penalty = losses.gradient_penalty(bare(self.discriminator), real_pair, fake_pair)
            terms["gradient_penalty"] = self.config.gradient_penalty * penalty
        return terms

    @torch.no_grad()
    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Held-out patches, hidden and painted, against what was there.

        ``val/sliced_wasserstein`` compares the hidden regions as two sets, in units of [-1, 1]; ``val/mae_percent`` is
        the mean absolute error inside them, and ``val/noise_percent`` how much another noise changes: 0 where it is
        not used.
        """
        batch = self.held_out_patches(held_out)
        real = batch[IMAGE]
        asked = self.asked(batch, self.hidden(batch, np.random.default_rng(0)))
        hidden, random = asked[1], torch.Generator().manual_seed(0)
        fake, other = (kept[GENERATOR](*asked, noise=self._noise(real, random)).float() for _ in range(2))
        inside = [(patches * hidden).cpu().numpy() for patches in (fake, real)]
        metrics = {
            "val/sliced_wasserstein": sliced_wasserstein(*inside, projections=PROJECTIONS, seed=0),
            "val/mae_percent": PERCENT * float(losses.reconstruction(fake, real, hidden)),
            "val/noise_percent": PERCENT * float(losses.reconstruction(fake, other, hidden)),
        }
        wanted = 2 * asked[2].amax(dim=1, keepdim=True) - 1
        columns = (asked[0] - hidden, wanted, fake, real)
        return Judgement(metrics, panel([[volume(each[case]) for each in columns] for case in range(SHOWN)], -1.0, 1.0))

    def _noise(self, like: Tensor, random: torch.Generator) -> Tensor:
        return torch.randn(len(like), self.config.noise, *like.shape[2:], generator=random).to(like)

    def state_dict(self) -> dict[str, Any]:
        """The iteration."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the iteration."""
        self.iteration = int(state["iteration"])


def of_hidden(scores: Tensor, hidden: Tensor) -> Tensor:
    """The scores of places where something is hidden, (N,): elsewhere real and painted patches are the same.

    Without this the discriminator mostly judges what it cannot tell apart, and learns little.

    Args:
        scores: Of overlapping patches, (B, 1, *patches).
        hidden: (B, 1, *spatial) of 0 and 1; where it holds nothing at all, every score counts.
    """
    pool = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[hidden.dim() - 2]
    places = pool(hidden, scores.shape[2:]) > 0
    return scores[places] if bool(places.any()) else scores.flatten()


class MaskToLesionConfig(PaintingConfig):
    """Settings of a painter of lesions."""

    kind: Literal["mask_to_lesion"] = "mask_to_lesion"


class MaskToLesion(Painting):
    """Learns on lesions and, in a share of patches, on holes in healthy tissue."""

    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Lesions with a margin, or a hole that touches none."""
        return hide(batch[IMAGE], batch[LABELS], self.config.hiding, rng)


class InpaintingConfig(PaintingConfig):
    """Settings of a painter of healthy tissue."""

    kind: Literal["inpainting"] = "inpainting"


class Inpainting(Painting):
    """Learns on holes in healthy tissue alone; the masks that it is given are always empty."""

    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """A hole that touches no lesion."""
        return holes(batch[IMAGE], batch[LABELS], self.config.hiding, rng)
