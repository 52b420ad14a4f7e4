"""The whole case smoothly bent, image and labels alike: what another shape alone brings, without anything painted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from medgan.segmentation.labelled import Labelled
from medgan.synthesis.shapes import Lesion, ShapeConfig, deformation, labels_at
from medgan.synthesis.synthesiser import Synthesiser, Synthetic


class Elastic:
    """Elastic deformation (Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801), by as much as inserted shapes are bent.

    Every voxel of the recipient changes, and no donor takes part. A generator that does no better than this has
    brought shapes, and no images.

    Args:
        config: ``deformation_mm`` and ``smoothness_mm`` count.
    """

    name = "elastic"

    def __init__(self, config: ShapeConfig) -> None:
        self.config = config

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.synthesiser.Synthesiser`; beyond the volume its outermost voxels continue."""
        del donors
        image, shape = recipient.image, recipient.labels.shape
        spacing = voxel_sizes(image.affine)
        moved = deformation(shape, spacing, self.config, rng) / spacing.reshape(3, 1, 1, 1)
        if shape[2] == 1:
            moved[2] = 0
        # Clipped, so that labels continue beyond the volume as the image does.
        places = np.clip(np.indices(shape) + moved, 0, np.reshape(shape, (3, 1, 1, 1)) - 1)
        bent = np.asarray(ndimage.map_coordinates(image.voxels, places, order=1, mode="nearest"), dtype=np.float32)
        labels = labels_at(Lesion(recipient.labels, (0, 0, 0)), places)
        case = replace(recipient, image=replace(image, voxels=bent), labels=labels)
        how = {"method": self.name, "deformation_mm": self.config.deformation_mm}
        return Synthetic(case, (recipient.subject,), how)


class Bent:
    """The cases of another method, bent as a whole: each shape and its surroundings are then seen in many forms.

    Args:
        method: What makes the cases.
        elastic: What bends them.
    """

    def __init__(self, method: Synthesiser, elastic: Elastic) -> None:
        self.method, self.elastic, self.name = method, elastic, method.name

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.synthesiser.Synthesiser`."""
        made = self.method.synthesise(recipient, donors, rng)
        bent = self.elastic.synthesise(made.case, donors, rng)
        return Synthetic(bent.case, made.parents, bent.how | made.how)
