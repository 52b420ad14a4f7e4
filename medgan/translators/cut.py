"""CUT: one-sided unpaired translation by contrast of patches (Park et al. 2020, arXiv:2007.15651).

What a patch of the translation shows must be told, among patches of the input, from where it lies: content stays in its
place without a way back, so one generator and one discriminator suffice.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Unpack

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam

from medgan import losses
from medgan.config import Config
from medgan.errors import ConfigError
from medgan.networks.generators import ResNetGenerator
from medgan.networks.outputs import Output, centre_channel
from medgan.training.learner import Batch, Terms, bare, joined
from medgan.translators.translator import Parts, UnpairedTranslator


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


class PatchProjections(nn.Module):
    """A two-layer perceptron for each feature map, applied at chosen places, its results of length 1.

    Source: section 3.2 and appendix C.1 of the paper. There the layers are made when the first maps arrive; here from
    known ``widths`` (channels of each map), so that optimiser and saved state hold them from the start. ``channels`` is
    the width of both layers, and of the results.
    """

    def __init__(self, widths: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, channels), nn.ReLU(), nn.Linear(channels, channels)) for width in widths
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, patches, channels) of each map (B, width, *spatial) at its places, flat indices (patches,)."""
        return [
            normalize(layer(features.flatten(2)[:, :, chosen].transpose(1, 2)).float(), dim=2)
            for layer, features, chosen in zip(self.layers, maps, places, strict=True)
        ]


class CUT(UnpairedTranslator):
    """One generator, one discriminator, and projections of the generator's own encoder maps, which are not kept."""

    kept = ("to_target",)
    trained = ("to_target", "target_discriminator", "projections")
    settings = "cut"

    def __init__(self, config: CUTConfig, **parts: Unpack[Parts]) -> None:
        super().__init__(**parts)
        self.config, self.adversarial, self.gradient_penalty = config, config.adversarial, config.gradient_penalty
        self.to_target = self.build_generator("to_target")
        self.target_discriminator = self.build_discriminator(self.pair.target)
        encoder = self.to_target.network if isinstance(self.to_target, Output) else self.to_target
        if not isinstance(encoder, ResNetGenerator):
            raise ConfigError("CUT compares maps of a ResNet's encoder; set generator.network.kind=resnet.")
        self.projections: nn.Module = PatchProjections(encoder.encoded_widths, config.projection_channels)
        betas = (0.5, 0.999)
        # One step for both, which descend the same terms; Adam keeps its moments by parameter.
        learners = chain(self.to_target.parameters(), self.projections.parameters())
        self.generator_optimizer = Adam(learners, config.generator_rate, betas)
        self.discriminator_optimizer = Adam(self.target_discriminator.parameters(), config.discriminator_rate, betas)

    def training_step(self, batch: Batch) -> Terms:
        """Discriminator first, then the generator with the projections, as the reference does."""
        source, target = batch["source"], batch["target"]
        fake, *same = joined(self.to_target, [source, target] if self.config.nce_identity else [source])
        discriminator = self.discriminator_terms("target_discriminator", centre_channel(target), fake.detach())
        self.descend(self.discriminator_optimizer, discriminator)
        with self.frozen_discriminators():
            generator = self.generator_terms(source, target, fake, *same)
            self.descend(self.generator_optimizer, generator)
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def generator_terms(self, source: Tensor, target: Tensor, fake: Tensor, same: Tensor | None = None) -> Terms:
        """Weighted terms; source and target (B, C, *shape), and what the generator makes of each, (B, 1, *shape)."""
        config = self.config
        terms = {"to_target": losses.generator_loss(config.adversarial, self.target_discriminator(fake))}
        if config.nce:
            terms["nce"] = config.nce * self.contrast(source, fake)
        if same is not None:
            terms["nce_identity"] = config.nce_identity * self.contrast(target, same)
        return terms

    def contrast(self, image: Tensor, translated: Tensor) -> Tensor:
        """How surely patches of ``translated`` (B, 1, *shape) find their own place in ``image`` (B, C, *shape).

        The mean over the encoder's maps, each with places of its own; the paper's Eq. 3 sums, its code divides.
        """
        with torch.no_grad():
            maps = self._encoded(image)
            # Different voxels of each map, as flat indices from torch's global generator.
            orders = [torch.randperm(each[0, 0].numel())[: self.config.patches] for each in maps]
            places = [order.to(maps[0].device, non_blocking=True) for order in orders]
            keys = self.projections(maps, places)
        queries = self.projections(self._encoded(self.around(image, translated)), places)
        couples = zip(queries, keys, strict=True)
        return torch.stack([losses.patch_nce(*couple, self.config.temperature) for couple in couples]).mean()

    def _encoded(self, image: Tensor) -> list[Tensor]:
        """The generator's encoder maps; Fabric sees to the precision of forward passes only."""
        generator = bare(self.to_target)
        assert isinstance(generator, Output)
        with self.attached.autocast():
            return generator.encode(image)
