"""Semantic consistency: a frozen segmenter of the source holds the labels of an image and of its translation together.

Without it a discriminator that has seen more lesions in one domain than in the other may ask for lesions that were not
there, or for none where there were some.

Source: Hoffman et al. 2018, CyCADA, arXiv:1711.03213, section 3.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from medgan.data.domains import Domain, DomainPair
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.errors import ModelError
from medgan.networks.outputs import centre_channel
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.training.model_folder import read_model

Around = Callable[[Tensor, Tensor], Tensor]
"""From a stack of slices and a new middle slice to the stack with that in its middle."""


class FrozenSegmenter:
    """A segmenter that looks at translator patches of one domain through its own window, and learns nothing.

    Between two windows of HU intensities are carried over. ``folder`` is the segmenter's model folder; ``grid`` None
    asks for no particular grid.

    Raises:
        ModelError: It cannot see what the translator sees.
    """

    def __init__(
        self, model: SegmenterModel, folder: Path, seen: Domain, patch: PatchConfig, grid: GridConfig | None
    ) -> None:
        config = model.description.config
        own, own_patch, multiple = config.domain, config.patch, config.network.multiple
        if own.unit != seen.unit or (own.window.percentiles and own.window != seen.window):
            raise ModelError(
                f"{folder}: segments {own.name} ({own.modality}, {own.unit}, window {own.window.lower:g} to "
                f"{own.window.upper:g}), which is not how the translator sees {seen.name} ({seen.modality}, "
                f"{seen.unit}, window {seen.window.lower:g} to {seen.window.upper:g}); give a segmenter of "
                f"{seen.name}."
            )
        if own_patch.spatial != patch.spatial or own_patch.channels not in (1, patch.channels):
            raise ModelError(
                f"{folder}: sees patches in {own_patch.dimensions}D and the translator in {patch.dimensions}D; train "
                f"the segmenter with patch.dimensions={patch.dimensions}."
            )
        if any(size % multiple for size in patch.shape):
            raise ModelError(
                f"{folder}: its network takes axes that are multiples of {multiple}, and the translator's patch has "
                f"{' x '.join(map(str, patch.shape))} voxels; change patch.size_voxels, or the segmenter's "
                "network.downs."
            )
        if grid is not None and config.grid != grid:
            raise ModelError(
                f"{folder}: sees voxels of {_spacing(config.grid)} mm and the translator of {_spacing(grid)} mm; train "
                "the segmenter with the translator's grid.spacing_mm."
            )
        self.network, self.stacked, self.sha256 = (
            model.network,
            own_patch.channels > 1,
            model.description.weights_sha256,
        )
        ours, theirs = seen.window, own.window
        self.scale = (ours.upper - ours.lower) / (theirs.upper - theirs.lower)
        self.offset = (ours.upper + ours.lower - theirs.upper - theirs.lower) / (theirs.upper - theirs.lower)

    def shown(self, image: Tensor) -> Tensor:
        """A patch in [-1, 1] of the translator's window, in that of the segmenter."""
        return (image * self.scale + self.offset).clamp(-1, 1)


class SemanticConsistency(FrozenSegmenter):
    """The frozen segmenter of one domain pair and patch.

    Raises:
        ModelError: No segmenter, or one that cannot see what the translator sees.
    """

    def __init__(self, folder: Path, pair: DomainPair, patch: PatchConfig, grid: GridConfig | None) -> None:
        model, source, target = read_model(folder, SegmenterDescription), pair.source, pair.target
        if source.unit != target.unit:
            raise ModelError(
                f"{folder}: one segmenter cannot look at both {source.name} ({source.unit}) and {target.name} "
                f"({target.unit}); semantic consistency is for domains that measure the same: set cyclegan.semantic=0."
            )
        super().__init__(model, folder, source, patch, grid)

    def loss(self, image: Tensor, translated: Tensor, around: Around) -> Tensor:
        """Mean cross-entropy of the segmenter's scores of a translation with its labels of the image.

        One of the two sums of Eq. 4 of the paper, with the task loss of Eq. 1; ``image`` is (B, C, *shape) in [-1, 1]
        of the translator's window, ``translated`` (B, 1, *shape), and ``around`` puts a slice between its neighbours.
        """
        with torch.no_grad():
            labels = self.scores(image if self.stacked else centre_channel(image)).argmax(dim=1)
        shown = around(image, translated) if self.stacked else translated
        return cross_entropy(self.scores(shown), labels)

    def scores(self, image: Tensor) -> Tensor:
        """The segmenter's raw scores (B, labels + 1, *shape) of what it sees, (B, C, *shape)."""
        scores: Tensor = self.network.to(image.device)(self.shown(image))
        return scores.float()


def _spacing(grid: GridConfig) -> str:
    return " x ".join("own" if size is None else f"{size:g}" for size in grid.spacing_mm)
