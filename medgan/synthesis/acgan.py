"""AC-GAN on joint patches: the discriminator does not see the asked class, it must name the one that it sees.

Source: Odena, Olah and Shlens 2017, arXiv:1610.09585, section 3. Its semi-supervised form is in
:mod:`medgan.classification.sgan`.
"""

from typing import Literal, Self

from pydantic import NonNegativeFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medgan import losses
from medgan.errors import ConfigError
from medgan.networks.latent import Entry, LatentGenerator, WholeDiscriminator
from medgan.synthesis.game import DISCRIMINATOR, Game, GameConfig
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.patches import LesionConfig
from medgan.training.learner import Terms, bare


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
        return self

    @model_validator(mode="after")
    def _norms_take_the_condition(self) -> Self:
        if self.entry == "normalisation" and self.generator.norm not in ("batch", "instance"):
            raise ValueError(
                f"entry=normalisation needs generator.norm=batch or instance, not {self.generator.norm}; or set "
                "entry=concatenation"
            )
        return self

    def build(self, lesions: LesionConfig) -> LatentGenerator:
        """The generator: z (B, latent) and condition (B, D) to joint patches (B, 1 + K, *shape).

        Raises:
            ConfigError: The condition has no class to name.
        """
        if not lesions.condition.classes:
            raise ConfigError("generator.kind=acgan names classes: set condition.classes=true, or choose dcgan.")
        outputs = 1 + len(lesions.names)
        return self.generator.build(lesions, outputs, condition=lesions.condition_size, entry=self.entry)

    def build_discriminator(self, lesions: LesionConfig) -> WholeDiscriminator:
        """The discriminator: joint patches (B, 1 + K, *shape) to a score of the source, and one of each class."""
        seen, classes = 1 + len(lesions.names), classes_of(lesions)
        judge = self.discriminator
        return WholeDiscriminator(lesions.shape, seen, 1 + classes, channels=judge.channels, norm=judge.norm)


class ACGAN(Game):
    """The game in which the discriminator also classifies: it maximises L_S + L_C and the generator L_C - L_S.

    Here both minimise: L_S is the adversarial loss of the settings, and L_C the cross-entropy of the named classes.

    Args:
        config: The settings.
        lesions: What is learnt from; its condition begins with the class.
    """

    def __init__(self, config: ACGANConfig, lesions: LesionConfig) -> None:
        super().__init__(config, lesions, config.build(lesions), config.build_discriminator(lesions))
        self.class_weight, self.classes = config.class_weight, classes_of(lesions)

    def generator_terms(self, fake: Tensor, condition: Tensor) -> Terms:
        """To be taken for real, and for what was asked."""
        answers = self.discriminator(fake)
        return {
            GENERATOR: losses.generator_loss(self.game.adversarial, answers[:, :1]),
            "generator_class": self.class_loss(answers, condition),
        }

    def discriminator_terms(self, real: Tensor, fake: Tensor, condition: Tensor) -> Terms:
        """To tell real from fake, and to name the class of both."""
        seen, drawn = self.discriminator(real), self.discriminator(fake)
        terms = {
            DISCRIMINATOR: losses.discriminator_loss(self.game.adversarial, seen[:, :1], drawn[:, :1]),
            "class": (self.class_loss(seen, condition) + self.class_loss(drawn, condition)) / 2,
        }
        if self.game.adversarial == "wasserstein":
            network: nn.Module = bare(self.discriminator)
            penalty = losses.gradient_penalty(lambda between: network(between)[:, :1], real, fake)
            terms["gradient_penalty"] = self.game.gradient_penalty * penalty
        return terms

    def class_loss(self, answers: Tensor, condition: Tensor) -> Tensor:
        """Weighted cross-entropy of answers (B, 1 + C) with the classes that begin a condition (B, D)."""
        return self.class_weight * F.cross_entropy(answers[:, 1:], condition[:, : self.classes].argmax(dim=1))


def classes_of(lesions: LesionConfig) -> int:
    """How many classes there are: healthy, and each name."""
    return 1 + len(lesions.names)
