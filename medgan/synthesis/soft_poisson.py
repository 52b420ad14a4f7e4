"""Soft-Poisson: a real lesion or organ, varied, whose gradients are inserted on the recipient's level."""

import numpy as np
from numpy.typing import NDArray

from medgan.synthesis.blending import soft_poisson
from medgan.synthesis.canvas import Site
from medgan.synthesis.insertion import Inserter


class SoftPoisson(Inserter):
    """Copy-paste that no step of brightness gives away.

    Source: Huo et al. 2024, arXiv:2406.14826; Pérez et al. 2003, doi 10.1145/882262.882269.
    """

    name = "soft-poisson"

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image with the donor's gradients in the lesion and the recipient's values around it."""
        del rng
        return soft_poisson(site.before, site.inserted, site.share, site.spacing_mm)
