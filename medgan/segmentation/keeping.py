"""Label-keeping by two frozen segmenters: one of the source on inputs, one of the target on their translations."""

from collections.abc import Collection

import numpy as np
from lightning_fabric import Fabric

from medgan.data.grid import same_grid
from medgan.data.studies import Study
from medgan.data.volumes import Volume, read_volume
from medgan.errors import GeometryError, ModelError
from medgan.evaluation.segmentation import Keeping, label_keeping
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterModel


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

    def keeping(self, image: Study | Volume, translation: Study | Volume) -> Keeping:
        """What a translation keeps of its input's labels; both on one voxel grid.

        Raises:
            DataError: One cannot be read.
            GeometryError: They are on different grids.
        """
        one, other = (each if isinstance(each, Volume) else read_volume(each.image) for each in (image, translation))
        if not same_grid(one.grid, other.grid):
            raise GeometryError(
                f"{other.path} does not lie on the voxel grid of {one.path}; give the translation as `medgan convert` "
                "writes it."
            )
        before = segment_study(self.source, one, self.fabric)
        after = segment_study(self.target, other, self.fabric)
        names = {name: value for value, name in self.source.description.names.items()}
        return label_keeping(before, after, names, spacing_mm=one.grid.spacing_mm, lesions=self.lesions)

    def __call__(self, image: Study, translation: Study) -> float:
        """The lowest Dice of an organ, 0 to 1; 0 where neither map has any, since nothing can be said for the image."""
        worst = self.keeping(image, translation).worst
        return 0.0 if np.isnan(worst) else worst
