"""The adversarial games of generators from noise: DCGAN, conditional GAN and AC-GAN on joint patches.

Sources: Radford, Metz and Chintala 2016, arXiv:1511.06434 (DCGAN); Bowles et al. 2018, arXiv:1810.10863 (image and
labels together); Mirza and Osindero 2014, arXiv:1411.1784 (concatenation); Dumoulin et al. 2016, arXiv:1610.07629 (a
gamma and a beta for each class); Miyato and Koyama 2018, arXiv:1802.05637 (projection); Odena, Olah and Shlens 2017,
arXiv:1610.09585, section 3 (AC-GAN, whose semi-supervised form is in :mod:`medgan.classification.classifier`).
"""

from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medgan import losses
from medgan.config import Channels, Config
from medgan.errors import ConfigError
from medgan.networks.blocks import Norm, UpSampling
from medgan.networks.discriminators import PatchDiscriminator, ReceptiveField
from medgan.networks.latent import (
    ConditionalPatches,
    Entry,
    Judged,
    LatentGenerator,
    LayeredGenerator,
    WholeDiscriminator,
)
from medgan.synthesis.patches import CONDITION, DISCRIMINATOR, GENERATOR, LesionConfig, Sampler
from medgan.training.learner import Batch, Terms, bare


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

    def build(self, lesions: LesionConfig) -> nn.Module:
        """The generator: z (B, latent) and condition (B, D) to joint patches (B, 1 + K, *shape)."""
        return self.generator.build(lesions, 1 + len(lesions.names))

    def networks(self, lesions: LesionConfig) -> tuple[nn.Module, nn.Module]:
        """Generator and discriminator; here neither sees the condition."""
        return self.build(lesions), self.discriminator.build(lesions)

    def check_entry(self, entry: Entry) -> None:
        """Refuse a condition that is to enter through norms which have no scale and shift of their own."""
        if entry == "normalisation" and self.generator.norm not in ("batch", "instance"):
            raise ValueError(
                f"entry=normalisation needs generator.norm=batch or instance, not {self.generator.norm}; or set "
                "entry=concatenation"
            )


class DCGANConfig(GameConfig):
    """DCGAN's settings; it has no condition, whatever the patches have."""

    kind: Literal["dcgan"] = "dcgan"


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
        """One network, or two that are laid over each other."""
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

    def networks(self, lesions: LesionConfig) -> tuple[nn.Module, nn.Module]:
        """Both see the condition; the discriminator is built first."""
        judge = self.discriminator.build(lesions, condition=lesions.condition_size, entry=self.judged)
        return self.build(lesions), judge


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
        """One network that sees the condition."""
        if not lesions.condition.classes:
            raise ConfigError("generator.kind=acgan names classes: set condition.classes=true, or choose dcgan.")
        outputs = 1 + len(lesions.names)
        return self.generator.build(lesions, outputs, condition=lesions.condition_size, entry=self.entry)

    def networks(self, lesions: LesionConfig) -> tuple[nn.Module, nn.Module]:
        """The discriminator gives a score of the source, and one of each class."""
        return self.build(lesions), self.discriminator.build(lesions, 2 + len(lesions.names))


class Game(Sampler):
    """One generator, and one discriminator of joint patches (B, 1 + K, *shape); both may see the condition (B, D)."""

    def __init__(self, config: GameConfig, lesions: LesionConfig) -> None:
        rates = {GENERATOR: config.generator_rate, DISCRIMINATOR: config.discriminator_rate}
        networks = dict(zip(rates, config.networks(lesions), strict=True))
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
        scores = self.discriminator(real, condition), self.discriminator(fake, condition)
        terms = {DISCRIMINATOR: losses.discriminator_loss(self.game.adversarial, *scores)}
        network = bare(self.discriminator)
        return terms | self.penalty_terms(lambda between: network(between, condition), real, fake)

    def penalty_terms(self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Terms:
        """The gradient penalty, in the Wasserstein game only."""
        if self.game.adversarial != "wasserstein":
            return {}
        return {"gradient_penalty": self.game.gradient_penalty * losses.gradient_penalty(score, real, fake)}


class ACGAN(Game):
    """The discriminator does not see the class but names it: it maximises L_S + L_C, and the generator L_C - L_S.

    Here both minimise: L_S is the adversarial loss of the settings, and L_C the cross-entropy of the named classes.
    """

    def __init__(self, config: ACGANConfig, lesions: LesionConfig) -> None:
        super().__init__(config, lesions)
        self.class_weight, self.classes = config.class_weight, 1 + len(lesions.names)

    def generator_terms(self, fake: Tensor, condition: Tensor) -> Terms:
        """To be taken for real, and for the class of its condition."""
        scores = self.discriminator(fake)
        return {
            GENERATOR: losses.generator_loss(self.game.adversarial, scores[:, :1]),
            "generator_class": self._class_loss(scores, condition),
        }

    def discriminator_terms(self, real: Tensor, fake: Tensor, condition: Tensor) -> Terms:
        """To tell real from fake, and to name the class of both."""
        of_real, of_fake = self.discriminator(real), self.discriminator(fake)
        network = bare(self.discriminator)
        return {
            DISCRIMINATOR: losses.discriminator_loss(self.game.adversarial, of_real[:, :1], of_fake[:, :1]),
            "class": (self._class_loss(of_real, condition) + self._class_loss(of_fake, condition)) / 2,
        } | self.penalty_terms(lambda between: network(between)[:, :1], real, fake)

    def _class_loss(self, scores: Tensor, condition: Tensor) -> Tensor:
        """Weighted cross-entropy of scores (B, 1 + C) with the classes that begin a condition (B, D)."""
        return self.class_weight * F.cross_entropy(scores[:, 1:], condition[:, : self.classes].argmax(dim=1))
