"""A network over one prepared study: in slices, neighbour slices or blocks, and only where the body is."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, normalise
from medgan.networks.sliding import Network, maps_over_blocks, maps_over_slices

MARGIN_VOXELS = 8
"""How far around the body's box the network looks."""

FEWEST_VOXELS = 33
"""Smaller planes are grown by their edge: after up to five halvings, reflection still finds a second voxel."""


@torch.no_grad()
def apply(
    generator: nn.Module, study: Prepared, patch: PatchConfig, multiple: int, fabric: Fabric
) -> NDArray[np.float32]:
    """A generator's output for every voxel, (X, Y, Z) in [-1, 1]; away from the body the input.

    The generator takes (B, channels, *shape) to (B, 1, *shape), in evaluation mode; its axes must be multiples of
    ``multiple``, and ``patch`` is how it was trained to look.
    """
    result = study.normalised()
    result[looked_at(study)] = maps(generator, study, patch, multiple, fabric)[0]
    return result


@torch.no_grad()
def maps(network: nn.Module, study: Prepared, patch: PatchConfig, multiple: int, fabric: Fabric) -> NDArray[np.float32]:
    """All n maps of a network (B, channels, *shape) to (B, n, *shape), as for :func:`apply`.

    Returns:
        (n, *shape) of the part of the study that the network looks at, :func:`looked_at`.
    """
    part = normalise(study.voxels[looked_at(study)], study.bounds)
    volume = fabric.to_device(torch.from_numpy(np.ascontiguousarray(part)))
    del part
    with fabric.autocast():
        result = _maps_of(network, volume, patch, multiple)
        if patch.mirroring:  # the mean with the mirror image's, turned back
            result = (result + _maps_of(network, volume.flip(0), patch, multiple).flip(1)) / 2
        return np.asarray(result.float().cpu().numpy())


def looked_at(study: Prepared) -> tuple[slice, ...]:
    """The part of a study that the network sees: the body's box and a margin in plane."""
    margins = (MARGIN_VOXELS, MARGIN_VOXELS, 0)
    return tuple(
        slice(max(first - margin, 0), min(last + margin, size))
        for (first, last), margin, size in zip(study.body, margins, study.voxels.shape, strict=True)
    )


def _maps_of(network: Network, volume: torch.Tensor, patch: PatchConfig, multiple: int) -> torch.Tensor:
    """The maps (n, X, Y, Z) of (X, Y, Z), which is first grown by its edge where the network needs more to look at."""
    x, y, z = volume.shape
    if patch.spatial == 3:
        # Along superior a patch continues with the last slice in training, too.
        maps = maps_over_blocks(network, _grown(volume, (0, 0, patch.shape[2])), block=patch.shape)
    else:
        grown = _grown(volume, (FEWEST_VOXELS, FEWEST_VOXELS, 0))
        maps = maps_over_slices(network, grown, neighbours=patch.channels // 2, multiple=multiple)
    return maps[:, :x, :y, :z]


def _grown(volume: torch.Tensor, fewest: tuple[int, int, int]) -> torch.Tensor:
    """(X, Y, Z) with at least so many voxels along each axis."""
    x, y, z = (max(0, wanted - size) for wanted, size in zip(fewest, volume.shape, strict=True))
    if not x + y + z:
        return volume
    return F.pad(volume[None, None], (0, z, 0, y, 0, x), mode="replicate")[0, 0]
