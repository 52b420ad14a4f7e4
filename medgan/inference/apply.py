"""A generator over one prepared study: in slices, neighbour slices or blocks, and only where the body is."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from medgan.data.preparation import Prepared
from medgan.data.transforms import PatchConfig
from medgan.networks.sliding import Network, over_blocks, over_slices

MARGIN_VOXELS = 8
"""How far around the body's box the network looks."""


@torch.no_grad()
def apply(
    generator: nn.Module, study: Prepared, patch: PatchConfig, multiple: int, fabric: Fabric
) -> NDArray[np.float32]:
    """The generator's output for every voxel.

    Args:
        generator: (B, channels, *shape) to (B, 1, *shape), in evaluation mode.
        study: The prepared study.
        patch: How the generator was trained to look.
        multiple: What the generator's axes must be multiples of.
        fabric: Device and precision.

    Returns:
        (X, Y, Z) in [-1, 1]; away from the body the input.
    """
    result = study.normalised()
    box = tuple(
        slice(max(first - margin, 0), last + margin)
        for (first, last), margin in zip(study.body, (MARGIN_VOXELS, MARGIN_VOXELS, 0), strict=True)
    )
    volume = fabric.to_device(torch.from_numpy(np.ascontiguousarray(result[box])))
    with fabric.autocast():
        result[box] = _translated(generator, volume, patch, multiple).float().cpu().numpy()
    return result


def _translated(network: Network, volume: torch.Tensor, patch: PatchConfig, multiple: int) -> torch.Tensor:
    if patch.spatial == 3:
        return over_blocks(network, volume, block=patch.shape)
    return over_slices(network, volume, neighbours=patch.channels // 2, multiple=multiple)
