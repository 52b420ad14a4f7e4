"""DCGAN on joint patches: the baseline, which draws a lesion or a healthy patch as it likes.

Source: Radford, Metz and Chintala 2016, arXiv:1511.06434; image and labels together as in Bowles et al. 2018,
arXiv:1810.10863.
"""

from typing import Literal

from torch import nn

from medgan.synthesis.game import Game, GameConfig
from medgan.synthesis.patches import LesionConfig


class DCGANConfig(GameConfig):
    """DCGAN's settings; it has no condition, whatever the patches have."""

    kind: Literal["dcgan"] = "dcgan"

    def build(self, lesions: LesionConfig) -> nn.Module:
        """The generator: z (B, latent) and a condition, which it ignores, to joint patches (B, 1 + K, *shape)."""
        return self.generator.build(lesions, 1 + len(lesions.names))


class DCGAN(Game):
    """The game without a condition."""

    def __init__(self, config: DCGANConfig, lesions: LesionConfig) -> None:
        super().__init__(config, lesions, config.build(lesions), config.discriminator.build(lesions))
