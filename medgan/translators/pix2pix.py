"""pix2pix: paired translation by a conditional GAN and L1 (Isola et al. 2017, arXiv:1611.07004)."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan import losses
from medgan.config import Config
from medgan.data.domains import DomainPair
from medgan.data.transforms import PatchConfig
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig
from medgan.training.learner import Batch, HeldOut, Judgement, Networks, Terms
from medgan.translators.translator import PANEL_CASES, Translator, bare, panel, shown_bounds
from medgan.translators.validation import paired_metrics


class Pix2PixConfig(Config):
    """pix2pix's game; the defaults are the reference's."""

    adversarial: losses.Adversarial | Literal["none"] = "vanilla"
    """none leaves the L1 term alone: the regression arm that every adversarial result is held against."""
    l1: NonNegativeFloat = 100.0
    """Weight of the mean absolute distance to the true target."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    generator_rate: PositiveFloat = 2e-4
    discriminator_rate: PositiveFloat = 2e-4


class Pix2Pix(Translator):
    """One generator; a discriminator that sees source and target together."""

    kept = ("to_target",)
    best = "val/mae_hu"

    def __init__(
        self,
        config: Pix2PixConfig,
        *,
        pair: DomainPair,
        patch: PatchConfig,
        generator: GeneratorConfig,
        discriminator: DiscriminatorConfig,
    ) -> None:
        super().__init__(pair, patch, generator)
        self.config = config
        self.to_target = self.build_generator("to_target")
        self.discriminator = discriminator.build(patch.spatial, patch.channels + 1, pair.target)
        betas = (0.5, 0.999)
        self.generator_optimizer: Optimizer = Adam(self.to_target.parameters(), config.generator_rate, betas)
        self.discriminator_optimizer: Optimizer = Adam(
            self.discriminator.parameters(), config.discriminator_rate, betas
        )

    def networks(self) -> dict[str, nn.Module]:
        """The generator and, in an adversarial game, the discriminator."""
        generator = {"to_target": self.to_target}
        return generator | ({} if self.config.adversarial == "none" else {"discriminator": self.discriminator})

    def optimizers(self) -> dict[str, Optimizer]:
        """One for each network."""
        generator = {"generator": self.generator_optimizer}
        return generator | (
            {} if self.config.adversarial == "none" else {"discriminator": self.discriminator_optimizer}
        )

    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Work with the wrapped networks from now on."""
        self.fabric = fabric
        self.to_target, self.generator_optimizer = networks["to_target"], optimizers["generator"]
        if self.config.adversarial != "none":
            self.discriminator, self.discriminator_optimizer = networks["discriminator"], optimizers["discriminator"]

    def training_step(self, batch: Batch) -> Terms:
        """Discriminator first, then the generator, as the reference does."""
        source, target = batch["source"], centre_channel(batch["target"])
        fake = self.to_target(source)
        discriminator: Terms = {}
        if self.config.adversarial != "none":
            self.discriminator.requires_grad_(True)
            discriminator = self.discriminator_terms(source, target, fake.detach())
            self.descend(self.discriminator_optimizer, discriminator)
            self.discriminator.requires_grad_(False)
        generator = self.generator_terms(batch, fake)
        self.descend(self.generator_optimizer, generator)
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def l1_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """The weighted distance of fake (B, 1, *shape) to the target of the batch."""
        return {"l1": self.config.l1 * losses.reconstruction(fake, centre_channel(batch["target"]))}

    def generator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """Weighted terms; fake (B, 1, *shape)."""
        terms = self.l1_terms(batch, fake)
        if self.config.adversarial != "none":
            scores = self.discriminator(torch.cat([batch["source"], fake], dim=1))
            terms["to_target"] = losses.generator_loss(self.config.adversarial, scores)
        return terms

    def discriminator_terms(self, source: Tensor, target: Tensor, fake: Tensor) -> Terms:
        """The conditional discriminator's terms; its input is (B, C + 1, *shape)."""
        assert self.config.adversarial != "none"
        real_pair, fake_pair = torch.cat([source, target], dim=1), torch.cat([source, fake], dim=1)
        scores = self.discriminator(real_pair), self.discriminator(fake_pair)
        terms = {"discriminator": losses.discriminator_loss(self.config.adversarial, *scores)}
        if self.config.adversarial == "wasserstein":
            penalty = losses.gradient_penalty(bare(self.discriminator), real_pair, fake_pair)
            terms["gradient_penalty"] = self.config.gradient_penalty * penalty
        return terms

    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Mean absolute error on held-out pairs."""
        fakes = [self.translate(kept["to_target"], study) for study in held_out.source]
        metrics = paired_metrics(held_out, fakes)
        window = shown_bounds(self.pair, held_out.target[0])
        cases = list(zip(held_out.source, fakes, held_out.target, strict=True))[:PANEL_CASES]
        shown = [
            [source.voxels, fake, target.voxels, window[0] + np.abs(target.voxels - fake)]
            for source, fake, target in cases
        ]
        return Judgement(metrics, panel(shown, *window))
