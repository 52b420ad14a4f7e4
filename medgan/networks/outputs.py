"""What a generator's raw map means: an image, or the change that makes the target out of the source."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from medgan.networks.blocks import CONVOLUTIONS
from medgan.networks.generators import ResNetGenerator
from medgan.networks.windows import Windowed

Change = Literal["one-sided", "signed", "none"]
Amount = Literal["sigmoid", "linear"]
SHARPNESS = 5.0
"""How sharply a linear amount bends at zero, where it begins: the sharpness of its softplus."""


class Output(nn.Module):
    """Gives a generator's raw map, (B, C, *spatial) to (B, 1, *spatial), its meaning."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's maps of a :class:`ResNetGenerator`, whatever its output means."""
        assert isinstance(self.network, ResNetGenerator | Windowed), "only a ResNetGenerator shows its encoder"
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
    starts from the identity, and not at zero, where nothing has a slope.

    Of a one-sided map ``amount`` is the share of ``largest`` as a sigmoid of the raw map, or ``linear`` in it: a
    softplus that ends at ``largest``. What vessels lose is nearly linear in what they show, which a sigmoid must bend
    into the logarithm of odds first.
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
        amount: Amount = "sigmoid",
    ) -> None:
        super().__init__(network)
        self.one_sided, self.sign, self.amount = one_sided, sign, amount
        self.largest, self.lower, self.upper, self.ramp = largest, lower, upper, ramp
        sigmoid, linear = torch.logit(torch.tensor(start, device="cpu")), math.log(math.expm1(SHARPNESS * start))
        self.offset = float(sigmoid) if amount == "sigmoid" else linear
        # The last layer is shrunk, so that the raw map starts near zero.
        *_, last = (layer for layer in network.modules() if isinstance(layer, CONVOLUTIONS))
        with torch.no_grad():
            last.weight.mul_(0.1)

    def change(self, image: Tensor) -> Tensor:
        """The change of each voxel, (B, 1, *spatial), in units of [-1, 1], sign included."""
        raw, centre = self.network(image), centre_channel(image)
        gate = ((centre - self.lower) / self.ramp).clamp(0, 1) * ((self.upper - centre) / self.ramp).clamp(0, 1)
        return self.sign * self.largest * gate * self.share(raw)

    def share(self, raw: Tensor) -> Tensor:
        """A raw map as a share of ``largest``: 0 to 1 of a one-sided change, -1 to 1 of a signed one."""
        if not self.one_sided:
            return torch.tanh(raw)
        if self.amount == "sigmoid":
            return torch.sigmoid(raw + self.offset)
        return (softplus(SHARPNESS * raw + self.offset) / SHARPNESS).clamp(max=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) in [-1, 1] to (B, 1, *spatial): the centre channel plus its change."""
        return centre_channel(image) + self.change(image)


def centre_channel(image: Tensor) -> Tensor:
    """The slice that is translated: the middle one of (B, C, *spatial) with C odd, as (B, 1, *spatial)."""
    middle = image.shape[1] // 2
    return image[:, middle : middle + 1]
