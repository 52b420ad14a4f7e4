"""The layers that generators and discriminators are made of, in 2D and 3D."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["instance", "batch", "group", "none"]
UpSampling = Literal["resize", "transposed"]

CONVOLUTION: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
DROPOUT: dict[int, type[nn.Dropout2d | nn.Dropout3d]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


class InstanceNorm(nn.Module):
    """Each channel of each image has mean 0 and deviation 1; what is channels-last stays so.

    PyTorch's own gives a CPU channels-first maps, which the next convolution has to lay out anew. The batch norm of one
    image is the same, and keeps the layout.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same; statistics are of 32 bits whatever comes."""
        if x.device.type != "cpu":
            return F.instance_norm(x)
        # A weight of 32 bits is what keeps the statistics of a narrower map in 32 bits.
        ones = x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        images = [F.batch_norm(image, None, None, ones, training=True) for image in x.split(1)]
        return images[0] if len(images) == 1 else torch.cat(images)


class ReflectionPad(nn.Module):
    """``width`` voxels mirrored at each border, in the precision that arrives: autocast on a CPU would widen it."""

    def __init__(self, spatial: int, width: int) -> None:
        super().__init__()
        self.padding = (width,) * 2 * spatial

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, C, *widened)."""
        with torch.autocast("cpu", enabled=False):
            return F.pad(x, self.padding, mode="reflect")


def normalisation(kind: Norm, channels: int, spatial: int) -> nn.Module:
    """The normalisation after a convolution with ``channels`` outputs.

    ``instance`` is CycleGAN's and ``batch`` pix2pix's. ``group`` has 8 channels a group (all in one where 8 does not
    divide them): like instance norm it needs no batch, but its statistics vary less from tile to tile.
    """
    if kind == "instance":
        return InstanceNorm()
    if kind == "batch":
        return BATCH[spatial](channels)
    if kind == "group":
        return nn.GroupNorm(1 if channels % 8 else channels // 8, channels)
    return nn.Identity()


def has_bias(norm: Norm) -> bool:
    """Whether a convolution before ``norm`` has a bias: batch and group norm shift by themselves.

    Instance norm as used here does not; it removes a bias, which is kept because the references keep it.
    """
    return norm in ("none", "instance")


def convolution(
    spatial: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: Norm = "none"
) -> nn.Sequential:
    """Reflection padding, convolution, normalisation; keeps the size at stride 1 and halves an even one at stride 2.

    Reflection rather than zeros: zero in [-1, 1] is an intensity, and a frame of it would be seen as tissue.
    """
    return nn.Sequential(
        ReflectionPad(spatial, kernel // 2),
        CONVOLUTION[spatial](inputs, outputs, kernel, stride, bias=has_bias(norm)),
        normalisation(norm, outputs, spatial),
    )


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), both 3-wide and normalised (He et al. 2016 as used by Johnson et al. 2016)."""

    def __init__(self, spatial: int, channels: int, norm: Norm, dropout: float = 0.0) -> None:
        super().__init__()
        first, second = (convolution(spatial, channels, channels, 3, norm=norm) for _ in range(2))
        dropped = [DROPOUT[spatial](dropout)] if dropout else []
        self.layers = nn.Sequential(first, nn.ReLU(), *dropped, second)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same shape."""
        result: Tensor = x + self.layers(x)
        return result


class UpSample(nn.Module):
    """Twice the size along each axis.

    ``resize`` interpolates and then convolves, which cannot draw a checkerboard; ``transposed`` is the reference's
    (Odena, Dumoulin and Olah 2016, "Deconvolution and checkerboard artifacts").
    """

    def __init__(self, spatial: int, inputs: int, outputs: int, norm: Norm, kind: UpSampling) -> None:
        super().__init__()
        self.interpolation = LINEAR[spatial] if kind == "resize" else None
        if self.interpolation:
            self.layers = convolution(spatial, inputs, outputs, 3, norm=norm)
        else:
            self.layers = nn.Sequential(
                TRANSPOSED[spatial](inputs, outputs, 3, 2, padding=1, output_padding=1, bias=has_bias(norm)),
                normalisation(norm, outputs, spatial),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, C', *doubled)."""
        if self.interpolation:
            x = F.interpolate(x, scale_factor=2, mode=self.interpolation, align_corners=False)
        result: Tensor = self.layers(x)
        return result


class ConditionalNorm(nn.Module):
    """Normalises each channel, then scales and shifts it by what the condition says.

    ``gamma(c) * (x - mean) / deviation + beta(c)``, both linear in the condition: of a one-hot class they are one gamma
    and one beta for each class and channel, and of several blocks side by side the blocks' contributions add up. With
    equal columns, or the condition 0, it is the plain norm. Mean and deviation are those of the batch, as in DCGAN, or
    of each image.

    Source: Dumoulin, Shlens and Kudlur 2016, arXiv:1610.07629, Eq. 5, there with instance statistics; de Vries et al.
    2017, arXiv:1707.00683, with a batch's.
    """

    def __init__(
        self, spatial: int, channels: int, condition: int, statistics: Literal["batch", "instance"] = "batch"
    ) -> None:
        super().__init__()
        self.norm = BATCH[spatial](channels, affine=False) if statistics == "batch" else InstanceNorm()
        self.scale, self.shift = nn.Linear(condition, channels), nn.Linear(condition, channels)
        # As the scales of a plain norm start in Radford et al. 2016; the classes differ from the first step on.
        nn.init.normal_(self.scale.bias, 1.0, 0.02)
        nn.init.zeros_(self.shift.bias)
        for part in (self.scale, self.shift):
            nn.init.normal_(part.weight, 0.0, 0.02)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, channels, *spatial) and (B, D) to (B, channels, *spatial)."""
        ones = (1,) * (x.dim() - 2)
        gamma, beta = (part(condition).unflatten(1, (-1, *ones)) for part in (self.scale, self.shift))
        return torch.addcmul(beta, gamma, self.norm(x))


def constant_maps(condition: Tensor, image: Tensor) -> Tensor:
    """Each value of the condition (B, D) as a map of the image's size, (B, D, *spatial)."""
    ones = (1,) * (image.dim() - 2)
    column: Tensor = condition.unflatten(1, (-1, *ones))
    return column.expand(-1, -1, *image.shape[2:])


def encoder_maps(image: Tensor, layers: Iterable[nn.Module]) -> list[Tensor]:
    """The map after each layer, from fine to coarse."""
    return list(accumulate(layers, lambda maps, layer: layer(maps), initial=image))[1:]


def check_size(image: Tensor, multiple: int, *, least: int) -> None:
    """Refuse an image (B, C, *spatial) that a network cannot halve and double again."""
    if any(size % multiple or size < least for size in image.shape[2:]):
        raise ValueError(
            f"image of {tuple(image.shape[2:])} voxels: every axis must be a multiple of {multiple} "
            f"and at least {least}; pad it first"
        )


@torch.no_grad()
def initialise(module: nn.Module, deviation: float = 0.02) -> None:
    """Weights from N(0, 0.02), scales from N(1, 0.02), biases 0: the reference's start (Radford et al. 2016)."""
    for layer in module.modules():
        if isinstance(layer, CONVOLUTIONS):
            nn.init.normal_(layer.weight, 0.0, deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, deviation)
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def keep_variance(module: nn.Module) -> None:
    """Convolution weights that keep the variance through leaky ReLUs (He et al. 2015, arXiv:1502.01852, Eq. 14).

    At N(0, 0.02) a signal fades from layer to layer where no norm restores it, and where one does, a deep regression
    still sets out slowly.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(layer.weight, 0.2, nonlinearity="leaky_relu")
