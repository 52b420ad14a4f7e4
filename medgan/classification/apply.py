"""A classifier over an image: its patches, one by one, and the one that decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from medgan.classification.settings import ClassifierModel
from medgan.data.patches import cut
from medgan.data.preparation import Prepared, normalise, prepare
from medgan.data.volumes import Volume
from medgan.errors import DataError, ModelError
from medgan.inference.translate import check_plane

TISSUE = -0.9
"""Patches of a larger image are looked at where their middle is brighter than this, of -1 to 1: a classifier learns
from patches in the body, and what it says of air means nothing."""
BATCH = 256
"""Patches at a time."""

Start = tuple[int, int, int]
"""The first voxel of a patch; may lie before the image, which then begins with air."""


@dataclass(frozen=True, eq=False)
class Classified:
    """What an image holds, by the patch that looks least healthy."""

    probabilities: NDArray[np.float64]
    """(classes,), healthy first; they add up to 1."""
    patches: int
    """How many were looked at."""
    centre_mm: tuple[float, float, float]
    """The middle of the patch that decides, RAS+."""


def classify_volume(model: ClassifierModel, volume: Volume, fabric: Fabric) -> Classified:
    """Classify an image, on its own grid, by its patches: it is what the patch is that is least likely healthy.

    An image of the patch's size is one patch. A larger one is cut into patches that overlap by half, in every slice for
    a classifier of slices. One lesion makes an image abnormal however much of it is healthy: therefore the least
    healthy patch and no mean.

    Raises:
        DataError: Nothing in it is brighter than air.
        ModelError: The network answers with values that are no numbers.
    """
    config = model.description.config
    prepared = prepare(volume, config.domain, config.grid)
    check_plane(volume, prepared)
    extent = (*config.shape, 1)[:3]
    starts = list(_patch_starts(prepared, extent))
    if not starts:
        raise DataError(f"{volume.path}: nothing in it is brighter than air; check what image it is.")
    shares = _probabilities(fabric.to_device(model.network), prepared, starts, config.shape, fabric)
    if not np.isfinite(shares).all():
        raise ModelError(f"{volume.path}: the classifier answers with values that are no numbers; train it anew.")
    least = int(np.argmin(shares[:, 0]))
    middle = np.array(starts[least]) + (np.array(extent) - 1) / 2
    x, y, z = (prepared.affine @ [*middle, 1.0])[:3].tolist()
    return Classified(shares[least], len(starts), (x, y, z))


@torch.no_grad()
def _probabilities(
    network: nn.Module, study: Prepared, starts: Sequence[Start], shape: Sequence[int], fabric: Fabric
) -> NDArray[np.float64]:
    """The classes (patches, classes) of patches of a shape (X, Y) or (X, Y, Z), by a network in evaluation mode."""
    results = []
    for first in range(0, len(starts), BATCH):
        patches = np.stack([cut(study, start, (*shape, 1)[:3]) for start in starts[first : first + BATCH]])
        batch = fabric.to_device(torch.from_numpy(patches.reshape(len(patches), 1, *shape)))
        with fabric.autocast():
            scores = network(batch)
        results.append(torch.softmax(scores.double(), dim=1).cpu().numpy())
    return np.concatenate(results)


def _patch_starts(study: Prepared, extent: Sequence[int]) -> Iterator[Start]:
    """Where the patches of an image (X, Y, Z) begin: over the body, overlapping by half, their middle on tissue.

    Along an axis on which the image is no larger than a patch there is one, in the middle. Where that holds for all
    axes of a patch (one voxel along z for slices), it is looked at whatever its middle shows.
    """
    size = study.voxels.shape
    x, y, z = (_along(*each) for each in zip(size, study.body, extent, strict=True))
    one_patch = all(whole <= length for whole, length in zip(size, extent, strict=True) if length > 1)
    for start in product(x, y, z):
        middle = tuple(
            min(max(first + length // 2, 0), whole - 1)
            for first, length, whole in zip(start, extent, size, strict=True)
        )
        if one_patch or normalise(study.voxels[middle], study.bounds) > TISSUE:
            yield start


def _along(size: int, body: tuple[int, int], extent: int) -> list[int]:
    """First voxels along one axis: from the body's first voxel in steps of half a patch, the last one flush."""
    if size <= extent:
        return [(size - extent) // 2]
    first, last = body
    if last - first <= extent:
        return [(first + last - extent) // 2]
    return sorted({*range(first, last - extent, max(extent // 2, 1)), last - extent})
