"""What painters share: their networks, their losses inside the hidden region, and how they are judged."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from medgan import losses
from medgan.config import Channels, Config, Downs, Layers
from medgan.data.patches import Batch
from medgan.evaluation.synthesis.distances import sliced_wasserstein
from medgan.networks.painter import Painter
from medgan.networks.spade import SpadeGenerator, SpadeNorm
from medgan.segmentation.labelled import IMAGE, LABELS
from medgan.synthesis.generator import GENERATOR, PROJECTIONS, SHOWN, LesionGenerator, volume
from medgan.synthesis.hiding import HidingConfig
from medgan.synthesis.joint import masks
from medgan.synthesis.patches import CONDITION
from medgan.synthesis.settings import LesionConfig
from medgan.training.architecture import DiscriminatorConfig, ResNetConfig, UNetConfig
from medgan.training.learner import HeldOut, Judgement, Networks, Terms, bare, panel

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
