"""The adversarial games of generators from noise, and their networks' settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan import losses
from medgan.config import Channels, Config
from medgan.networks.blocks import Norm, UpSampling
from medgan.networks.discriminators import PatchDiscriminator, ReceptiveField
from medgan.networks.latent import ConditionalPatches, Entry, Judged, LatentGenerator, WholeDiscriminator
from medgan.synthesis.generator import DISCRIMINATOR, GENERATOR, Sampler
from medgan.synthesis.patches import CONDITION, LesionConfig
from medgan.training.learner import Batch, Terms, bare, joined

CRITIC = "critic"


class LatentConfig(Config):
    """A generator from noise; the defaults are DCGAN's."""

    latent: Channels = 100
    """The length of z."""
    channels: Channels = 64
    """At the finest inner map; they double with each coarser one, up to eight times."""
    norm: Norm = "batch"
    upsampling: UpSampling = "transposed"

    def build(
        self, lesions: LesionConfig, outputs: int, *, condition: int = 0, entry: Entry = "concatenation"
    ) -> LatentGenerator:
        """The network: z (B, latent) and a condition (B, D) to (B, outputs, *shape) in [-1, 1]."""
        return LatentGenerator(lesions.shape, outputs, condition=condition, entry=entry, **self.model_dump())


class JudgeConfig(Config):
    """A discriminator of joint patches; the defaults are DCGAN's."""

    receptive_field: ReceptiveField | Literal["whole"] = "whole"
    """whole: one score for the patch. A number: a score for each field of so many voxels, a PatchGAN."""
    channels: Channels = 64
    norm: Norm = "batch"

    def build(
        self, lesions: LesionConfig, outputs: int = 1, *, condition: int = 0, entry: Judged = "concatenation"
    ) -> nn.Module:
        """The network: joint patches (B, 1 + K, *shape) and a condition (B, D) to raw scores."""
        inputs, own = 1 + len(lesions.names), self.model_dump()
        if self.receptive_field == "whole":
            del own["receptive_field"]
            return WholeDiscriminator(lesions.shape, inputs, outputs, condition=condition, entry=entry, **own)
        return ConditionalPatches(PatchDiscriminator(lesions.spatial, inputs + condition, **own), condition)


class GameConfig(Config):
    """The game's settings; the defaults are DCGAN's."""

    adversarial: losses.Adversarial = "vanilla"
    """vanilla is the non-saturating game; wasserstein comes with its gradient penalty."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    generator_rate: PositiveFloat = 2e-4
    discriminator_rate: PositiveFloat = 2e-4
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Adam's first beta."""
    generator: LatentConfig = LatentConfig()
    discriminator: JudgeConfig = JudgeConfig()

    @model_validator(mode="after")
    def _a_penalty_of_each_image(self) -> Self:
        if self.adversarial == "wasserstein" and self.discriminator.norm == "batch":
            raise ValueError(
                "adversarial=wasserstein penalises the gradient of each image's own score, which batch norm mixes; "
                "set discriminator.norm=instance or none"
            )
        return self

    def check_entry(self, entry: Entry) -> None:
        """Refuse a condition that is to enter through norms which have no scale and shift of their own."""
        if entry == "normalisation" and self.generator.norm not in ("batch", "instance"):
            raise ValueError(
                f"entry=normalisation needs generator.norm=batch or instance, not {self.generator.norm}; or set "
                "entry=concatenation"
            )


class Game(Sampler):
    """One generator, and one discriminator of joint patches (B, 1 + K, *shape); both may see the condition (B, D)."""

    def __init__(
        self, config: GameConfig, lesions: LesionConfig, generator: nn.Module, discriminator: nn.Module
    ) -> None:
        rates = {GENERATOR: config.generator_rate, DISCRIMINATOR: config.discriminator_rate}
        networks = {GENERATOR: generator, DISCRIMINATOR: discriminator}
        super().__init__(lesions, networks, rates, (config.momentum, 0.999))
        self.game = config

    def training_step(self, batch: Batch) -> Terms:
        """Discriminator first, then the generator, with the conditions of the real patches."""
        real, condition = self.joint(batch), batch[CONDITION]
        fake = self.generator(self.noise(real), condition)
        discriminator = self.discriminator_terms(real, fake.detach(), condition)
        self.descend(self.discriminator_optimizer, discriminator)
        self.discriminator.requires_grad_(False)
        generator = self.generator_terms(fake, condition)
        self.descend(self.generator_optimizer, generator)
        self.discriminator.requires_grad_(True)
        return {name: term.detach() for name, term in (discriminator | generator).items()}

    def generator_terms(self, fake: Tensor, condition: Tensor) -> Terms:
        """What the discriminator thinks of fake (B, 1 + K, *shape) beside its condition (B, D)."""
        return {GENERATOR: losses.generator_loss(self.game.adversarial, self.discriminator(fake, condition))}

    def discriminator_terms(self, real: Tensor, fake: Tensor, condition: Tensor) -> Terms:
        """The discriminator's terms; real and fake (B, 1 + K, *shape) have the same condition (B, D)."""
        scores = joined(self.discriminator, [real, fake], condition)
        terms = {DISCRIMINATOR: losses.discriminator_loss(self.game.adversarial, *scores)}
        network = bare(self.discriminator)
        return terms | self.penalty_terms(lambda between: network(between, condition), real, fake)

    def penalty_terms(self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Terms:
        """The gradient penalty, in the Wasserstein game only."""
        if self.game.adversarial != "wasserstein":
            return {}
        return {"gradient_penalty": self.game.gradient_penalty * losses.gradient_penalty(score, real, fake)}


class WassersteinConfig(Config):
    """How the Wasserstein game with gradient penalty is played; the defaults are those of Progressive GAN."""

    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the penalty that keeps the critic's gradient at length 1."""
    drift: NonNegativeFloat = 1e-3
    """Weight of the real scores' mean square: only their difference to the others counts, and this keeps them near 0
    (Karras et al. 2018, appendix A.1)."""
    critic_steps: PositiveInt = 1
    """Turns of the critic to one of the generator: 1 as in Progressive GAN, 5 in Gulrajani et al. 2017."""


@dataclass(frozen=True)
class WassersteinGame:
    """A critic that learns how far generated images are from real ones, and a generator that comes nearer.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
    """

    config: WassersteinConfig
    critic: nn.Module
    """(B, ...) and condition (B, D) to raw scores (B, 1)."""
    optimizers: Mapping[str, Optimizer]
    """Of the generator and of the critic."""
    descend: Callable[[Optimizer, Terms], None]
    """One step down the sum of terms: the learner's."""

    def turn(self, iteration: int, real: Tensor, condition: Tensor, draw: Callable[[], Tensor]) -> Terms:
        """The critic's step and, in every ``critic_steps``-th iteration (from 0), the generator's; the terms, detached.

        Real images (B, ...) and those that ``draw`` generates have the same conditions (B, D).
        """
        with torch.no_grad():
            fake = draw()
        terms = self.critic_terms(real, fake, condition)
        self.descend(self.optimizers[CRITIC], terms)
        if (iteration + 1) % self.config.critic_steps == 0:
            self.critic.requires_grad_(False)
            generator = {GENERATOR: losses.generator_loss("wasserstein", self.critic(draw(), condition))}
            self.descend(self.optimizers[GENERATOR], generator)
            self.critic.requires_grad_(True)
            terms |= generator
        return {name: term.detach() for name, term in terms.items()}

    def critic_terms(self, real: Tensor, fake: Tensor, condition: Tensor) -> Terms:
        """The negative of the distance, the gradient penalty and the drift."""
        real_scores, fake_scores = self.critic(real, condition), self.critic(fake, condition)
        penalty = losses.gradient_penalty(lambda between: bare(self.critic)(between, condition), real, fake)
        return {
            CRITIC: losses.discriminator_loss("wasserstein", real_scores, fake_scores),
            "gradient_penalty": self.config.gradient_penalty * penalty,
            "drift": self.config.drift * real_scores.square().mean(),
        }
