"""A subject's abdomen: what lies where, before any scanner looks at it.

An anatomy is a list of shapes, each of one tissue, in the order in which they are laid over each other; it knows
nothing of voxels, so that one subject can be rendered on any grid.
"""

from dataclasses import dataclass

import numpy as np

from medgan.phantom.space import Point, Space, Waves
from medgan.phantom.tissues import Layer
from medgan.phantom.trunk import Trunk, bone_layers, crus_layers, trunk_layers
from medgan.phantom.vessels import vessel_layers
from medgan.phantom.viscera import organ_layers


@dataclass(frozen=True)
class Anatomy:
    """One subject's shapes, and how the subject's build bends the average coordinates."""

    layers: tuple[Layer, ...]
    build: Point
    """How much larger than average the subject is, along x, y and z."""
    bend: tuple[Waves, Waves, Waves]
    """A smooth displacement (mm), which makes no two subjects alike anywhere."""

    def coordinates(self, scanner: Space) -> Space:
        """The average subject's coordinates of the scanner's points."""
        fields = zip((scanner.x, scanner.y, scanner.z), self.build, self.bend, strict=True)
        x, y, z = (field / scale + bend(scanner) for field, scale, bend in fields)
        return Space(x, y, z, scanner.spacing_mm)


def draw_abdomen(rng: np.random.Generator, *, lesions: bool) -> Anatomy:
    """A random abdomen, with one to four liver lesions where ``lesions`` is set; layers from the skin to the ribs."""
    girth = rng.uniform(0.92, 1.06)
    build = (girth, girth * rng.uniform(1.0, 1.13), float(rng.uniform(0.94, 1.06)))
    bend = [Waves.draw(rng, rms, (110, 260)) for rms in (1.8, 2.4, 2.4)]
    trunk = Trunk.draw(rng)
    layers = [
        *trunk_layers(rng, trunk),
        *organ_layers(rng, trunk, lesions=lesions),
        *crus_layers(),
        *vessel_layers(rng, trunk),
        *bone_layers(rng, trunk),
    ]
    return Anatomy(tuple(layers), build, (bend[0], bend[1], bend[2]))
