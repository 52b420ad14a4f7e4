"""The layers that generators and discriminators are made of, in 2D and 3D."""

from collections.abc import Callable, Iterable
from functools import reduce
from itertools import accumulate
from typing import Any, Literal

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


def before(norm: Norm, layer: Callable[..., nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    """The convolution that ``norm`` follows; batch and group norm shift by themselves, so it has no bias there.

    Instance norm removes a bias. The references train it all the same: on rounding alone, which Adam makes full steps
    of. Here it stays 0, a buffer, since model folders hold one.
    """
    made = layer(*sizes, bias=norm in ("none", "instance"), **options)
    if norm == "instance":
        bias = made.get_parameter("bias").detach()
        del made.bias
        made.register_buffer("bias", bias)
    return made


class _OneChannel(nn.modules.conv._ConvNd):
    """A convolution of stride 1 from or to one channel, which on a CPU does not leave the others' places empty.

    A processor works on many channels at a time, so that one takes as long as eight. Its taps along the first axis
    become channels: shifted copies of what arrives, or shifted maps that are added up. In 32 bits alone: narrower
    maps would be rounded before they are added.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, C', *narrowed)."""
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            result: Tensor = super().forward(x)
            return result
        # Weights are cloned: some of torch's kernels refuse a layout that an axis of size 1 leaves open.
        two = x.dim() == 4
        convolve, layout = (F.conv2d, torch.channels_last) if two else (F.conv3d, torch.channels_last_3d)
        taps = self.kernel_size[0]
        size = x.shape[2] - taps + 1
        if self.in_channels == 1:
            copies = torch.stack([x[:, 0].narrow(1, tap, size) for tap in range(taps)], dim=-1).movedim(-1, 1)
            return convolve(copies, self.weight.transpose(1, 2).clone(memory_format=layout), self.bias)
        maps = convolve(x, self.weight.transpose(0, 2).clone(memory_format=layout)).unbind(1)
        added = reduce(torch.add, (one.narrow(1, tap, size) for tap, one in enumerate(maps))).unsqueeze(1)
        return added if self.bias is None else added + self.bias


class _OneChannel2d(_OneChannel, nn.Conv2d):
    pass


class _OneChannel3d(_OneChannel, nn.Conv3d):
    pass


ONE_CHANNEL: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: _OneChannel2d, 3: _OneChannel3d}


def convolution(
    spatial: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: Norm = "none"
) -> nn.Sequential:
    """Reflection padding, convolution, normalisation; keeps the size at stride 1 and halves an even one at stride 2.

    Reflection rather than zeros: zero in [-1, 1] is an intensity, and a frame of it would be seen as tissue.
    """
    # From one channel a narrow kernel gains nothing.
    alone = stride == 1 and kernel > 1 and (outputs == 1 or (inputs == 1 and kernel > 3))
    return nn.Sequential(
        ReflectionPad(spatial, kernel // 2),
        before(norm, (ONE_CHANNEL if alone else CONVOLUTION)[spatial], inputs, outputs, kernel, stride),
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
                before(norm, TRANSPOSED[spatial], inputs, outputs, 3, 2, padding=1, output_padding=1),
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
