"""pix2pix for misaligned pairs: a network registers the translation to its target before they are compared.

Source: Kong et al. 2021, arXiv:2110.06465 (Reg-GAN). What a pair's misalignment asks for is the field's part: the
generator need not blur, which is what L1 rewards where it cannot know how a pair is shifted.
"""

from itertools import pairwise
from typing import Unpack

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from medgan import losses
from medgan.networks.blocks import CONVOLUTION, encoder_maps, keep_variance
from medgan.networks.discriminators import LastChannel
from medgan.networks.outputs import centre_channel
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
    doubled = (2 * (places + displacement.float()) + 1).unbind(1)
    grid = torch.stack([axis / size - 1 for axis, size in zip(doubled, sizes, strict=True)][::-1], dim=-1)
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
