"""A segmenter over a study: class probabilities on the network's grid, label maps on the study's own."""

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.data.preparation import Prepared, prepare
from medgan.data.studies import Study
from medgan.data.volumes import Grid, Volume, read_volume
from medgan.errors import ModelError
from medgan.inference.apply import looked_at, maps
from medgan.inference.translate import check_plane, on_grid
from medgan.segmentation.settings import SegmenterConfig, SegmenterModel

Probabilities = NDArray[np.float32]
"""(names + 1, X, Y, Z), background first; they add up to 1."""


class _Softmax(nn.Module):
    """Scores as probabilities: blocks and mirror images are averaged as such."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, *shape) to (B, names + 1, *shape)."""
        return torch.softmax(self.network(image).float(), dim=1)


def segment_study(model: SegmenterModel, study: Study | Volume | Prepared, fabric: Fabric) -> NDArray[np.uint8]:
    """The label map (X, Y, Z) of a study: 0 is background, n the n-th name of the model's settings.

    A study or volume is segmented on its own grid, one that is prepared already on that grid.

    Raises:
        ModelError: The network answers with values that are no numbers.
    """
    config = model.description.config
    if isinstance(study, Prepared):
        return segment_prepared(fabric.to_device(model.network), study, config, fabric)
    volume = read_volume(study.image) if isinstance(study, Study) else study
    prepared = prepare(volume, config.domain, config.grid)
    check_plane(volume, prepared)
    shares = _probabilities(fabric.to_device(model.network), prepared, config, fabric)
    if not np.isfinite(shares).all():
        raise ModelError(f"{volume.path}: the segmenter answers with values that are no numbers; train it anew.")
    return _on_own_grid(shares, prepared.affine, volume.grid)


def segment_prepared(network: nn.Module, study: Prepared, config: SegmenterConfig, fabric: Fabric) -> NDArray[np.uint8]:
    """The label map (X, Y, Z) of a prepared study, on its grid."""
    return np.asarray(np.argmax(_probabilities(network, study, config, fabric), axis=0), dtype=np.uint8)


def _probabilities(network: nn.Module, study: Prepared, config: SegmenterConfig, fabric: Fabric) -> Probabilities:
    """What a network in evaluation mode makes of a study (X, Y, Z); away from the body there is background."""
    result = np.zeros((len(config.labels) + 1, *study.voxels.shape), dtype=np.float32)
    result[0] = 1
    box = (slice(None), *looked_at(study))
    result[box] = maps(_Softmax(network), study, config.patch, config.network.multiple, fabric)
    return result


def _on_own_grid(shares: Probabilities, affine: NDArray[np.float64], grid: Grid) -> NDArray[np.uint8]:
    """The likeliest class of each voxel of a grid: probabilities are carried there, not labels, whose edges would step.

    Args:
        shares: (classes, X, Y, Z) on a grid of their own.
        affine: (4, 4), their voxel index to RAS+ mm.
        grid: Where the labels shall lie.
    """
    best = np.full(grid.size, -1, dtype=np.float32)
    labels = np.zeros(grid.size, dtype=np.uint8)
    for number, one in enumerate(shares):
        for slab, likely in on_grid(one, affine, grid):
            higher = likely > best[..., slab]
            best[..., slab][higher] = likely[higher]
            labels[..., slab][higher] = number
    return labels
