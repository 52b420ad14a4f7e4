"""AC-GAN on joint patches: the discriminator does not see the class, it must name the one that it sees.

Source: Odena, Olah and Shlens 2017, arXiv:1610.09585, section 3. Its semi-supervised form is in
:mod:`medgan.classification.sgan`.
"""

from typing import Literal, Self

from pydantic import NonNegativeFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from medgan import losses
from medgan.errors import ConfigError
from medgan.networks.latent import Entry, LatentGenerator
from medgan.synthesis.game import Game, GameConfig
from medgan.synthesis.generator import DISCRIMINATOR, GENERATOR
from medgan.synthesis.patches import LesionConfig
from medgan.training.learner import Terms, bare, joined


class ACGANConfig(GameConfig):
    """How the condition enters the generator, and what the classes weigh."""

    kind: Literal["acgan"] = "acgan"
    entry: Entry = "concatenation"
    """Into the generator: beside z, as in the paper, or as scale and shift of every norm."""
    class_weight: NonNegativeFloat = 1.0
    """Of L_C beside L_S. The more it weighs, the more the generator keeps to what is typical of a class: samples differ
    less."""

    @model_validator(mode="after")
    def _one_answer_for_the_patch(self) -> Self:
        if self.discriminator.receptive_field != "whole":
            raise ValueError("acgan names one class for the patch: set discriminator.receptive_field=whole")
        self.check_entry(self.entry)
        return self

    def build(self, lesions: LesionConfig) -> LatentGenerator:
        """The generator: z (B, latent) and condition (B, D) to joint patches (B, 1 + K, *shape)."""
        if not lesions.condition.classes:
            raise ConfigError("generator.kind=acgan names classes: set condition.classes=true, or choose dcgan.")
        outputs = 1 + len(lesions.names)
        return self.generator.build(lesions, outputs, condition=lesions.condition_size, entry=self.entry)


class ACGAN(Game):
    """The game in which the discriminator also classifies: it maximises L_S + L_C and the generator L_C - L_S.

    Here both minimise: L_S is the adversarial loss of the settings, and L_C the cross-entropy of the named classes.
    """

    def __init__(self, config: ACGANConfig, lesions: LesionConfig) -> None:
        self.class_weight, self.classes = config.class_weight, 1 + len(lesions.names)
        generator = config.build(lesions)
        # The discriminator gives a score of the source, and one of each class.
        super().__init__(config, lesions, generator, config.discriminator.build(lesions, 1 + self.classes))

    def generator_terms(self, fake: Tensor, condition: Tensor) -> Terms:
        """To be taken for real, and for the class of its condition."""
        scores = self.discriminator(fake)
        return {
            GENERATOR: losses.generator_loss(self.game.adversarial, scores[:, :1]),
            "generator_class": self._class_loss(scores, condition),
        }

    def discriminator_terms(self, real: Tensor, fake: Tensor, condition: Tensor) -> Terms:
        """To tell real from fake, and to name the class of both."""
        of_real, of_fake = joined(self.discriminator, [real, fake])
        network = bare(self.discriminator)
        return {
            DISCRIMINATOR: losses.discriminator_loss(self.game.adversarial, of_real[:, :1], of_fake[:, :1]),
            "class": (self._class_loss(of_real, condition) + self._class_loss(of_fake, condition)) / 2,
        } | self.penalty_terms(lambda between: network(between)[:, :1], real, fake)

    def _class_loss(self, scores: Tensor, condition: Tensor) -> Tensor:
        """Weighted cross-entropy of scores (B, 1 + C) with the classes that begin a condition (B, D)."""
        return self.class_weight * F.cross_entropy(scores[:, 1:], condition[:, : self.classes].argmax(dim=1))
