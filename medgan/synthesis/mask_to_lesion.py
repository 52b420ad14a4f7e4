"""From a mask to a lesion: a painter that draws it into the tissue around, where and as large as it is asked to.

Sources: Park et al. 2019, arXiv:1903.07291 (SPADE); Isola et al. 2017, arXiv:1611.07004 (concatenation). Real lesions
are hidden with a margin and painted from their masks. In a share of patches healthy tissue is hidden and the mask is
empty, so that the same painter knows both what a lesion is and what it is not.
"""

from typing import Literal

import numpy as np
from torch import Tensor

from medgan.data.patches import Batch
from medgan.segmentation.labelled import IMAGE, LABELS
from medgan.synthesis.hiding import hide
from medgan.synthesis.painting import Painting, PaintingConfig


class MaskToLesionConfig(PaintingConfig):
    """Settings of a painter of lesions."""

    kind: Literal["mask_to_lesion"] = "mask_to_lesion"


class MaskToLesion(Painting):
    """Learns on lesions and, in a share of patches, on holes in healthy tissue."""

    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Lesions with a margin, or a hole that touches none."""
        return hide(batch[IMAGE], batch[LABELS], self.config.hiding, rng)
