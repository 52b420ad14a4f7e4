"""pix2pix: paired translation by a conditional GAN and L1 (Isola et al. 2017, arXiv:1611.07004).

For misaligned pairs a network registers the translation to its target before they are compared (Reg-GAN, Kong et al.
2021, arXiv:2110.06465). What a pair's misalignment asks for is the field's part: the generator need not blur, which is
what L1 rewards where it cannot know how a pair is shifted.
"""

from itertools import pairwise
from typing import Literal, Unpack

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from medgan import losses
from medgan.config import Config
from medgan.networks.blocks import CONVOLUTION, encoder_maps, keep_variance
from medgan.networks.discriminators import LastChannel
from medgan.networks.generators import centre_channel
from medgan.training.learner import Batch, HeldOut, Judgement, Networks, Terms
from medgan.translators.translator import Parts, Translator, error_unit, paired_metrics


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


class Pix2Pix(Translator):
    """One generator; a discriminator that sees source and target together, unless the regression is alone."""

    kept = ("to_target",)
    saved = ("iteration",)

    def __init__(self, config: Pix2PixConfig, **parts: Unpack[Parts]) -> None:
        super().__init__(**parts)
        self.config, self.gradient_penalty, self.iteration = config, config.gradient_penalty, 0
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
        self.iteration += 1
        return {name: term.detach() for name, term in (generator | discriminator).items()}

    def l1_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """The weighted distance of fake (B, 1, *shape) to the target of the batch."""
        target = centre_channel(batch["target"])
        distance = losses.reconstruction(fake, target, self.voxel_weight(batch, target))
        return {"l1": self.config.l1 * distance}

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

    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Mean absolute error on held-out pairs."""
        fakes = [self.translate(kept["to_target"], study) for study in held_out.source]
        metrics = paired_metrics(held_out, fakes, self.pair)
        return Judgement(metrics, self.panel(held_out.source, fakes, held_out.target))


class RegisteredPix2PixConfig(Pix2PixConfig):
    """pix2pix's game with a registration network; ``l1`` weighs the distance after the warp, the paper's correction."""

    smoothness: NonNegativeFloat = 50.0
    """Weight of the field's squared gradient: half of ``l1``, as 10 to 20 in the paper; their ratio decides how far a
    field bends to save a difference. Change both together."""
    registration_channels: PositiveInt = 16
    """Width of the registration network at full size."""
    registration_rate: PositiveFloat = 2e-4


class RegistrationNetwork(nn.Module):
    """A light U-Net from two images to the displacement field that lays the first onto the second.

    Source: Balakrishnan et al. 2019, arXiv:1809.05231, Fig. 3, with a halving less. No norm: how much two images differ
    is what it goes by. Its last layer starts at zero, so that an untrained field moves nothing.
    """

    def __init__(self, spatial: int = 2, *, channels: int = 16) -> None:
        super().__init__()
        widths = [channels, 2 * channels, 2 * channels, 2 * channels]
        self.stem = _layer(spatial, 2, widths[0])
        self.down = nn.ModuleList(_layer(spatial, fine, coarse, stride=2) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(
            _layer(spatial, coarse + fine, fine) for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        keep_variance(self)
        self.last = CONVOLUTION[spatial](widths[0], spatial, 3, padding=1, padding_mode="replicate")
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Two images (B, 1, *spatial) of any size to a displacement (B, axes, *spatial) in voxels, for :func:`warp`."""
        *fine, x = encoder_maps(torch.cat([moving, fixed], dim=1), (self.stem, *self.down))
        for up in self.up:
            beside = fine.pop()
            x = up(torch.cat([F.interpolate(x, size=beside.shape[2:]), beside], dim=1))
        result: Tensor = self.last(x)
        return result


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """Each voxel's value from where the displacement points, linear between voxels; beyond the border, the border's.

    The result at x is the image (B, C, *spatial) at x + displacement(x), (B, axes, *spatial) in voxels, its channels in
    the order of the axes.

    Source: Jaderberg et al. 2015, arXiv:1506.02025, Eq. 5.
    """
    sizes = image.shape[2:]
    places = torch.stack(torch.meshgrid(*[torch.arange(size, device=image.device) for size in sizes], indexing="ij"))
    # grid_sample puts -1 and +1 at the outer edges of the first and last voxel, and wants the last axis first.
    extent = torch.tensor(sizes, device=image.device).view(-1, *[1] * len(sizes))
    relative = (2 * (places + displacement.float()) + 1) / extent - 1
    grid = relative.movedim(1, -1).flip(-1)
    return F.grid_sample(image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _layer(spatial: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    # Replicated rather than reflected borders: a thin stack is one voxel deep at the coarsest size.
    return nn.Sequential(
        CONVOLUTION[spatial](inputs, outputs, 3, stride, padding=1, padding_mode="replicate"), nn.LeakyReLU(0.2)
    )


class RegisteredPix2Pix(Pix2Pix):
    """pix2pix whose translations are warped onto their targets in training, and only there.

    The discriminator sees targets and translations without their source, as in the paper: beside it, a real pair would
    be told by its misalignment, and the generator taught to copy that. The registration network is not kept.
    """

    config: RegisteredPix2PixConfig

    def __init__(self, config: RegisteredPix2PixConfig, **parts: Unpack[Parts]) -> None:
        super().__init__(config, **parts)
        betas = (0.5, 0.999)
        self.discriminator = LastChannel(self.build_discriminator(self.pair.target))
        self.discriminator_optimizer = Adam(self.discriminator.parameters(), config.discriminator_rate, betas)
        self.trained = (*self.trained, "registration")
        self.registration: nn.Module = RegistrationNetwork(self.patch.spatial, channels=config.registration_channels)
        # Both descend the same terms in one step; Adam keeps its moments by parameter, so that a group is an optimiser.
        registration = {"params": list(self.registration.parameters()), "lr": config.registration_rate}
        self.generator_optimizer.add_param_group(registration)

    def l1_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """The weighted distance of the registered fake (B, 1, *shape) to the target, and the field's roughness."""
        displacement = self.registration(fake, centre_channel(batch["target"]))
        roughness = self.config.smoothness * losses.smoothness(displacement)
        return super().l1_terms(batch, warp(fake, displacement)) | {"smoothness": roughness}
