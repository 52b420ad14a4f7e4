"""pix2pix: paired translation by a conditional GAN and L1 (Isola et al. 2017, arXiv:1611.07004)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.optim import Adam

from medgan import losses
from medgan.config import Config
from medgan.errors import ModelError
from medgan.networks.outputs import centre_channel
from medgan.training.learner import Batch, HeldOut, Judgement, Networks, Terms
from medgan.training.model_folder import Model
from medgan.translators.features import FeaturesConfig
from medgan.translators.translator import Parts, Translator
from medgan.translators.validation import error_unit, paired_metrics


class Pix2PixConfig(Config):
    """pix2pix's game; the defaults are the reference's."""

    adversarial: losses.Adversarial | Literal["none"] = "vanilla"
    """none leaves the L1 term alone: the regression arm that every adversarial result is held against."""
    l1: NonNegativeFloat = 100.0
    """Weight of the mean absolute distance to the true target."""
    bone_weight: PositiveFloat = 1.0
    """In a target in HU, how much more a voxel above ``bone_hu`` counts in the L1 term: bone is rare, and where its
    edge is uncertain the median, which L1 seeks, leaves it out."""
    bone_hu: float = 200.0
    change_weight: PositiveFloat = 1.0
    """How much more a voxel counts whose target differs from its source by ``change_percent`` of the window or more:
    enhancement is rare, and where its place is uncertain the median leaves it out. For domains on one scale."""
    change_percent: PositiveFloat = 6.0
    rim_weight: float = Field(default=1.0, ge=0)
    """How much a voxel counts that does not lie inside both bodies: what moved between the scans teaches nothing."""
    warm_up_iterations: NonNegativeInt = 0
    """Iterations at the start on the L1 term alone: the game then begins from a generator that knows the anatomy."""
    gradient_penalty: NonNegativeFloat = 10.0
    """Weight of the gradient penalty of the Wasserstein game."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Adam's first beta: 0.5 steadies the game; a regression alone goes further with 0.9."""
    generator_rate: PositiveFloat = 2e-4
    discriminator_rate: PositiveFloat = 2e-4
    features: FeaturesConfig = FeaturesConfig()


class Pix2Pix(Translator):
    """One generator; a discriminator that sees source and target together, unless the regression is alone."""

    kept = ("to_target",)

    def __init__(self, config: Pix2PixConfig, **parts: Unpack[Parts]) -> None:
        super().__init__(**parts)
        self.config, self.gradient_penalty = config, config.gradient_penalty
        self.trained = ("to_target", "discriminator")
        if config.adversarial == "none":
            self.trained, self.optimized = ("to_target",), ("generator",)
        else:
            self.adversarial = config.adversarial
        self.best = f"val/mae_{error_unit(self.pair)}"
        self.to_target = self.build_generator("to_target")
        self.discriminator = self.build_discriminator(self.pair.target, self.patch.channels + 1)
        betas = (config.momentum, 0.999)
        self.generator_optimizer = Adam(self.to_target.parameters(), config.generator_rate, betas)
        self.discriminator_optimizer = Adam(self.discriminator.parameters(), config.discriminator_rate, betas)

    def training_step(self, batch: Batch) -> Terms:
        """Discriminator first, then the generator, as the reference does."""
        source, target = batch["source"], centre_channel(batch["target"])
        fake = self.to_target(source)
        generator, discriminator = self.l1_terms(batch, fake), {}
        if "discriminator" in self.trained and self.iteration >= self.config.warm_up_iterations:
            real_pair, fake_pair = (torch.cat([source, side], dim=1) for side in (target, fake.detach()))
            discriminator = self.discriminator_terms("discriminator", real_pair, fake_pair)
            self.descend(self.discriminator_optimizer, discriminator)
        with self.frozen_discriminators():
            if discriminator:
                scores = self.discriminator(torch.cat([source, fake], dim=1))
                generator["to_target"] = losses.generator_loss(self.adversarial, scores)
            self.descend(self.generator_optimizer, generator)
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def l1_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """The weighted distance of fake (B, 1, *shape) to the target of the batch, and beside it that of features."""
        target, config = centre_channel(batch["target"]), self.config
        distance = losses.reconstruction(fake, target, self.voxel_weight(batch, target), self.ranks.total)
        if self.features is None or self.iteration < config.features.warm_up * self.budget:
            return {"l1": config.l1 * distance}
        inside = centre_channel(batch["region"]) if "region" in batch else None
        with self.attached.autocast():
            apart = self.features.distance(fake, target, inside, self.ranks.total)
        share = config.features.weight
        return {"l1": (1 - share) * config.l1 * distance, "features": share * config.l1 * apart}

    def voxel_weight(self, batch: Batch, target: Tensor) -> Tensor | None:
        """How much each voxel counts in the L1 term, (B, 1, *shape); None where all count alike."""
        config, weight = self.config, None
        if config.rim_weight != 1 and "region" in batch:
            inside = centre_channel(batch["region"])
            weight = inside + config.rim_weight * (1 - inside)
        if config.bone_weight != 1:
            lower, upper = self.pair.target.window.lower, self.pair.target.window.upper
            bone = target > 2 * (config.bone_hu - lower) / (upper - lower) - 1
            weight = (1 if weight is None else weight) * torch.where(bone, config.bone_weight, 1.0)
        if config.change_weight != 1 and self.pair.one_scale:
            changed = (target - centre_channel(batch["source"])).abs() >= config.change_percent / 50
            weight = (1 if weight is None else weight) * torch.where(changed, config.change_weight, 1.0)
        return weight

    def given(self, model: Model[Any], folder: Path) -> None:
        """Ask the segmenter that the run has trained."""
        assert self.features, "only features have a segmenter trained"
        self.features.take(model, folder)

    def state_dict(self) -> dict[str, Any]:
        """Which segmenter is asked."""
        return super().state_dict() | ({"features": self.features.sha256} if self.features else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`.

        Raises:
            ModelError: Another segmenter lies where the run's was.
        """
        if self.features and state["features"] != self.features.sha256:
            raise ModelError(
                "the segmenter of features is not the one that the run began with; put that back, or start a new run."
            )
        super().load_state_dict(state)

    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Mean absolute error on held-out pairs."""
        fakes = self.ranks.shared_out(held_out.source, partial(self.translate, networks["to_target"]))
        metrics = paired_metrics(held_out, fakes, self.pair)
        return Judgement(metrics, self.panel(held_out.source, fakes, held_out.target))
