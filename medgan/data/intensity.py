"""Random changes of a patch's intensities: what differs from scanner to scanner, but not the anatomy.

Translators vary sources in arbitrary units only: Hounsfield units mean something, and are left alone. Segmenters vary
both, so that they do not hang on one scanner's.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    Randomizable,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
)
from numpy.random import RandomState
from pydantic import Field, NonNegativeFloat

from medgan.config import Config


class IntensityConfig(Config):
    """How much a source's intensities are varied; zeros vary nothing."""

    gamma: float = Field(default=0.0, ge=0, lt=1)
    """The exponent lies between 1 - gamma and 1 / (1 - gamma)."""
    bias_field: NonNegativeFloat = 0.0
    """Largest coefficient of the logarithm of a smooth coil profile (Legendre polynomials of third degree)."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of the distances to the patch's mean."""
    brightness: NonNegativeFloat = 0.0
    """Largest shift of all intensities, as a share of the window."""
    noise: NonNegativeFloat = 0.0
    """Largest standard deviation of added noise, as a share of the window."""

    @property
    def varies(self) -> bool:
        """Whether anything is varied."""
        return bool(self.gamma or self.bias_field or self.contrast or self.brightness or self.noise)


class RandIntensityd(Randomizable, MapTransform):
    """Gamma, coil profile, contrast, brightness and noise, each in half of the patches; all slices of a patch alike.

    Amounts are shares of the window.

    Args:
        key: The image, (channels, *shape) in [-1, 1].
        config: How much.
    """

    def __init__(self, key: str, config: IntensityConfig) -> None:
        MapTransform.__init__(self, [key])
        steps: list[Any] = []
        if config.gamma:
            steps.append(RandAdjustContrast(prob=0.5, gamma=(1 - config.gamma, 1 / (1 - config.gamma))))
        if config.bias_field:
            steps.append(RandBiasField(prob=0.5, degree=3, coeff_range=(-config.bias_field, config.bias_field)))
        if config.contrast:
            steps.append(RandScaleIntensityFixedMean(prob=0.5, factors=config.contrast))
        if config.brightness:
            steps.append(RandShiftIntensity(offsets=config.brightness, prob=0.5))
        if config.noise:
            steps.append(RandGaussianNoise(prob=0.5, std=config.noise))
        self.steps = Compose(steps)

    def set_random_state(self, seed: int | None = None, state: RandomState | None = None) -> "RandIntensityd":
        """Seed the steps."""
        super().set_random_state(seed, state)
        self.steps.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing of its own: the steps draw for themselves."""
        del data

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """{key: image in [-1, 1]} to the same, varied."""
        result = dict(data)
        for key in self.key_iterator(result):
            varied = torch.as_tensor(self.steps((result[key] + 1) / 2))
            result[key] = varied.clamp(0, 1) * 2 - 1
        return result
