"""The Wasserstein game with gradient penalty: one turn of a critic and a generator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan import losses
from medgan.config import Config
from medgan.synthesis.generator import GENERATOR
from medgan.training.learner import Terms, bare

CRITIC = "critic"


class WassersteinConfig(Config):
    """How the game is played; the defaults are those of Progressive GAN."""

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
        """The critic's step and, in every ``critic_steps``-th iteration, the generator's; the terms, detached.

        Args:
            iteration: Counts from 0.
            real: (B, ...).
            condition: (B, D), what real images show and drawn ones are asked to.
            draw: Fresh images like ``real`` from the generator.
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
