"""SPADE: an image drawn from maps that scale and shift every normalised layer, in 2D and 3D.

Source: Park et al. 2019, arXiv:1903.07291. A mask that enters at the first layer alone is washed out where it is flat:
the norm that follows subtracts its mean. Here it enters anew, at its own place, after every norm.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.blocks import CONVOLUTION, check_size, convolution, initialise

SpadeNorm = Literal["instance", "group"]
"""What is subtracted and divided out before the maps scale and shift: per channel, or per 8 channels."""


class _Spade(nn.Module):
    """``norm(x) * (1 + gamma(maps)) + beta(maps)``, the norm without weights of its own (Eq. 1 of the paper).

    gamma and beta are two convolutions of the maps, brought to the size of x by the nearest voxel, with a layer of
    ``hidden`` channels before them. The 1 is the authors' published code's: an untrained layer then passes the
    normalised map on.
    """

    def __init__(self, spatial: int, maps: int, channels: int, hidden: int, norm: SpadeNorm) -> None:
        super().__init__()
        self.groups = channels if norm == "instance" else 1 if channels % 8 else channels // 8
        self.shared = nn.Sequential(convolution(spatial, maps, hidden, 3), nn.ReLU())
        self.gamma, self.beta = (convolution(spatial, hidden, channels, 3) for _ in range(2))

    def forward(self, x: Tensor, maps: Tensor) -> Tensor:
        """Features (B, channels, *spatial) and maps (B, maps, *spatial of any size) to the features' shape."""
        shared = self.shared(F.interpolate(maps, size=x.shape[2:]))
        result: Tensor = F.group_norm(x, self.groups) * (1 + self.gamma(shared)) + self.beta(shared)
        return result


class _SpadeBlock(nn.Module):
    """Residual block with SPADE before each convolution (Fig. 4 of the paper, without spectral norm)."""

    def __init__(self, spatial: int, inputs: int, outputs: int, maps: int, hidden: int, norm: SpadeNorm) -> None:
        super().__init__()
        between = min(inputs, outputs)
        self.norms = nn.ModuleList(_Spade(spatial, maps, width, hidden, norm) for width in (inputs, between))
        self.convolutions = nn.ModuleList(
            convolution(spatial, before, after, 3) for before, after in ((inputs, between), (between, outputs))
        )
        widened = inputs != outputs
        self.beside = CONVOLUTION[spatial](inputs, outputs, 1, bias=False) if widened else nn.Identity()

    def forward(self, x: Tensor, maps: Tensor) -> Tensor:
        """Features (B, inputs, *spatial) with maps (B, maps, *spatial of any size) to (B, outputs, *spatial)."""
        result: Tensor = x
        for norm, conv in zip(self.norms, self.convolutions, strict=True):
            result = conv(F.leaky_relu(norm(result, maps), 0.2))
        added: Tensor = result + self.beside(x)
        return added


class SpadeGenerator(nn.Module):
    """Encoder, and a decoder of SPADE blocks that see the input maps at every size; raw maps out.

    The paper's generator starts from noise, since its mask says all that is wanted. Here most of the image is given:
    an encoder reads it, and its maps join the decoder's at every size as in a U-Net. The ``inputs`` are image, masks,
    noise, whatever is known of each voxel; ``channels`` double with each down-sampling; ``hidden`` is the width of the
    layer between the maps and gamma and beta, 128 in the paper.
    """

    def __init__(
        self,
        spatial: int,
        inputs: int,
        outputs: int = 1,
        *,
        channels: int = 32,
        downs: int = 2,
        hidden: int = 32,
        norm: SpadeNorm = "instance",
    ) -> None:
        super().__init__()
        self.multiple = 2**downs
        widths = [channels * 2**level for level in range(downs + 1)]
        self.stem = convolution(spatial, inputs, widths[0], 3)
        self.down = nn.ModuleList(convolution(spatial, fine, coarse, 3, stride=2) for fine, coarse in pairwise(widths))
        self.middle = _SpadeBlock(spatial, widths[-1], widths[-1], inputs, hidden, norm)
        self.up = nn.ModuleList(
            _SpadeBlock(spatial, coarse + fine, fine, inputs, hidden, norm)
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = convolution(spatial, widths[0], outputs, 3)
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, *spatial) to (B, outputs, *spatial); each axis a multiple of 2**downs, at least twice that."""
        # Reflection padding needs two voxels at the coarsest size.
        check_size(maps, self.multiple, least=2 * self.multiple)
        x: Tensor = self.stem(maps)
        fine = []
        for down in self.down:
            fine.append(x)
            x = down(F.leaky_relu(x, 0.2))
        x = self.middle(x, maps)
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2), fine.pop()], dim=1), maps)
        result: Tensor = self.last(F.leaky_relu(x, 0.2))
        return result
