"""Copy-paste: a real lesion or organ, varied, with the image that belongs to it, mixed in by a feathered edge."""

import numpy as np
from numpy.typing import NDArray

from medgan.synthesis.blending import feathered
from medgan.synthesis.canvas import Site
from medgan.synthesis.insertion import Inserter


class CopyPaste(Inserter):
    """The baseline that a generator has to beat.

    Source: Ghiasi et al. 2021, arXiv:2012.07177, with one object at a time and placed by anatomy.
    """

    name = "copy-paste"

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The donor's image where the content is new, mixed with the recipient's around it."""
        del rng
        return feathered(site.before, site.inserted, site.share)
