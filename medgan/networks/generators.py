"""Image-to-image generators: raw maps out, without a final activation.

What the raw map means, an image or a change of the input, is decided by :mod:`medgan.networks.outputs`.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from medgan.networks.blocks import (
    CONVOLUTION,
    DROPOUT,
    TRANSPOSED,
    Norm,
    ResidualBlock,
    UpSample,
    UpSampling,
    before,
    check_size,
    convolution,
    encoder_maps,
    initialise,
    normalisation,
)
from medgan.networks.blocks import keep_variance as initialise_leaky


class ResNetGenerator(nn.Module):
    """Down-sampling, residual blocks at the coarsest size, up-sampling.

    With two ``downs``, 6 or 9 ``blocks``, 64 ``channels``, instance norm and transposed up-sampling it is the generator
    of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, appendix 7.2). With ``skips`` each up-sampled map also sees the
    encoder's map of its size, so that few residual blocks at a coarse size suffice: far cheaper on a CPU.
    """

    def __init__(
        self,
        spatial: int = 2,
        inputs: int = 1,
        outputs: int = 1,
        *,
        channels: int = 64,
        downs: int = 2,
        blocks: int = 9,
        norm: Norm = "instance",
        upsampling: UpSampling = "resize",
        dropout: float = 0.0,
        skips: bool = False,
        keep_variance: bool = False,
    ) -> None:
        super().__init__()
        self.multiple, self.skips, first = 2**downs, skips, 3 if skips else 7
        widths = [channels * min(2**level, 8) for level in range(downs + 1)]
        self.stem = nn.Sequential(convolution(spatial, inputs, widths[0], first, norm=norm), nn.ReLU())
        self.down = nn.ModuleList(
            nn.Sequential(convolution(spatial, fine, coarse, 3, stride=2, norm=norm), nn.ReLU())
            for fine, coarse in pairwise(widths)
        )
        self.blocks = nn.Sequential(*(ResidualBlock(spatial, widths[-1], norm, dropout) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.Sequential(UpSample(spatial, coarse, fine, norm, upsampling), nn.ReLU())
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(convolution(spatial, 2 * fine, fine, 3, norm=norm), nn.ReLU()) if skips else nn.Identity()
            for fine in widths[-2::-1]
        )
        self.last = convolution(spatial, widths[0], outputs, first)
        self.encoded_widths = (1, *widths, *widths[-1:] * (blocks > 0))
        """Channels of each map of :meth:`encode`."""
        initialise(self)
        for part in (self.stem, self.down, self.blocks, self.up, self.merge) if keep_variance else ():
            initialise_leaky(part)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Maps of the encoder, from fine to coarse, (B, width, *size) each.

        They are the image's centre channel, the stem's map, that of each down-sampling, and, where there are residual
        blocks, that of the middle one.
        """
        middle = image.shape[1] // 2
        maps = [image[:, middle : middle + 1], *self._way_down(image)]
        if len(self.blocks):
            maps.append(self.blocks[: (len(self.blocks) + 1) // 2](maps[-1]))
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, *spatial) to (B, outputs, *spatial); each axis a multiple of 2**downs, at least twice that."""
        *fine, x = self._way_down(image)
        x = self.blocks(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x, beside = up(x), fine.pop()
            x = merge(torch.cat([x, beside], dim=1)) if self.skips else x
        result: Tensor = self.last(x)
        return result

    def _way_down(self, image: Tensor) -> list[Tensor]:
        # Reflection padding needs two voxels at the coarsest size.
        check_size(image, self.multiple, least=2 * self.multiple)
        return encoder_maps(image, (self.stem, *self.down))


class UNetGenerator(nn.Module):
    """Encoder and decoder with a skip connection at every size; without ``skips``, the encoder-decoder.

    With 8 ``downs``, 64 ``channels``, batch norm, transposed up-sampling and dropout .5 it is the ``unet_256`` of
    pix2pix (Isola et al. 2017, arXiv:1611.07004, appendix 6.1.1); dropout lies in the three decoder blocks after the
    innermost. The paper's ablation severs the skip connections and leaves all else as it is.
    """

    def __init__(
        self,
        spatial: int = 2,
        inputs: int = 1,
        outputs: int = 1,
        *,
        channels: int = 64,
        downs: int = 8,
        norm: Norm = "batch",
        upsampling: UpSampling = "transposed",
        dropout: float = 0.5,
        skips: bool = True,
    ) -> None:
        super().__init__()
        self.multiple, self.skips = 2**downs, skips
        widths, joined = [channels * min(2**level, 8) for level in range(downs)], 2 if skips else 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (fine, coarse) in enumerate(pairwise([inputs, *widths])):
            # No norm on the image's own layer, nor at the bottleneck: a map of one voxel has no statistics.
            own: Norm = norm if 0 < level < downs - 1 else "none"
            halve = before(own, CONVOLUTION[spatial], fine, coarse, 4, 2, 1)
            rectified = [nn.LeakyReLU(0.2)] if level else []
            self.down.append(nn.Sequential(*rectified, halve, normalisation(own, coarse, spatial)))
        for depth, level in enumerate(range(downs - 1, 0, -1)):
            arriving = widths[level] * (joined if depth else 1)
            rate = dropout if 1 <= depth <= 3 and level >= 4 else 0.0
            self.up.append(_doubling(spatial, arriving, widths[level - 1], norm, upsampling, rate))
        self.last = _doubling(spatial, joined * widths[0], outputs, "none", upsampling, 0.0)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, *spatial) to (B, outputs, *spatial); each axis a multiple of 2**downs."""
        check_size(image, self.multiple, least=self.multiple)
        *fine, x = encoder_maps(image, self.down)
        for up in self.up:
            x, beside = up(x), fine.pop()
            x = torch.cat([x, beside], dim=1) if self.skips else x
        result: Tensor = self.last(x)
        return result


def _doubling(
    spatial: int, inputs: int, outputs: int, norm: Norm, upsampling: UpSampling, dropout: float
) -> nn.Sequential:
    dropped = [DROPOUT[spatial](dropout)] if dropout else []
    if upsampling == "resize":
        return nn.Sequential(nn.ReLU(), UpSample(spatial, inputs, outputs, norm, upsampling), *dropped)
    transposed = before(norm, TRANSPOSED[spatial], inputs, outputs, 4, 2, 1)
    return nn.Sequential(nn.ReLU(), transposed, normalisation(norm, outputs, spatial), *dropped)
