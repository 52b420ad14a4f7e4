"""Whether a pair of generators hides its input in its output: the cycle's error when the image in between is disturbed.

A way back that reads what an image shows loses by a disturbance about as much as the disturbance is: g times as much
where it stretches contrast g times. One that reads a faint signal, which the way there has hidden, loses the signal and
with it far more; a low cycle error then proves nothing about the image in between.

Source: Chu et al. 2017, arXiv:1712.02950, who find the signal to be of high frequency and to be destroyed by noise.
"""

from dataclasses import replace

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from medgan.data.domains import Domain
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared
from medgan.inference.apply import apply

EIGHT_BITS = 255
"""Steps of an 8-bit image over the window: 3.9 HU each in a window of 1000 HU."""
NOISE_SHARE = 0.01
"""Standard deviation of the noise as a share of the window: 10 HU of 1000, what a CT of the abdomen has anyway."""


def _quantised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image in [-1, 1] as 8 bits hold it."""
    return np.asarray(np.rint((image + 1) / 2 * EIGHT_BITS) / EIGHT_BITS * 2 - 1, dtype=np.float32)


def _noisy(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image in [-1, 1] with white noise, clipped to the window; the same noise for every image of a shape."""
    noise = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.float32(2 * NOISE_SHARE) * noise, -1, 1)


DISTURBANCES = {"8bit": _quantised, "noise": _noisy}
"""From an image in [-1, 1] to the same, disturbed."""


def cycle_errors(
    there: nn.Module,
    back: nn.Module,
    study: Prepared,
    domain: Domain,
    *,
    patch: PatchConfig,
    multiple: int,
    fabric: Fabric,
) -> dict[str, float]:
    """How far a study is from itself after the way there and back, in percent of its window, inside its body.

    Both generators are as for :func:`medgan.inference.apply.apply`; ``there`` is the one from the study's domain.

    Returns:
        ``cycle_percent``, the mean absolute error with the image in between as it is. For each disturbance of that
        ``cycle_NAME_percent``, the same, and ``cycle_NAME_excess_percent``, how much more error it brings than it is
        itself: far above 0, the way back read what is lost.
    """
    where = body_mask(study.voxels, domain)
    original, between = study.normalised(), apply(there, study, patch, multiple, fabric)

    def error(image: NDArray[np.float32]) -> float:
        seen = replace(study, voxels=image, bounds=(-1.0, 1.0))
        return _percent(apply(back, seen, patch, multiple, fabric) - original, where)

    row = {"cycle_percent": error(between)}
    for name, disturb in DISTURBANCES.items():
        image = disturb(between)
        disturbed, size = error(image), _percent(image - between, where)
        excess = disturbed - row["cycle_percent"] - size
        row |= {f"cycle_{name}_percent": disturbed, f"cycle_{name}_excess_percent": excess}
    return row


def _percent(difference: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """The mean absolute difference of images in [-1, 1], in percent of the window; not a number without a body."""
    return float(50 * np.abs(difference[where]).mean()) if where.any() else float("nan")
