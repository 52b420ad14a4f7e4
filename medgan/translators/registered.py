"""pix2pix for misaligned pairs: a network registers the translation to its target before they are compared.

Source: Kong et al. 2021, arXiv:2110.06465 (Reg-GAN). What a pair's misalignment asks for is the field's part: the
generator need not blur, which is what L1 rewards where it cannot know how a pair is shifted.
"""

from typing import Unpack

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Adam

from medgan import losses
from medgan.networks.discriminators import LastChannel
from medgan.networks.outputs import centre_channel
from medgan.networks.registration import RegistrationNetwork, warp
from medgan.training.learner import Batch, Terms
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
from medgan.translators.translator import Parts


class RegisteredPix2PixConfig(Pix2PixConfig):
    """pix2pix's game with a registration network; ``l1`` weighs the distance after the warp, the paper's correction."""

    smoothness: NonNegativeFloat = 50.0
    """Weight of the field's squared gradient: half of ``l1``, as 10 to 20 in the paper; their ratio decides how far a
    field bends to save a difference. Change both together."""
    registration_channels: PositiveInt = 16
    """Width of the registration network at full size."""
    registration_rate: PositiveFloat = 2e-4


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
