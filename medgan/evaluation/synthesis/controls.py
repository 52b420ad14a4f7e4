"""Patches that are broken on purpose: a measure that does not tell them from real ones tells nothing."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan.evaluation.synthesis.patches import Floats, Origin, Patches

BLUR_VOXELS = 1.5
"""Standard deviation of the Gaussian."""
NOISE = 0.02
"""Standard deviation, of images in [-1, 1]: what keeps repeated patches and copies from being equal to the bit."""


def blurred(real: Patches) -> Patches:
    """Real patches without their fine texture."""
    widths = (0, *[BLUR_VOXELS] * (real.images.ndim - 1))
    return Patches(ndimage.gaussian_filter(real.images, widths, mode="nearest"), real.labels, real.origins)


def collapsed(real: Patches, seed: int) -> Patches:
    """The first real patch as often as there are real ones, with a little noise."""
    count = len(real)
    repeated = real.at([0] * count)
    return Patches(_noisy(repeated.images, seed), repeated.labels, _unrelated("repeated", count))


def copied(training: Patches, count: int, seed: int) -> Patches:
    """Training patches, a little noisy, shifted by a voxel, and every other one mirrored along its first axis."""
    drawn = training.at(np.resize(np.random.default_rng(seed).permutation(len(training)), count))
    shift = (0, *[1] * (drawn.images.ndim - 1))
    images, labels = (ndimage.shift(each, shift, order=0, mode="nearest") for each in (drawn.images, drawn.labels))
    images[::2], labels[::2] = images[::2, ::-1].copy(), labels[::2, ::-1].copy()
    return Patches(_noisy(images, seed), labels, _unrelated("copied", count))


def _noisy(images: Floats, seed: int) -> Floats:
    noise = np.random.default_rng(seed).normal(0, NOISE, images.shape)
    return np.asarray(images + noise, dtype=np.float32)


def _unrelated(name: str, count: int) -> tuple[Origin, ...]:
    """As samples of a generator, which belong to no subject."""
    names: Sequence[str] = [f"{name} {number}" for number in range(count)]
    return tuple(Origin(each, each) for each in names)
