"""Conditional GAN on joint patches: class, size, place and scanner can be asked for.

Sources: Mirza and Osindero 2014, arXiv:1411.1784 (concatenation); Dumoulin et al. 2016, arXiv:1610.07629 (a gamma and a
beta for each class); Miyato and Koyama 2018, arXiv:1802.05637 (projection).
"""

from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from medgan.errors import ConfigError
from medgan.networks.latent import Entry, Judged, LayeredGenerator
from medgan.synthesis.game import Game, GameConfig
from medgan.synthesis.patches import LesionConfig


class ConditionalConfig(GameConfig):
    """How the condition enters the two networks."""

    kind: Literal["conditional"] = "conditional"
    entry: Entry = "normalisation"
    """Into the generator: beside z, or as scale and shift of every norm."""
    judged: Judged = "projection"
    """Into the discriminator: as constant maps, or as a direction of its features."""
    layers: bool = True
    """Lay the lesion over a background that does not see class and size: with z kept and these swapped, nothing changes
    outside the lesions. Without, one network draws everything."""

    @model_validator(mode="after")
    def _fields_are_shown_maps(self) -> Self:
        if self.judged == "projection" and self.discriminator.receptive_field != "whole":
            raise ValueError(
                "judged=projection needs one score for the patch: set discriminator.receptive_field=whole, or "
                "judged=concatenation"
            )
        self.check_entry(self.entry)
        return self

    def build(self, lesions: LesionConfig) -> nn.Module:
        """The generator: z (B, latent) and condition (B, D) to joint patches (B, 1 + K, *shape)."""
        blocks = lesions.condition.blocks(lesions.names)
        # Class and size are the lesion's alone; these blocks come first.
        own = blocks.get("class", 0) + blocks.get("size", 0)
        if not (size := lesions.condition_size):
            raise ConfigError(
                "generator.kind=conditional has nothing to follow: set condition.classes=true, or other blocks of "
                "`condition`, or choose dcgan."
            )
        lesion = self.generator.build(lesions, 1 + len(lesions.names), condition=size, entry=self.entry)
        if not self.layers:
            return lesion
        if not own:
            raise ConfigError(
                "generator.layers=true keeps the background of class and size, and `condition` has neither: set "
                "condition.classes=true, or generator.layers=false."
            )
        background = self.generator.build(lesions, 1, condition=size - own, entry=self.entry)
        return LayeredGenerator(background, lesion, own)


class ConditionalGAN(Game):
    """The game in which both networks see the condition."""

    def __init__(self, config: ConditionalConfig, lesions: LesionConfig) -> None:
        judge = config.discriminator.build(lesions, condition=lesions.condition_size, entry=config.judged)
        super().__init__(config, lesions, config.build(lesions), judge)
