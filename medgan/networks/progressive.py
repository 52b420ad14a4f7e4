"""A generator and a critic that grow from coarse to fine, in 2D and 3D, and the layers of their paper.

Source: Karras et al. 2018, arXiv:1710.10196. A level is a resolution: at level 0 both see patches of 1 / 2^levels the
full size along each axis, and each level doubles it. How far a network has grown is a real number in its buffer
``grown``: 2 is level 2, and 2.25 is level 3 fading in with alpha = 0.25.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from medgan.networks.blocks import CONVOLUTION

WeightLayer = TypeVar("WeightLayer", bound=nn.Conv2d | nn.Conv3d | nn.Linear)

HE_GAIN = math.sqrt(2)
"""What keeps the size of a signal through a rectifier (He et al. 2015, arXiv:1502.01852, Eq. 10)."""


class _RuntimeScale(nn.Module):
    """Gives a layer its weight times a constant; the optimiser moves the weight without it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape to the same."""
        return self.scale * weight


def equalised(layer: WeightLayer, gain: float = HE_GAIN) -> WeightLayer:
    """Weights from N(0, 1), scaled at run time by He's constant, gain / sqrt(inputs); biases 0 (section 4.1).

    Adam's steps do not depend on the size of a gradient. So that every layer then learns at one speed, all weights must
    have one range.
    """
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    scale = gain / math.sqrt(layer.weight[0].numel())
    parametrize.register_parametrization(layer, "weight", _RuntimeScale(scale))
    return layer


def _pixel_norm(features: Tensor) -> Tensor:
    """Features (B, C, ...) whose mean square over channels is 1 at every place (section 4.2)."""
    return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-8)


def _minibatch_deviation(features: Tensor) -> Tensor:
    """Features (B, C, *spatial) with one channel more: how much the batch varies, the same number everywhere.

    It is the standard deviation over the batch, the mean of all features and places: with it a critic tells a
    generator that always draws the same (section 3).
    """
    # The small number keeps the root's slope finite where all items are equal.
    deviation = (features.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([features, deviation.expand(len(features), 1, *features.shape[2:])], dim=1)


def _double(image: Tensor) -> Tensor:
    """Twice the size along each axis: every voxel repeated."""
    return F.interpolate(image, scale_factor=2, mode="nearest")


def _halve(image: Tensor) -> Tensor:
    """Half the size along each axis: means of 2 x 2 (x 2) voxels."""
    return F.avg_pool2d(image, 2) if image.dim() == 4 else F.avg_pool3d(image, 2)


def _stage(grown: float) -> tuple[int, float]:
    """The finest level that takes part, and its alpha, in (0, 1]; at level 0 it is 1."""
    level = math.ceil(grown)
    return level, 1 - (level - grown)


def seen_at(image: Tensor, grown: float, levels: int) -> Tensor:
    """A real patch (B, C, *full) as the critic is shown it: at its level's size, and faded in as generated ones are."""
    level, alpha = _stage(grown)
    for _ in range(levels - level):
        image = _halve(image)
    return image if alpha == 1 else torch.lerp(_double(_halve(image)), image, alpha)


class _Growing(nn.Module):
    """What both networks share: their shapes and widths by level, and how far they have grown.

    torch.compile leaves both as they are: it would compile anew for every alpha, and compiled code has no second
    derivative, which the gradient penalty takes. Each axis of a full patch, ``shape``, is a multiple of 2^levels;
    ``channels`` are those of the full size, and double with every level towards the coarse, up to ``most_channels``.
    """

    grown: Tensor

    def __init__(self, shape: Sequence[int], levels: int, channels: int, most_channels: int) -> None:
        super().__init__()
        if any(size % 2**levels or size < 2**levels for size in shape):
            raise ValueError(f"a patch of {tuple(shape)} cannot be halved {levels} times")
        self.spatial, self.levels = len(shape), levels
        self.shapes = [tuple(size // 2 ** (levels - level) for size in shape) for level in range(levels + 1)]
        self.widths = [min(channels * 2 ** (levels - level), most_channels) for level in range(levels + 1)]
        self.register_buffer("grown", torch.tensor(float(levels), device="cpu"))

    def _apply(self, *how: Any, **options: Any) -> Self:
        """Parameters change their place and kind. ``grown`` does not: Python reads it, and would wait for a GPU."""
        grown = self.grown
        super()._apply(*how, **options)  # type: ignore[no-untyped-call]
        self.grown = grown
        return self

    def convolution(self, inputs: int, outputs: int) -> nn.Sequential:
        """3-wide, equalised, leaky; in deep features zeros beyond the border are no tissue, but tell where it is."""
        return nn.Sequential(equalised(CONVOLUTION[self.spatial](inputs, outputs, 3, padding=1)), nn.LeakyReLU(0.2))

    def pointwise(self, inputs: int, outputs: int, gain: float = HE_GAIN) -> nn.Conv2d | nn.Conv3d:
        """1-wide and equalised: between features and images."""
        return equalised(CONVOLUTION[self.spatial](inputs, outputs, 1), gain)


class _Normed(nn.Sequential):
    """Layers, and after each of them pixel norm."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, *spatial) to what the layers make of it."""
        for layer in self:
            features = _pixel_norm(layer(features))
        return features


class ProgressiveGenerator(_Growing):
    """Draws patches from noise, and from a condition that stands beside it.

    Unlike the paper's its images are bounded, by tanh at each level: label maps are -1 or +1 almost everywhere. The
    noise, of length ``latent``, is drawn from N(0, 1); the condition may be of length 0.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        *,
        levels: int,
        latent: int = 128,
        condition: int = 0,
        channels: int = 16,
        most_channels: int = 128,
    ) -> None:
        super().__init__(shape, levels, channels, most_channels)
        self.latent = latent
        widths, start = self.widths, math.prod(self.shapes[0])
        self.start = equalised(nn.Linear(latent + condition, widths[0] * start))
        self.blocks = nn.ModuleList([_Normed(self.convolution(widths[0], widths[0]))])
        for before, width in pairwise(widths):
            self.blocks.append(_Normed(self.convolution(before, width), self.convolution(width, width)))
        self.to_joint = nn.ModuleList(self.pointwise(width, outputs, gain=1.0) for width in widths)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, z: Tensor, condition: Tensor, full: bool = True) -> Tensor:
        """Noise (B, latent) and condition (B, D) to patches (B, outputs, *shape) in [-1, 1].

        Unless ``full``, a patch keeps the size of the level that the generator has grown to.
        """
        joint = self.at(z, condition, *_stage(float(self.grown)))
        return F.interpolate(joint, self.shapes[-1], mode="nearest") if full else joint

    def at(self, z: Tensor, condition: Tensor, level: int, alpha: float = 1.0) -> Tensor:
        """Patches of ``level``'s size, of which (1 - alpha) is the level before, its size doubled."""
        features = self.start(torch.cat([_pixel_norm(z), condition], dim=1))
        features = _pixel_norm(F.leaky_relu(features, 0.2).unflatten(1, (self.widths[0], *self.shapes[0])))
        before = features
        for number, block in enumerate(self.blocks[: level + 1]):
            before = features
            features = block(_double(features) if number else features)
        joint = torch.tanh(self.to_joint[level](features))
        if level == 0 or alpha == 1:
            return joint
        return torch.lerp(_double(torch.tanh(self.to_joint[level - 1](before))), joint, alpha)


class ProgressiveCritic(_Growing):
    """One score a patch: the generator's mirror image, without a norm.

    The condition, which may be of length 0, enters as an inner product of the last features with its embedding (Miyato
    and Koyama 2018, arXiv:1802.05637): the score tells whether a patch is real and whether it is what was asked for.
    """

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int,
        *,
        levels: int,
        condition: int = 0,
        channels: int = 16,
        most_channels: int = 128,
    ) -> None:
        super().__init__(shape, levels, channels, most_channels)
        widths, start = self.widths, math.prod(self.shapes[0])
        self.from_joint = nn.ModuleList(
            nn.Sequential(self.pointwise(inputs, width), nn.LeakyReLU(0.2)) for width in widths
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(self.convolution(width, width), self.convolution(width, before))
            for before, width in pairwise(widths)
        )
        self.last = self.convolution(widths[0] + 1, widths[0])
        self.dense = equalised(nn.Linear(widths[0] * start, widths[0]))
        self.score = equalised(nn.Linear(widths[0], 1), gain=1.0)
        self.embed = equalised(nn.Linear(condition, widths[0], bias=False), gain=1.0) if condition else None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, joint: Tensor, condition: Tensor) -> Tensor:
        """Patches (B, inputs, *shape of the level it has grown to) and conditions (B, D) to raw scores (B, 1)."""
        return self.at(joint, condition, *_stage(float(self.grown)))

    def at(self, joint: Tensor, condition: Tensor, level: int, alpha: float = 1.0) -> Tensor:
        """Scores of patches of ``level``'s size; (1 - alpha) of the features are those of the level before."""
        features = self.from_joint[level](joint)
        if level:
            features = _halve(self.blocks[level - 1](features))
            if alpha != 1:
                features = torch.lerp(self.from_joint[level - 1](_halve(joint)), features, alpha)
        for number in range(level - 1, 0, -1):
            features = _halve(self.blocks[number - 1](features))
        features = self.last(_minibatch_deviation(features))
        features = F.leaky_relu(self.dense(features.flatten(1)), 0.2)
        score: Tensor = self.score(features)
        if self.embed is None:
            return score
        # Divided by the root of the length, it starts as large as the score itself.
        agreement: Tensor = (self.embed(condition) * features).sum(dim=1, keepdim=True) / math.sqrt(features.shape[1])
        return score + agreement
