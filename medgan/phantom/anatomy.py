"""A subject's abdomen: what lies where, before any scanner looks at it.

An anatomy is a list of shapes, each of one tissue, in the order in which they are laid over each other; it knows
nothing of voxels, so that one subject can be rendered on any grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medgan.phantom.shapes import Ellipsoid, Shape
from medgan.phantom.space import Point, Space, Waves, point
from medgan.phantom.tissues import Layer, Tissue
from medgan.phantom.trunk import Trunk, crus_layers, draw_trunk, rib_layers, spine_layers, trunk_layers
from medgan.phantom.vessels import vessel_layers
from medgan.phantom.viscera import (
    bowel_layers,
    kidney_layers,
    liver_layers,
    liver_shape,
    pancreas_layers,
    spleen_layers,
    stomach_layers,
)


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
    """A random abdomen, with one to four liver lesions where ``lesions`` is set."""
    girth = rng.uniform(0.92, 1.06)
    build = (girth, girth * rng.uniform(1.0, 1.13), float(rng.uniform(0.94, 1.06)))
    bend = [Waves.draw(rng, rms, (110, 260)) for rms in (1.8, 2.4, 2.4)]
    trunk = draw_trunk(rng)
    layers = tuple(_laid(rng, trunk, lesions))
    return Anatomy(layers, build, (bend[0], bend[1], bend[2]))


def _laid(rng: np.random.Generator, trunk: Trunk, lesions: bool) -> Iterator[Layer]:
    """Every layer, from the skin to the ribs."""
    yield from trunk_layers(rng, trunk)
    yield from bowel_layers(rng, trunk)
    yield from stomach_layers(rng, trunk)
    yield from spleen_layers(rng, trunk)
    liver = liver_shape(rng, trunk)
    yield from liver_layers(rng, trunk, liver)
    if lesions:
        yield from _lesions(rng, liver)
    yield from pancreas_layers(rng, trunk)
    yield from kidney_layers(rng, trunk)
    yield from crus_layers()
    yield from vessel_layers(rng, trunk)
    yield from spine_layers(rng, trunk)
    yield from rib_layers(trunk)


def _lesions(rng: np.random.Generator, liver: Shape) -> Iterator[Layer]:
    """One to four round masses, each wholly in the liver and apart from the others; a subject's are of one kind."""
    tissue = Tissue.HYPER_LESION if rng.uniform() < 0.4 else Tissue.HYPO_LESION
    wanted = int(rng.integers(1, 5))
    places = rng.uniform((-40, -60, -40), (110, 70, 60), (400, 1, 3))
    room_mm = -liver.distance(Space(places[..., 0], places[..., 1], places[..., 2], (1.0, 1.0, 1.0))).ravel()
    for _ in range(wanted):
        radius = rng.uniform(7.0, 16.0)
        fitting = np.flatnonzero(room_mm > 1.2 * radius)
        if not fitting.size:
            continue
        place = places[fitting[0], 0]
        radii = radius * rng.uniform(0.85, 1.15, 3)
        mass = Ellipsoid(point(place), point(radii), turn_deg=rng.uniform(-45, 45))
        yield Layer(tissue, mass.rough(Waves.draw(rng, 0.8, (12, 25))), rng.uniform(-6, 6))
        apart_mm = np.sqrt(((places[:, 0] - place) ** 2).sum(axis=1)) - 1.2 * radius
        room_mm = np.minimum(room_mm, apart_mm)
