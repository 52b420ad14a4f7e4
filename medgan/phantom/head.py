"""A subject's head: scalp, skull, meninges and face, and in them the brain with its vessels.

Coordinates are those of a subject of average build, in mm: the origin lies in the midline, 25 mm above the commissures
of the brain, which is the middle of what is in view. Every part gives its layers in the order in which they are laid
over each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator

from medgan.phantom.anatomy import Anatomy, Layer
from medgan.phantom.brain import Brain, brain_layers
from medgan.phantom.shapes import Ellipsoid, Shape, Tube, dome, half_space
from medgan.phantom.space import Waves, near
from medgan.phantom.tissues import HeadTissue

MIDDLE = (0.0, -8.0, -20.0)  # centre of the vault
RADII = (66.0, 84.0, 72.0)  # of the vault's inside


def draw_head(rng: Generator, *, lesions: bool) -> Anatomy:
    """A random head, with three to ten lesions of the white matter where ``lesions`` is set."""
    size = rng.uniform(0.95, 1.04)
    build = (size * rng.uniform(0.97, 1.03), size, size * rng.uniform(0.98, 1.03))
    bend = tuple(Waves.draw(rng, rms, (120, 260)) for rms in (0.9, 1.5, 1.5))
    skull = _Skull.draw(rng)
    layers = [*_scalp(rng, skull), *_face(rng), *_skull(rng, skull), *_eyes(rng)]
    layers += [Layer(HeadTissue.DURA, skull.inner), Layer(HeadTissue.CSF, skull.inner.grown(-1.0))]
    layers += [*brain_layers(rng, Brain.draw(rng, skull.inner), lesions=lesions), *_petrous_bones(rng)]
    layers += [*_sinuses(rng, skull.inner), *_vessels(rng, skull.inner)]
    return Anatomy(tuple(layers), build, bend)


@dataclass(frozen=True)
class _Skull:
    """The surfaces between which everything else lies."""

    scalp: Shape
    outer: Shape  # the bone's outer surface
    inner: Shape  # the bone's inner surface
    diploe: Shape  # the marrow between the tables

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """A skull whose bone and scalp vary in thickness from subject to subject."""
        bone, scalp = rng.uniform(5.5, 8.0), rng.uniform(4.5, 7.5)
        vault = dome(MIDDLE, RADII).cached()
        base = _base().cached()
        inner = vault.within(base, blend_mm=8).rough(Waves.draw(rng, 0.8, (40, 90)))
        outer = vault.grown(bone).within(base.grown(3), blend_mm=12).rough(Waves.draw(rng, 0.8, (40, 90)))
        nose = Ellipsoid((0, 92, -66), (13, 16, 20))
        skin = vault.grown(bone + scalp).joined(nose, 14)
        for side in (-1, 1):
            skin = skin.joined(Ellipsoid((side * 74, 4, -52), (7, 34, 26)), 12)
        skin = skin.rough(Waves.draw(rng, 0.7, (50, 110)))
        middle = vault.grown(bone * 0.72).without(vault.grown(bone * 0.34))
        marrow = middle.within(half_space((0, 0, -48), (0, 0.3, -1)), 4).rough(Waves.draw(rng, 0.6, (14, 30)))
        return cls(skin.cached(), outer.cached(), inner.cached(), marrow)


def _base() -> Shape:
    """What lies above the base of the skull: high over the orbits, whose roofs bulge into it, and low behind them."""
    front: Shape = half_space((0, 0, -47), (0, 0, -1))
    for side in (-1, 1):
        front = front.without(Ellipsoid((side * 32, 60, -57), (24, 34, 17)), blend_mm=8)
    return front.joined(half_space((0, 22, -50), (0, 1, -0.25)), blend_mm=10)


def _scalp(rng: Generator, skull: _Skull) -> Iterator[Layer]:
    """Skin, the fat under it, and the muscles of temple and neck."""
    yield Layer(HeadTissue.SKIN, skull.scalp)
    yield Layer(HeadTissue.FAT, skull.scalp.grown(-1.8))
    yield Layer(HeadTissue.MUSCLE, skull.outer.grown(0.9).within(skull.scalp.grown(-2.5)))
    for side in (-1, 1):
        temporal = Ellipsoid((side * 70, 14, -54), (9, 26, 32), turn_deg=side * 12)
        yield Layer(HeadTissue.MUSCLE, temporal.within(skull.scalp.grown(-4.0)).rough(Waves.draw(rng, 0.6, (12, 30))))
        neck = Ellipsoid((side * 30, -88, -78), (28, 16, 26))
        yield Layer(HeadTissue.MUSCLE, neck.within(skull.scalp.grown(-5.0)))


def _face(rng: Generator) -> Iterator[Layer]:
    """What lies before and below the base of the skull: fat, the bone around the orbits, the nose and its sinuses."""
    yield Layer(HeadTissue.FAT, Ellipsoid((0, 46, -70), (52, 38, 34)))
    frame = Ellipsoid((0, 48, -62), (50, 40, 26))
    yield Layer(HeadTissue.OUTER_TABLE, frame)
    yield Layer(HeadTissue.DIPLOE, frame.grown(-2.2).rough(Waves.draw(rng, 0.8, (14, 30))))
    nose = Ellipsoid((0, 58, -64), (13, 32, 26))
    yield Layer(HeadTissue.MUCOSA, nose)
    cells = rng.uniform(0.8, 1.1)
    for side in (-1, 1):
        for y, width in ((36, 4.0), (48, 4.6), (60, 4.6), (72, 3.6)):
            radii = (width * cells, 5.2 * cells, 15)
            yield Layer(HeadTissue.GAS, Ellipsoid(near(rng, (side * 6.2, y, -60), 0.8), radii))


def _skull(rng: Generator, skull: _Skull) -> Iterator[Layer]:
    """The vault's two tables with marrow between them, the sphenoid with its sinus, and mostly a frontal sinus."""
    yield Layer(HeadTissue.OUTER_TABLE, skull.outer)
    yield Layer(HeadTissue.INNER_TABLE, skull.inner.grown(2.0).within(skull.outer))
    yield Layer(HeadTissue.DIPLOE, skull.diploe.within(skull.outer.grown(-1.5)).without(skull.inner.grown(1.5)))
    yield Layer(HeadTissue.OUTER_TABLE, Ellipsoid((0, 18, -62), (18, 18, 13)))
    yield Layer(HeadTissue.DIPLOE, Ellipsoid((0, 2, -66), (12, 12, 12)))
    yield Layer(HeadTissue.MUCOSA, Ellipsoid((0, 22, -60), (12, 12, 8.5)))
    for side in (-1, 1):
        yield Layer(HeadTissue.GAS, Ellipsoid(near(rng, (side * 5.6, 22, -60), 0.8), (4.8, 10.5, 7.5)))
    if rng.uniform() < 0.7:
        for side in (-1, 1):
            sinus = Ellipsoid(near(rng, (side * 10, 79, -34), 2), (8, 3.2, 11), turn_deg=-side * 12)
            yield Layer(HeadTissue.GAS, sinus)


def _petrous_bones(rng: Generator) -> Iterator[Layer]:
    """The bone of the ears, with marrow at its tip and air cells behind; laid over the brain that it parts."""
    for side in (-1, 1):
        ridge = Tube([(side * 66, -30, -62), (side * 40, -18, -61), (side * 14, -4, -62)], [11, 7.5, 5])
        yield Layer(HeadTissue.CSF, ridge.grown(1.5))
        yield Layer(HeadTissue.INNER_TABLE, ridge)
        yield Layer(HeadTissue.DIPLOE, Tube([(side * 34, -15, -62), (side * 17, -5, -63)], [4, 3]))
        for _ in range(8):
            yield Layer(HeadTissue.GAS, Ellipsoid(near(rng, (side * 60, -30, -62), 7), (3.2, 3.2, 3.6)))


def _eyes(rng: Generator) -> Iterator[Layer]:
    """Both orbits: fat, globe, the four straight muscles and the nerve."""
    for side in (-1, 1):
        x, y, z = near(rng, (side * 31, 68, -57), 1.0)
        apex = (side * 14.0, 26.0, -56.0)
        cone = Tube([(x, y + 4, z), (side * 24, 46, -57), apex], [19, 14, 5])
        yield Layer(HeadTissue.OUTER_TABLE, cone.grown(1.8))
        yield Layer(HeadTissue.FAT, cone)
        for dx, dz in ((11.5, 0), (-11.5, 0), (0, 11), (0, -11)):
            muscle = Tube([(x + dx, y - 4, z + dz), (x - side * 4 + dx, y - 18, z + dz), apex], [1.6, 2.8, 1.6])
            yield Layer(HeadTissue.MUSCLE, muscle)
        yield Layer(HeadTissue.OPTIC_NERVE, Tube([(x, y - 10, z), (x - side * 7, y - 24, z + 1), apex], 1.9))
        yield Layer(HeadTissue.MUSCLE, Ellipsoid((x, y, z), (12.3, 12.3, 12.3)))
        yield Layer(HeadTissue.VITREOUS, Ellipsoid((x, y, z), (11.2, 11.2, 11.2)))
        yield Layer(HeadTissue.MUSCLE, Ellipsoid((x, y + 7.5, z), (4.6, 2.0, 4.6)))


def _sinuses(rng: Generator, inside: Shape) -> Iterator[Layer]:
    """The sagittal sinus along the vault, the straight sinus, and the transverse sinuses to both sides."""
    wide = rng.uniform(0.85, 1.15)
    angles = np.deg2rad(np.linspace(20, 192, 9))
    vault = [(0.0, -8 + 81.5 * float(np.cos(a)), -20 + 64.5 * float(np.sin(a))) for a in angles]
    radii = [wide * r for r in np.linspace(1.6, 4.4, len(vault))]
    sagittal = Tube(vault, radii).within(inside.grown(1.2), blend_mm=2)
    yield Layer(HeadTissue.DURA, sagittal.grown(1.0))
    yield Layer(HeadTissue.VENOUS_SINUS, sagittal)
    yield Layer(HeadTissue.VENOUS_SINUS, Tube([(0, -42, -14), (0, -60, -22), (0, -87, -34)], [1.8, 2.2, 2.8]))
    for side, share in ((1, 1.0), (-1, rng.uniform(0.5, 1.0))):
        path = [(0, -87, -36), (side * 30, -80, -42), (side * 52, -60, -46), (side * 60, -42, -54)]
        sinus = Tube(path, wide * 3.8 * share).within(inside.grown(0.8), blend_mm=2)
        yield Layer(HeadTissue.VENOUS_SINUS, sinus)


def _vessels(rng: Generator, inside: Shape) -> Iterator[Layer]:
    """Veins and arteries, and the pituitary between the carotids."""
    # Veins that bridge to the sagittal sinus, and the deep ones in the midline.
    surface = inside.grown(-1.2)
    for side in (-1, 1):
        for y in np.linspace(-52, 46, 5):
            start = near(rng, (side * 2.0, float(y), -20 + 64 * float(np.sqrt(1 - ((y + 8) / 86) ** 2))), 2)
            middle = near(rng, (side * 18, float(y) + 6, start[2] - 3), 4)
            end = near(rng, (side * 36, float(y) + 10, start[2] - 13), 5)
            yield Layer(HeadTissue.VEIN, Tube([start, middle, end], [1.4, 1.3, 0.9]).within(surface))
        yield Layer(HeadTissue.VEIN, Tube([(side * 2, 10, -12), (side * 2, -20, -10), (0, -42, -14)], [0.8, 1.0, 1.6]))
    # Carotids in the cavernous sinuses, the basilar artery, and the anterior, middle and posterior arteries.
    yield Layer(HeadTissue.ARTERY, Tube([(0, -1, -70), (0, 1, -56), (0, -1, -46)], 1.7))
    yield Layer(HeadTissue.ARTERY, Tube([(0, 16, -42), (0, 34, -30), (0, 40, -14), (0, 22, 10)], [1.3, 1.2, 1.2, 0.9]))
    for side in (-1, 1):
        yield Layer(HeadTissue.VENOUS_SINUS, Ellipsoid((side * 11, 7, -55), (4.5, 9, 5)))
        yield Layer(HeadTissue.ARTERY, Tube([(side * 12, -4, -62), (side * 11, 10, -54), (side * 8, 8, -44)], 2.2))
        bend, end = near(rng, (side * 28, 8, -39), 1.5), near(rng, (side * 40, -4, -26), 2)
        yield Layer(HeadTissue.ARTERY, Tube([(side * 8, 8, -43), bend, (side * 38, 5, -34), end], [1.8, 1.6, 1.4, 1.0]))
        yield Layer(HeadTissue.ARTERY, Tube([(side * 8, 8, -43), (side * 1.5, 16, -42)], 1.3))
        posterior = Tube([(0, -2, -46), (side * 14, -10, -44), (side * 20, -30, -40)], [1.5, 1.3, 1.0])
        yield Layer(HeadTissue.ARTERY, posterior)
    yield Layer(HeadTissue.PITUITARY, Ellipsoid((0, 7, -55), (6, 4.5, 3.5)))
