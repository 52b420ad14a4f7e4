"""Painters: networks that fill a hidden region, with lesions as masks ask for them or with healthy tissue.

Sources: Park et al. 2019, arXiv:1903.07291 (SPADE); Isola et al. 2017, arXiv:1611.07004 (concatenation).
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from medgan import losses
from medgan.config import Channels, Config, Downs, Layers
from medgan.data.augmentation import Batch
from medgan.data.masks import components
from medgan.evaluation.synthesis.distances import sliced_wasserstein
from medgan.networks.painter import Painter
from medgan.networks.spade import SpadeGenerator, SpadeNorm
from medgan.pictures.panels import panel
from medgan.pictures.tiles import Row
from medgan.segmentation.labelled import IMAGE, LABELS
from medgan.synthesis.generator import (
    DISCRIMINATOR,
    GENERATOR,
    PROJECTIONS,
    SHOWN,
    LesionGenerator,
    masks,
    patch_planes,
    patch_tile,
    split_joint,
)
from medgan.synthesis.patches import CONDITION, TISSUE, LesionConfig
from medgan.training.architecture import DiscriminatorConfig, ResNetConfig, UNetConfig
from medgan.training.learner import HeldOut, Judgement, Networks, Terms, bare, joined

RADII = (1 / 12, 1 / 4)
"""Of the ellipsoids that stand in where no lesion lends its shape, as shares of the patch's edges."""
PERCENT = 50.0
"""Of the window, for a distance of 1 in [-1, 1]."""

Mask = NDArray[np.bool_]
HIDDEN = "hidden"
"""The key of what is hidden of a patch."""


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


def hide(
    image: Tensor, labels: Tensor, config: HidingConfig, rng: np.random.Generator, *, holes_only: bool = False
) -> Tensor:
    """What is hidden of each patch, (B, 1, *spatial) of 0 and 1: some lesions with a margin, else a hole beside them.

    Image and labels are (B, 1, *spatial). With ``holes_only`` healthy tissue of every patch is hidden. A hole has the
    shape of the next patch's lesions; where those are none, of an ellipsoid.
    """
    numbers = labels[:, 0].cpu().numpy()
    marked, tissue = numbers > 0, (image > TISSUE)[:, 0].cpu().numpy()
    healthy_share = 1.0 if holes_only else config.healthy_share
    regions = []
    for number, lesions in enumerate(marked):
        drawn = (rng.integers(*margin, endpoint=True) for margin in (config.margin_voxels, config.margin_slices))
        plane, slices = map(int, drawn)
        margins = [plane, plane, slices][: lesions.ndim]
        if lesions.any() and rng.random() >= healthy_share:
            outlined = config.outline_share and rng.random() < config.outline_share
            hidden = _outline(numbers[number]) if outlined else _some_of(lesions, config.visible_share, rng)
            regions.append(_grown(hidden, margins))
        else:
            lender = marked[(number + 1) % len(marked)]
            hole = _moved(lender if lender.any() else _ellipsoid(lesions.shape, rng), tissue[number], rng)
            regions.append(_grown(hole, margins) & ~_grown(lesions, [1] * lesions.ndim))
    return torch.from_numpy(np.stack(regions)[:, None]).to(image)


def _grown(mask: Mask, margins: Sequence[int]) -> Mask:
    """The mask with a margin of voxels along each axis."""
    return np.asarray(ndimage.maximum_filter(mask, [2 * margin + 1 for margin in margins], mode="constant"))


def _outline(labels: NDArray[np.integer]) -> Mask:
    """Voxels that differ from a neighbour, on both sides of every edge of a label map."""
    return np.asarray(ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3))


def _some_of(lesions: Mask, visible_share: float, rng: np.random.Generator) -> Mask:
    """The lesions to hide: one of them for sure, any other unless it stays visible."""
    numbered, count = components(lesions)
    chosen = rng.random(count) >= visible_share
    chosen[rng.integers(count)] = True
    return np.asarray(chosen[numbered - 1] & lesions)


def _moved(mask: Mask, tissue: Mask, rng: np.random.Generator) -> Mask:
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


def _ellipsoid(shape: Sequence[int], rng: np.random.Generator) -> Mask:
    """An ellipsoid in the middle of a patch, with radii of ``RADII`` of its edges."""
    radii = np.maximum(rng.uniform(*RADII, size=len(shape)) * shape, 1.0)
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    squares = [((axis - size // 2) / radius) ** 2 for axis, size, radius in zip(axes, shape, radii, strict=True)]
    return np.asarray(sum(squares) <= 1)


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
    """A painter, and a discriminator that sees the hidden region and the masks beside the patch."""

    holes_only = False
    """Whether nothing but healthy tissue is hidden."""
    prepares = True

    def __init__(self, config: PaintingConfig, lesions: LesionConfig) -> None:
        painter = config.build(lesions)
        discriminator = config.discriminator.build(lesions.spatial, 2 + len(lesions.names), lesions.domain)
        # It is built without a game, too: painters of one seed begin alike.
        game = {DISCRIMINATOR: discriminator} if config.adversarial != "none" else {}
        rates = {GENERATOR: config.generator_rate, DISCRIMINATOR: config.discriminator_rate}
        super().__init__(lesions, {GENERATOR: painter, **game}, rates, (config.momentum, 0.999))
        self.config = config

    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """What is hidden of each patch, (B, 1, *spatial) of 0 and 1."""
        return hide(batch[IMAGE], batch[LABELS], self.config.hiding, rng, holes_only=self.holes_only)

    def prepare(self, batch: Batch) -> Batch:
        """The batch with what is hidden of it: components are counted, which a GPU does not."""
        return batch | {HIDDEN: self.hidden(batch, np.random.default_rng(int(torch.randint(2**31, (1,)))))}

    def training_step(self, batch: Batch) -> Terms:
        """Paint what is hidden, and descend: the discriminator first, then the painter."""
        inputs = self._inputs(batch, (batch if HIDDEN in batch else self.prepare(batch))[HIDDEN])
        real, fake = batch[IMAGE], self.generator(*inputs)
        terms, discriminator = self._truth_terms(real, fake, inputs), {}
        adversarial = self.config.adversarial
        if adversarial != "none" and self.iteration >= self.config.warm_up_iterations:
            condition = torch.cat(inputs[1:3], dim=1)
            self.discriminator.requires_grad_(True)
            discriminator = self._discriminator_terms(adversarial, condition, real, fake.detach())
            self.descend(self.discriminator_optimizer, discriminator)
            self.discriminator.requires_grad_(False)
            scores = self.discriminator(torch.cat([condition, fake], dim=1))
            terms["generator"] = losses.generator_loss(adversarial, scores, _of_hidden(scores, condition[:, :1]))
        self.descend(self.generator_optimizer, terms)
        return {name: term.detach() for name, term in (terms | discriminator).items()}

    def _inputs(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A painter's inputs: context, hidden region, masks in it, condition."""
        image = batch[IMAGE]
        wanted = masks(batch[LABELS], len(self.lesions.names)).to(image.dtype) * hidden
        return image * (1 - hidden), hidden, wanted, batch[CONDITION]

    def _truth_terms(self, real: Tensor, fake: Tensor, inputs: tuple[Tensor, ...]) -> Terms:
        """The distances of fake to real (B, 1, *spatial) inside the hidden region; outside there are none."""
        _, hidden, wanted, _ = inputs
        weight = hidden + (self.config.lesion_weight - 1) * wanted.sum(dim=1, keepdim=True)
        terms = {"l1": self.config.l1 * losses.reconstruction(fake, real, weight, self.ranks.total)}
        if self.config.grain:
            terms["grain"] = self.config.grain * losses.grain(fake, real, hidden)
        return terms

    def _discriminator_terms(
        self, adversarial: losses.Adversarial, condition: Tensor, real: Tensor, fake: Tensor
    ) -> Terms:
        """The discriminator's terms; it sees hidden region and masks (B, 1 + names, *spatial) beside a patch."""
        pairs = [torch.cat([condition, patch], dim=1) for patch in (real, fake)]
        of_real, of_fake = joined(self.discriminator, pairs)
        weight = _of_hidden(of_real, condition[:, :1])
        terms = {"discriminator": losses.discriminator_loss(adversarial, of_real, of_fake, weight)}
        if adversarial == "wasserstein":
            penalty = losses.gradient_penalty(bare(self.discriminator), *pairs)
            terms["gradient_penalty"] = self.config.gradient_penalty * penalty
        return terms

    @torch.no_grad()
    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Held-out patches, hidden and painted, against what was there.

        ``val/sliced_wasserstein`` compares the hidden regions as two sets, in units of [-1, 1]; ``val/mae_percent`` is
        the mean absolute error inside them, and ``val/noise_percent`` how much another noise changes: 0 where it is
        not used.
        """
        batch = self.held_out_patches(held_out)
        real = batch[IMAGE]
        inputs = self._inputs(batch, self.hidden(batch, np.random.default_rng(0)))
        hidden, random = inputs[1], torch.Generator().manual_seed(0)
        shape = (len(real), self.config.noise, *real.shape[2:])
        noises = (torch.randn(shape, generator=random).to(real) for _ in range(2))
        fake, other = (networks[GENERATOR](*inputs, noise=noise).float() for noise in noises)
        inside = [(patches * hidden).cpu().numpy() for patches in (fake, real)]
        metrics = {
            "val/sliced_wasserstein": sliced_wasserstein(*inside, projections=PROJECTIONS, seed=0),
            "val/mae_percent": PERCENT * float(losses.reconstruction(fake, real, hidden)),
            "val/noise_percent": PERCENT * float(losses.reconstruction(fake, other, hidden)),
        }
        wanted = split_joint(torch.cat([inputs[0], 2 * inputs[2] - 1], dim=1))[1]
        columns = {"around what is hidden": inputs[0] - hidden, "painted": fake, "real": real}
        rows = [
            Row([patch_tile(each[case], self.lesions, plane, name, wanted[case]) for name, each in columns.items()],
                f"patch {case + 1}, {plane}")
            for case in range(SHOWN) for plane in patch_planes(real)
        ]  # fmt: skip
        return Judgement(metrics, panel(rows, "held-out patches with the outlines that are asked for"))


def _of_hidden(scores: Tensor, hidden: Tensor) -> Tensor:
    """The weight of scores (B, 1, *patches), 1 on average: 0 where nothing is hidden, unless that is everywhere.

    Elsewhere real and painted patches are the same: the discriminator would mostly judge what it cannot tell apart.
    """
    pool = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}[hidden.dim() - 2]
    places = pool(hidden, scores.shape[2:]) > 0
    # Weights and no choice of scores: how many there are would have to be waited for on a GPU.
    counted = (places | ~places.any()).to(scores.dtype)
    return counted / counted.mean()


class MaskToLesionConfig(PaintingConfig):
    """Settings of a painter of lesions."""

    kind: Literal["mask_to_lesion"] = "mask_to_lesion"


class MaskToLesion(Painting):
    """Paints lesions where masks ask for them, and healthy tissue where they are empty.

    Real lesions are hidden with a margin and painted from their masks. In a share of patches healthy tissue is hidden
    and the mask is empty, so that the same painter knows both what a lesion is and what it is not.
    """


class InpaintingConfig(PaintingConfig):
    """Settings of a painter of healthy tissue."""

    kind: Literal["inpainting"] = "inpainting"


class Inpainting(Painting):
    """The way back, from a lesion to what lay there: learns on holes in healthy tissue; its masks are always empty."""

    holes_only = True
