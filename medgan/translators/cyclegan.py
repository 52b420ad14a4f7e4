"""CycleGAN: unpaired translation in both directions (Zhu et al. 2017, arXiv:1703.10593)."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Adam

from medgan import losses
from medgan.config import Config
from medgan.data.preparation import GridConfig
from medgan.errors import ConfigError, ModelError
from medgan.networks.outputs import centre_channel
from medgan.training.learner import Batch, Terms, joined
from medgan.translators.semantic import SemanticConsistency
from medgan.translators.translator import Parts, UnpairedTranslator


class CycleGANConfig(Config):
    """CycleGAN's game; the defaults are the reference's."""

    adversarial: losses.Adversarial = "least_squares"
    cycle: NonNegativeFloat = 10.0
    """Weight of the cycle term; 0 is the GAN alone."""
    identity: NonNegativeFloat = 5.0
    """Weight of the identity term: images of the wanted domain should pass unchanged."""
    change: NonNegativeFloat = 0.0
    """Weight of the mean absolute change: the smallest change that convinces, useful with change maps."""
    anchor: NonNegativeFloat = 0.0
    """Weight of the mean absolute error on simulated pairs: ties both directions to the physics of contrast agent."""
    anchor_iterations: NonNegativeInt = 0
    """Iterations at the start on simulated pairs alone: the game then begins from generators that know iodine."""
    ramp_iterations: NonNegativeInt = 0
    """Iterations over which identity and change terms grow to their weight; before discriminators know anything they
    would only teach the generators to do nothing."""
    semantic: NonNegativeFloat = 0.0
    """Weight of semantic consistency: the labels that a frozen segmenter of the source finds shall stay, both ways."""
    semantic_model: Path | None = None
    """The model folder of that segmenter; it is recorded as it is written here, so better a relative path."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    pool: NonNegativeInt = 50
    """Generated images that a discriminator's replay pool holds."""
    generator_rate: PositiveFloat = 2e-4
    discriminator_rate: PositiveFloat = 2e-4

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.anchor_iterations and not self.anchor:
            raise ValueError(f"anchor_iterations={self.anchor_iterations} train on an anchor of no weight; set anchor")
        if bool(self.semantic) != (self.semantic_model is not None):
            raise ValueError(
                f"semantic={self.semantic:g} and semantic_model={self.semantic_model} belong together: give both the "
                "weight and the segmenter's model folder, or neither"
            )
        return self


class ReplayPool:
    """Up to ``size`` generated images; each new one is, with even odds, swapped for an old one.

    Discriminators so see images of earlier iterations, too, which damps oscillation. With size 0 every image passes
    through. ``seed`` is that of the pool's own random draws.

    Source: Shrivastava et al. 2017, arXiv:1612.07828, section 2.3; Zhu et al. 2017 with 50 images.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, *spatial) of new images to the same number of new and old ones."""
        return torch.stack([self._exchanged(image) for image in images]) if self.size else images

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        swap, place = torch.rand(1, generator=self.random), torch.randint(self.size, (1,), generator=self.random)
        if swap < 0.5:
            return image
        old, self.images[int(place)] = self.images[int(place)], image.clone()
        return old

    def state_dict(self) -> dict[str, Any]:
        """Images and random state, for an exact resume."""
        return {"images": list(self.images), "random": self.random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.images = [image.to(device) for image in state["images"]]
        self.random.set_state(state["random"])


class CycleGAN(UnpairedTranslator):
    """Two generators and two discriminators."""

    kept = ("to_target", "to_source")
    trained = (*kept, "target_discriminator", "source_discriminator")
    settings = "cyclegan"

    def __init__(
        self, config: CycleGANConfig, *, seed: int, grid: GridConfig | None = None, **parts: Unpack[Parts]
    ) -> None:
        super().__init__(**parts)
        if config.change and not self.same_unit:
            raise ConfigError(
                f"cyclegan.change={config.change:g}: {' and '.join(self.pair.names)} do not measure the same, so there "
                "is no change to keep small; set cyclegan.change=0."
            )
        self.config, self.adversarial, self.gradient_penalty = config, config.adversarial, config.gradient_penalty
        self.to_target, self.to_source = self.build_generator("to_target"), self.build_generator("to_source")
        self.target_discriminator = self.build_discriminator(self.pair.target)
        self.source_discriminator = self.build_discriminator(self.pair.source)
        betas = (0.5, 0.999)
        generators = chain(self.to_target.parameters(), self.to_source.parameters())
        discriminators = chain(self.target_discriminator.parameters(), self.source_discriminator.parameters())
        self.generator_optimizer = Adam(generators, config.generator_rate, betas)
        self.discriminator_optimizer = Adam(discriminators, config.discriminator_rate, betas)
        self.target_pool, self.source_pool = ReplayPool(config.pool, seed), ReplayPool(config.pool, seed + 1)
        # No network of the learner: it is not trained, averaged or shipped.
        folder = config.semantic_model
        self.semantics = SemanticConsistency(folder, self.pair, self.patch, grid) if folder else None

    def training_step(self, batch: Batch) -> Terms:
        """Generators first, then discriminators on new and replayed images."""
        source, target = batch["source"], batch["target"]
        if self.iteration < self.config.anchor_iterations:
            shown, plain = self.anchors(batch)
            generator = self.anchor_terms(batch, self.to_target(shown), self.to_source(plain))
            self.descend(self.generator_optimizer, generator)
            return {name: term.detach() for name, term in generator.items()}
        with self.frozen_discriminators():
            generator, fake_target, fake_source = self.generator_terms(batch)
            self.descend(self.generator_optimizer, generator)
        seen_target, seen_source = (
            self.replayed(self.target_pool, fake_target),
            self.replayed(self.source_pool, fake_source),
        )
        discriminator = self.discriminator_terms("target_discriminator", centre_channel(target), seen_target)
        discriminator |= self.discriminator_terms("source_discriminator", centre_channel(source), seen_source)
        self.descend(self.discriminator_optimizer, discriminator)
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def replayed(self, pool: ReplayPool, fake: Tensor) -> Tensor:
        """New and old images in the place of ``fake`` (B, 1, *shape); all ranks keep the pool of the whole batch."""
        return self.ranks.part(pool(self.ranks.gather(fake.detach())))

    def generator_terms(self, batch: Batch) -> tuple[Terms, Tensor, Tensor]:
        """Weighted terms of both generators, and what they generate of target and source, (B, 1, *shape) each.

        The cycle is Eq. 2 of the paper, the identity that of its section 5.2. Whatever a generator can see at one time
        goes through it together.
        """
        config, source, target = self.config, batch["source"], batch["target"]
        played = self.iteration - config.anchor_iterations
        growth = min(1.0, played / config.ramp_iterations) ** 2 if config.ramp_iterations else 1.0
        centre_source, centre_target = centre_channel(source), centre_channel(target)
        anchors = self.anchors(batch) if config.anchor else ()
        fake_target = self.to_target(source)
        cycle, identity = [self.around(source, fake_target)] * bool(config.cycle), [source] * bool(config.identity)
        fake_source, *back = joined(self.to_source, [target, *cycle, *identity, *anchors[1:]])
        cycle, identity = [self.around(target, fake_source)] * bool(config.cycle), [target] * bool(config.identity)
        there = joined(self.to_target, seen) if (seen := [*cycle, *identity, *anchors[:1]]) else []
        terms = {
            "to_target": losses.generator_loss(config.adversarial, self.target_discriminator(fake_target)),
            "to_source": losses.generator_loss(config.adversarial, self.source_discriminator(fake_source)),
        }
        if config.cycle:
            distance = l1_loss(back.pop(0), centre_source) + l1_loss(there.pop(0), centre_target)
            terms["cycle"] = config.cycle * distance
        if config.identity:
            distance = l1_loss(there.pop(0), centre_target) + l1_loss(back.pop(0), centre_source)
            terms["identity"] = growth * config.identity * distance
        if config.change:
            moved = l1_loss(fake_target, centre_source) + l1_loss(fake_source, centre_target)
            terms["change"] = growth * config.change * moved
        if self.semantics:
            semantic = self.semantics.loss(source, fake_target, self.around)
            terms["semantic"] = config.semantic * (semantic + self.semantics.loss(target, fake_source, self.around))
        if anchors:
            terms |= self.anchor_terms(batch, there.pop(0), back.pop(0))
        return terms, fake_target, fake_source

    def anchors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Simulated images with and without contrast agent, (B, C, *shape), for the way there and the way back.

        Between domains of one unit their contrast is varied from none to twice as drawn: at none the term teaches the
        way to the target to leave plain images alone.
        """
        source, target = batch["anchor_source"], batch["anchor_target"]
        if not self.same_unit:
            return source, target
        strength = 2 * torch.rand(source.shape[0], *[1] * (source.dim() - 1), device=source.device)
        return (target + strength * (source - target)).clamp(-1, 1), target

    def anchor_terms(self, batch: Batch, there: Tensor, back: Tensor) -> Terms:
        """The error on simulated pairs of what both generators, (B, 1, *shape) each, make of :meth:`anchors`."""
        error = losses.reconstruction(there, centre_channel(batch["anchor_target"]))
        error = error + losses.reconstruction(back, centre_channel(batch["anchor_source"]))
        return {"anchor": self.config.anchor * error}

    def state_dict(self) -> dict[str, Any]:
        """The replay pools, and which segmenter watches."""
        return {
            "target": self.target_pool.state_dict(),
            "source": self.source_pool.state_dict(),
            "semantic": self.semantics.sha256 if self.semantics else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the replay pools.

        Raises:
            ModelError: Another segmenter lies where the run's was.
        """
        if state.get("semantic") != (self.semantics.sha256 if self.semantics else None):
            raise ModelError(
                f"{self.config.semantic_model}: is not the segmenter that the run began with; put that back, or start "
                "a new run."
            )
        device = self.attached.device
        self.target_pool.load_state_dict(state["target"], device)
        self.source_pool.load_state_dict(state["source"], device)
