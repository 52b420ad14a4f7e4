"""A segmenter over a study: label maps on its grid; and two segmenters as judges of what a translation keeps."""

from collections.abc import Collection

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.data.grid import same_grid
from medgan.data.preparation import Prepared, prepare
from medgan.data.studies import Study
from medgan.data.volumes import Grid, Volume, read_volume
from medgan.errors import GeometryError, ModelError
from medgan.evaluation.segmentation import LabelAgreement, label_agreement
from medgan.inference.translate import check_plane, looked_at, maps, on_grid
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


def segment_study(model: SegmenterModel, volume: Volume, fabric: Fabric) -> NDArray[np.uint8]:
    """The label map (X, Y, Z) of a volume on its grid: 0 is background, n the n-th name of the model's settings.

    Raises:
        ModelError: The network answers with values that are no numbers.
    """
    config = model.description.config
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


class LabelKeeper:
    """Judges translations by the labels that they keep; ``lesions`` are names that are counted in pieces.

    Raises:
        ModelError: The two segmenters do not name the same labels, or not these lesions.
    """

    def __init__(
        self, source: SegmenterModel, target: SegmenterModel, fabric: Fabric, lesions: Collection[str] = ()
    ) -> None:
        self.source, self.target, self.fabric, self.lesions = source, target, fabric, lesions
        names, others = (tuple(model.description.names.values()) for model in (source, target))
        if names != others:
            raise ModelError(
                f"the segmenters find {', '.join(names)} and {', '.join(others)}: only "
                "labels of the same names in the same order can be compared; train both with the same labels."
            )
        if unknown := set(lesions) - set(names):
            raise ModelError(
                f"the segmenters find no {' and no '.join(sorted(unknown))}; they find {', '.join(names)}."
            )

    def agreement(self, one: Volume, other: Volume) -> LabelAgreement:
        """What a translation, ``other``, keeps of its input's labels; both on one voxel grid.

        Raises:
            GeometryError: They are on different grids.
        """
        if not same_grid(one.grid, other.grid):
            raise GeometryError(
                f"{other.path} does not lie on the voxel grid of {one.path}; give the translation as `medgan convert` "
                "writes it."
            )
        before = segment_study(self.source, one, self.fabric)
        after = segment_study(self.target, other, self.fabric)
        names = {name: value for value, name in self.source.description.names.items()}
        return label_agreement(before, after, names, spacing_mm=one.grid.spacing_mm, lesions=self.lesions)

    def __call__(self, image: Study, translation: Study) -> float:
        """The lowest Dice of an organ, 0 to 1; 0 where neither map has any, since nothing can be said for the image."""
        worst = self.agreement(read_volume(image.image), read_volume(translation.image)).worst
        return 0.0 if np.isnan(worst) else worst
