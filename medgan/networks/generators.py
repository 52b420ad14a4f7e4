"""Image-to-image generators, whose maps are raw, and outputs that make an image or a change of the input of them."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from medgan.networks.blocks import (
    CONVOLUTION,
    CONVOLUTIONS,
    DROPOUT,
    TRANSPOSED,
    Norm,
    ResidualBlock,
    UpSample,
    UpSampling,
    check_size,
    convolution,
    encoder_maps,
    has_bias,
    initialise,
    normalisation,
)
from medgan.networks.blocks import keep_variance as initialise_leaky

Change = Literal["one-sided", "signed", "none"]


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
            halve = CONVOLUTION[spatial](fine, coarse, 4, 2, 1, bias=has_bias(own))
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
    transposed = TRANSPOSED[spatial](inputs, outputs, 4, 2, 1, bias=has_bias(norm))
    return nn.Sequential(nn.ReLU(), transposed, normalisation(norm, outputs, spatial), *dropped)


class Output(nn.Module):
    """Gives a generator's raw map, (B, C, *spatial) to (B, 1, *spatial), its meaning."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's maps of a :class:`ResNetGenerator`, whatever its output means."""
        assert isinstance(self.network, ResNetGenerator), "only a ResNetGenerator shows its encoder"
        return self.network.encode(image)


class ImageOutput(Output):
    """The network draws the target itself, bounded to [-1, 1] by tanh: the reference's form."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) in [-1, 1] to (B, 1, *spatial) in [-1, 1]."""
        return torch.tanh(self.network(image))


class ChangeOutput(Output):
    """The network predicts how much each voxel changes; the image itself passes through untouched.

    One-sided maps know the physics of contrast agent: iodine only adds attenuation, so it is added on the way to the
    contrast domain (``sign`` +1) and subtracted on the way back (``sign`` -1), never the reverse. Signed maps may do
    either. Voxels outside ``[lower, upper]`` (air, lung, fat, metal, cortical bone) keep their value by construction;
    the map fades over ``ramp`` at both ends, so that no edge is drawn where a tissue crosses a bound. These, and
    ``largest`` of a change, are in the image's units of [-1, 1].

    ``start`` is the share of ``largest`` that an untrained one-sided map holds everywhere: near zero, so that training
    starts from the identity, and not at zero, where the sigmoid has no slope.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        one_sided: bool,
        sign: int,
        largest: float,
        lower: float,
        upper: float,
        ramp: float,
        start: float = 0.02,
    ) -> None:
        super().__init__(network)
        self.one_sided, self.sign = one_sided, sign
        self.largest, self.lower, self.upper, self.ramp = largest, lower, upper, ramp
        self.offset = float(torch.logit(torch.tensor(start, device="cpu"))) if one_sided else 0.0
        # The last layer is shrunk, so that the raw map starts near zero.
        *_, last = (layer for layer in network.modules() if isinstance(layer, CONVOLUTIONS))
        with torch.no_grad():
            last.weight.mul_(0.1)

    def change(self, image: Tensor) -> Tensor:
        """The change of each voxel, (B, 1, *spatial), in units of [-1, 1], sign included."""
        raw, centre = self.network(image), centre_channel(image)
        gate = ((centre - self.lower) / self.ramp).clamp(0, 1) * ((self.upper - centre) / self.ramp).clamp(0, 1)
        amount = torch.sigmoid(raw + self.offset) if self.one_sided else torch.tanh(raw)
        return self.sign * self.largest * gate * amount

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) in [-1, 1] to (B, 1, *spatial): the centre channel plus its change."""
        return centre_channel(image) + self.change(image)


def centre_channel(image: Tensor) -> Tensor:
    """The slice that is translated: the middle one of (B, C, *spatial) with C odd, as (B, 1, *spatial)."""
    middle = image.shape[1] // 2
    return image[:, middle : middle + 1]
