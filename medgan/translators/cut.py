"""CUT: one-sided unpaired translation by contrast of patches (Park et al. 2020, arXiv:2007.15651).

What a patch of the translation shows must be told, among patches of the input, from where it lies: content stays in its
place without a way back, so one generator and one discriminator suffice.
"""

from collections.abc import Mapping
from itertools import chain

import torch
from lightning_fabric import Fabric
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan import losses
from medgan.config import Config
from medgan.data.domains import DomainPair
from medgan.data.patches import PatchConfig
from medgan.errors import ConfigError
from medgan.networks.generators import ResNetGenerator
from medgan.networks.outputs import Output, centre_channel
from medgan.networks.projections import PatchProjections, random_places
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig
from medgan.training.learner import Batch, HeldOut, Judgement, Networks, Terms
from medgan.translators.translator import Translator, attached, bare, collapse_advice
from medgan.translators.validation import unpaired_metrics


class CUTConfig(Config):
    """CUT's game; the defaults are the paper's."""

    adversarial: losses.Adversarial = "least_squares"
    nce: NonNegativeFloat = 1.0
    """Weight of the contrast between patches of a source and of its translation."""
    nce_identity: NonNegativeFloat = 1.0
    """Weight of the same for a target, which should pass unchanged."""
    temperature: PositiveFloat = 0.07
    patches: PositiveInt = 256
    """Places of each feature map that are compared."""
    projection_channels: PositiveInt = 256
    """Width of the perceptrons in whose output patches are compared."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    generator_rate: PositiveFloat = 2e-4
    """Of the generator and of the projections."""
    discriminator_rate: PositiveFloat = 2e-4


class CUT(Translator):
    """One generator, one discriminator, and projections of the generator's own encoder maps.

    Raises:
        ConfigError: The generator is no ResNet.
    """

    kept = ("to_target",)
    best = "val/score_hu"

    def __init__(
        self,
        config: CUTConfig,
        *,
        pair: DomainPair,
        patch: PatchConfig,
        generator: GeneratorConfig,
        discriminator: DiscriminatorConfig,
    ) -> None:
        super().__init__(pair, patch, generator)
        self.config = config
        self.to_target = self.build_generator("to_target")
        self.target_discriminator = discriminator.build(patch.spatial, 1, pair.target)
        self.projections: nn.Module = PatchProjections(encoded_widths(self.to_target), config.projection_channels)
        betas = (0.5, 0.999)
        # One step for both, which descend the same terms; Adam keeps its moments by parameter.
        learners = chain(self.to_target.parameters(), self.projections.parameters())
        self.generator_optimizer: Optimizer = Adam(learners, config.generator_rate, betas)
        self.discriminator_optimizer: Optimizer = Adam(
            self.target_discriminator.parameters(), config.discriminator_rate, betas
        )

    def networks(self) -> dict[str, nn.Module]:
        """The generator, the discriminator and the projections; only the generator is kept."""
        return {
            "to_target": self.to_target,
            "target_discriminator": self.target_discriminator,
            "projections": self.projections,
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """One for the generator with the projections, one for the discriminator."""
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}

    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Work with the wrapped networks from now on."""
        self.fabric = fabric
        for name, network in networks.items():
            setattr(self, name, network)
        self.generator_optimizer = optimizers["generator"]
        self.discriminator_optimizer = optimizers["discriminator"]

    def training_step(self, batch: Batch) -> Terms:
        """Discriminator first, then the generator with the projections, as the reference does."""
        source, target = batch["source"], batch["target"]
        fake = self.to_target(source)
        self.target_discriminator.requires_grad_(True)
        discriminator = self.discriminator_terms(centre_channel(target), fake.detach())
        self.descend(self.discriminator_optimizer, discriminator)
        self.target_discriminator.requires_grad_(False)
        generator = self.generator_terms(source, target, fake)
        self.descend(self.generator_optimizer, generator)
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def generator_terms(self, source: Tensor, target: Tensor, fake: Tensor) -> Terms:
        """Weighted terms; source and target (B, C, *shape), fake (B, 1, *shape)."""
        config = self.config
        terms = {"to_target": losses.generator_loss(config.adversarial, self.target_discriminator(fake))}
        if config.nce:
            terms["nce"] = config.nce * self.contrast(source, fake)
        if config.nce_identity:
            terms["nce_identity"] = config.nce_identity * self.contrast(target, self.to_target(target))
        return terms

    def contrast(self, image: Tensor, translated: Tensor) -> Tensor:
        """How surely patches of ``translated`` (B, 1, *shape) find their own place in ``image`` (B, C, *shape).

        The mean over the encoder's maps, each with places of its own; the paper's Eq. 3 sums, its code divides.
        """
        with torch.no_grad():
            theirs = self._encoded(image)
            places = random_places(theirs, self.config.patches)
            keys = self.projections(theirs, places)
        queries = self.projections(self._encoded(self.around(image, translated)), places)
        terms = [
            losses.patch_nce(query, key, self.config.temperature) for query, key in zip(queries, keys, strict=True)
        ]
        return torch.stack(terms).mean()

    def discriminator_terms(self, real: Tensor, fake: Tensor) -> Terms:
        """The discriminator's terms; images are (B, 1, *shape)."""
        scores = self.target_discriminator(real), self.target_discriminator(fake)
        terms = {"target_discriminator": losses.discriminator_loss(self.config.adversarial, *scores)}
        if self.config.adversarial == "wasserstein":
            penalty = losses.gradient_penalty(bare(self.target_discriminator), real, fake)
            terms["target_gradient_penalty"] = self.config.gradient_penalty * penalty
        return terms

    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Judged as CycleGAN is; see :mod:`medgan.translators.validation`."""
        fakes = [self.translate(kept["to_target"], study) for study in held_out.source]
        metrics = unpaired_metrics(held_out, fakes, self.pair)
        return Judgement(metrics, self.unpaired_panel(held_out.source, fakes))

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """A discriminator that is always right gives the generator nothing to follow."""
        return collapse_advice(self.config.adversarial, means, "target", "cut")

    def _encoded(self, image: Tensor) -> list[Tensor]:
        """The generator's encoder maps; Fabric sees to the precision of forward passes only."""
        generator = bare(self.to_target)
        assert isinstance(generator, Output)
        with attached(self).autocast():
            return generator.encode(image)


def encoded_widths(generator: nn.Module) -> tuple[int, ...]:
    """Channels of the maps that a generator's encoder shows."""
    network = generator.network if isinstance(generator, Output) else generator
    if not isinstance(network, ResNetGenerator):
        raise ConfigError("CUT compares maps of a ResNet's encoder; set generator.network.kind=resnet.")
    return network.encoded_widths
