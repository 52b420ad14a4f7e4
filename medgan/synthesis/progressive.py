"""Progressive GAN on joint image and label patches: both networks begin at a coarse size and grow.

Sources: Karras et al. 2018, arXiv:1710.10196; on joint patches Bowles et al. 2018, arXiv:1810.10863.
"""

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import Literal

from pydantic import Field, PositiveFloat
from torch import nn

from medgan.config import Channels, Config
from medgan.data.augmentation import Batch
from medgan.errors import ConfigError
from medgan.networks.progressive import ProgressiveCritic, ProgressiveGenerator, seen_at
from medgan.synthesis.game import CRITIC, WassersteinConfig, WassersteinGame
from medgan.synthesis.generator import GENERATOR, Sampler
from medgan.synthesis.patches import CONDITION, LesionConfig
from medgan.training.learner import HeldOut, Judgement, Networks, Terms, bare


class ProgressiveConfig(Config):
    """Progressive GAN; rates and moments are the paper's."""

    kind: Literal["progressive"] = "progressive"
    latent: Channels = 128
    """Length of the noise."""
    shares: tuple[PositiveFloat, ...] = Field(default=(0.3, 0.3, 0.2, 0.2), min_length=1, max_length=12)
    """How the iterations are shared among the levels, coarse to fine; only their ratios count. There is one level more
    than the size doubles, so the first sees patches of 1 / 2^(levels - 1) of the size."""
    fade_share: float = Field(default=0.5, ge=0, le=1)
    """The share of a level's iterations in which it fades in."""
    channels: Channels = 16
    """Channels at full size; they double with each level towards the coarse."""
    most_channels: Channels = 128
    generator_rate: PositiveFloat = 1e-3
    critic_rate: PositiveFloat = 1e-3
    game: WassersteinConfig = WassersteinConfig()

    @property
    def levels(self) -> int:
        """How often the size doubles."""
        return len(self.shares) - 1

    def build(self, lesions: LesionConfig) -> ProgressiveGenerator:
        """The generator: z (B, latent) and condition (B, D) to joint patches (B, 1 + K, *shape) in [-1, 1]."""
        return ProgressiveGenerator(lesions.shape, 1 + len(lesions.names), latent=self.latent, **self.common(lesions))

    def common(self, lesions: LesionConfig) -> dict[str, int]:
        """The arguments of both networks."""
        multiple = 2**self.levels
        if any(size % multiple for size in lesions.shape):
            raise ConfigError(
                f"a patch of {' x '.join(map(str, lesions.shape))} voxels cannot be halved {self.levels} times; make "
                f"its edges multiples of {multiple}, or give `shares` fewer levels than {len(self.shares)}."
            )
        widths = {"channels": self.channels, "most_channels": self.most_channels}
        return widths | {"levels": self.levels, "condition": lesions.condition_size}

    def grown(self, iteration: int, budget: int) -> float:
        """How far the networks have grown in ``iteration`` (from 0) of ``budget``: 1.25 is level 2 at alpha = 0.25.

        Each level but the first fades in along a line for ``fade_share`` of its iterations. In the last iteration of
        all it is ``levels``: whatever the shares, a run ends at full size.
        """
        done = iteration / (budget - 1) if budget > 1 else 1.0
        ends = [end / sum(self.shares) for end in accumulate(self.shares)]
        level = bisect_right(ends[:-1], done)
        if level == 0 or done >= 1:
            return float(level)
        start, fade = ends[level - 1], self.fade_share * (ends[level] - ends[level - 1])
        return level - 1 + (min((done - start) / fade, 1.0) if fade else 1.0)


class Progressive(Sampler):
    """A generator and a critic that grow together while they play the Wasserstein game."""

    critic: nn.Module
    alone = "its critic measures how much the whole batch varies"

    def __init__(self, config: ProgressiveConfig, lesions: LesionConfig) -> None:
        networks: Networks = {
            GENERATOR: config.build(lesions),
            # It sees joint patches of the level that it has grown to.
            CRITIC: ProgressiveCritic(lesions.shape, 1 + len(lesions.names), **config.common(lesions)),
        }
        rates = {GENERATOR: config.generator_rate, CRITIC: config.critic_rate}
        super().__init__(lesions, networks, rates, (0.0, 0.99))
        self.config = config

    def training_step(self, batch: Batch) -> Terms:
        """Grow, then one turn of the game at that size."""
        grown = self.config.grown(self.iteration, self.budget)
        for network in (self.generator, self.critic):
            bare(network).get_buffer("grown").fill_(grown)
        real, condition = seen_at(self.joint(batch), grown, self.config.levels), batch[CONDITION]
        game = WassersteinGame(self.config.game, self.critic, self.optimizers(), self.descend)
        return game.turn(
            self.iteration, real, condition, lambda: self.generator(self.noise(real), condition, full=False)
        )

    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """As every sampler; a generator that still grows may not become the model."""
        judgement = super().validate(held_out, networks)
        grown = float(networks[GENERATOR].get_buffer("grown"))
        complete = grown == self.config.levels
        if not complete:
            self.diversity = 1.0  # Coarse samples differ less than full patches do: no sign of a collapse.
        return replace(judgement, metrics=judgement.metrics | {"val/grown_levels": grown}, complete=complete)
