"""The brain: a folded cortex on white matter, deep grey nuclei, ventricles, brainstem, cerebellum, and lesions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator

from medgan.phantom.anatomy import Layer
from medgan.phantom.shapes import TALL, Ellipsoid, Shape, Tube, half_space
from medgan.phantom.space import Field, Point, Space, Waves, near, point
from medgan.phantom.tissues import HeadTissue

CORTEX_MM = 2.9
CENTRE = (0.0, -8.0, -24.0)  # where the furrows of the cortex point to


class _Furrows(Shape):
    """Sheets that run from the surface of an ellipsoid towards its centre, winding like the furrows of the cortex.

    They lie where the smooth random field ``waves`` vanishes; its value over its slope is the distance to them. Its
    wavelengths are twice the furrows' spacing at the ellipsoid's surface. Close to radial: the field is taken at points
    moved outwards, so that it changes little with the depth.
    """

    radial = 0.55
    """How far points are moved outwards: 0 not at all, 1 to the surface."""

    def __init__(self, waves: Waves, centre: Point, radii: Point, half_mm: float) -> None:
        self.waves, self.centre, self.radii, self.half_mm = waves, centre, radii, half_mm

    def distance(self, at: Space) -> Field:
        """Close to exact near the sheets."""
        x, y, z = (field - middle for field, middle in zip((at.x, at.y, at.z), self.centre, strict=True))
        a, b, c = self.radii
        depth = np.maximum(np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2), 0.15) ** self.radial
        x, y, z = x / depth, y / depth, z / depth
        # The field and its gradient (per mm), both in units of its amplitude.
        value, gx, gy, gz = (np.zeros_like(x) for _ in range(4))
        for (kx, ky, kz), phase in zip(self.waves.vectors.tolist(), self.waves.phases.tolist(), strict=True):
            angle = x * kx + y * ky + z * kz + phase
            value += np.cos(angle)
            falling = np.sin(angle)
            gx += kx * falling
            gy += ky * falling
            gz += kz * falling
        slope = np.sqrt(gx * gx + gy * gy + gz * gz)
        return np.asarray(np.abs(value) / (slope + 0.02) * depth - self.half_mm)


@dataclass(frozen=True)
class Brain:
    """The surfaces of one brain."""

    inside: Shape  # what the dura holds
    hull: Shape  # the surface of the hemispheres over which the furrows are cut
    furrows: Shape  # all that parts the gyri, filled with fluid
    size: float  # of the ventricles, relative to the mean

    @classmethod
    def draw(cls, rng: Generator, inside: Shape) -> Self:
        """A brain that fills the skull more or less: with age the furrows and ventricles widen."""
        age = rng.uniform()
        hull = inside.grown(-rng.uniform(2.0, 2.6) - age).cached()
        waves = Waves.draw(rng, 1.0, (16, 26), 14)
        sheets = _Furrows(waves, CENTRE, (64, 82, 70), 0.35 + 0.6 * age)
        depth = rng.uniform(15, 19)
        shell = hull.grown(2.0).without(hull.grown(-depth).rough(Waves.draw(rng, 3.0, (18, 40), 6)))
        # The cleft between the hemispheres, down to the callosum.
        cleft = Ellipsoid((0, 0, 0), (1.1, TALL, TALL)).without(Ellipsoid((0, -10, -22), (30, 47, 33)))
        furrows = sheets.within(shell, blend_mm=1.0).joined(cleft, 1.0)
        for side in (-1, 1):
            place, radii = near(rng, (side * 54, -4, -27), 2), (34, 18, 1.3 + age)
            sylvian = Ellipsoid(place, radii, turn_deg=90 - side * 14, tilt_deg=-28)
            insula = Ellipsoid((side * 38, 2, -27), (1.2 + 0.6 * age, 21, 11), turn_deg=-side * 6)
            furrows = furrows.joined(sylvian, 2.0).joined(insula, 2.0)
        return cls(inside, hull, furrows.cached(), rng.uniform(0.75, 1.0) + 0.45 * age)

    @property
    def white(self) -> Shape:
        """What the cortex leaves of the hemispheres."""
        return self.hull.grown(-CORTEX_MM).without(self.furrows.grown(CORTEX_MM), blend_mm=1.5)


def brain_layers(rng: Generator, brain: Brain, *, lesions: bool) -> Iterator[Layer]:
    """Everything within the dura but the vessels."""
    yield Layer(HeadTissue.GREY_MATTER, brain.hull)
    yield Layer(HeadTissue.WHITE_MATTER, brain.white)
    yield Layer(HeadTissue.CSF, brain.furrows.within(brain.inside.grown(-1.0)))
    # The fold of the dura between the hemispheres.
    sheet = Ellipsoid((0, 0, 0), (0.5, TALL, TALL)).without(Ellipsoid((0, -6, -26), (40, 62, 44)))
    yield Layer(HeadTissue.DURA, sheet.within(brain.inside).within(half_space((0, 0, -40), (0, 0, -1))))
    nuclei, ventricles = list(_nuclei(rng)), list(_ventricles(rng, brain.size))
    yield from nuclei
    if lesions:
        yield from _lesions(rng, brain, ventricles, [nucleus.shape for nucleus in nuclei])
    yield from (Layer(HeadTissue.VENTRICLE, ventricle) for ventricle in ventricles)
    for side in (-1, 1):
        plexus = Ellipsoid(near(rng, (side * 22, -38, -12), 1), (2.4, 5.5, 3.5), turn_deg=side * 20)
        yield Layer(HeadTissue.CHOROID_PLEXUS, plexus.rough(Waves.draw(rng, 0.5, (5, 10))))
    yield from _hindbrain(rng, brain)


def _nuclei(rng: Generator) -> Iterator[Layer]:
    """Caudate, putamen, pallidum and thalamus on each side; the capsules are the white matter between them."""
    for side in (-1, 1):
        head, body, tail = (near(rng, p, 0.8) for p in [(side * 14, 21, -17), (side * 18, 4, -3), (side * 21, -20, -2)])
        yield Layer(HeadTissue.DEEP_GREY, Tube([head, body, tail], [6.5, 4.0, 2.2]))
        putamen = Ellipsoid(near(rng, (side * 27, 5, -24), 1), (5.0, 16, 11), turn_deg=-side * 12)
        yield Layer(HeadTissue.DEEP_GREY, putamen.rough(Waves.draw(rng, 0.5, (14, 30))))
        pallidum = Ellipsoid(near(rng, (side * 20.5, 1, -26), 0.8), (3.6, 9, 7.5), turn_deg=-side * 20)
        yield Layer(HeadTissue.PALLIDUM, pallidum)
        thalamus = Ellipsoid(near(rng, (side * 11, -14, -17), 0.8), (8.5, 15, 10), turn_deg=side * 18)
        yield Layer(HeadTissue.DEEP_GREY, thalamus)


def _ventricles(rng: Generator, size: float) -> Iterator[Shape]:
    """Both lateral ventricles with their horns, and the third between the thalami."""
    for side in (-1, 1):
        path = [(6, 27, -14), (7.5, 14, -6), (8.5, -8, 1), (13, -26, -1), (21, -40, -11), (22, -60, -16)]
        radii = [size * radius for radius in (2.4, 4.4, 4.6, 5.0, 6.0, 1.6)]
        body = Tube([near(rng, (side * x, y, z), 1.0) for x, y, z in path], radii)
        frontal = Ellipsoid((side * 9.5, 24, -12), (3.0 * size, 9, 7 * size), turn_deg=-side * 24)
        path = [(side * 22, -38, -13), (side * 31, -28, -32), (side * 29, -8, -44)]
        temporal = Tube(path, [size * radius for radius in (4, 2.8, 1.8)])
        yield body.joined(frontal, 4.0).joined(temporal, 3.0)
    yield Ellipsoid((0, -10, -24), (1.8 * size, 14, 11))


def _hindbrain(rng: Generator, brain: Brain) -> Iterator[Layer]:
    """The cisterns, brainstem and cerebellum under the tent of the dura, and the fourth ventricle between them."""
    yield Layer(HeadTissue.CSF, Ellipsoid((0, 6, -44), (13, 13, 7)))
    stem = Tube([(0, -13, -40), (0, -16, -48), (0, -19, -62), (0, -27, -82)], [12.0, 12.5, 15.0, 9.0])
    yield Layer(HeadTissue.CSF, stem.grown(2.4).within(half_space((0, -14, -46), (0, 0.8, 1)), 3))
    half = [Ellipsoid((side * 25, -55, -70), (31, 28, 26)) for side in (-1, 1)]
    cerebellum = half[0].joined(half[1], 6).joined(Ellipsoid((0, -47, -56), (15, 22, 24)), 16)
    cerebellum = cerebellum.within(brain.inside.grown(-3.0), blend_mm=4).cached()
    yield Layer(HeadTissue.DURA, cerebellum.grown(2.4).within(brain.inside))
    yield Layer(HeadTissue.CSF, cerebellum.grown(1.5).within(brain.inside.grown(-1.0)))
    yield Layer(HeadTissue.CEREBELLAR_CORTEX, cerebellum)
    folia = _Furrows(Waves.draw(rng, 1.0, (11, 16), 8), (0, -45, -60), (52, 36, 26), 0.3)
    core = cerebellum.grown(-9.0).joined(cerebellum.grown(-2.5).without(folia.grown(2.0)), 2.0)
    yield Layer(HeadTissue.CEREBELLAR_WHITE, core.rough(Waves.draw(rng, 1.0, (8, 16), 6)))
    yield Layer(HeadTissue.CSF, folia.within(cerebellum.without(cerebellum.grown(-5.0))))
    yield Layer(HeadTissue.BRAINSTEM, stem)
    peduncles = Tube([(-22, -40, -64), (0, -24, -60), (22, -40, -64)], [6, 9, 6])
    yield Layer(HeadTissue.BRAINSTEM, peduncles)
    yield Layer(HeadTissue.CSF, Ellipsoid((0, -28, -36), (9, 3, 8)))
    yield Layer(HeadTissue.VENTRICLE, Ellipsoid((0, -36, -62), (7, 4, 12)))


def _lesions(rng: Generator, brain: Brain, ventricles: list[Shape], nuclei: list[Shape]) -> Iterator[Layer]:
    """Three to ten ovoid plaques in the white matter, most beside the ventricles; about one in three enhances.

    A large one that enhances does so as a ring.
    """
    places = rng.uniform((-48, -62, -22), (48, 52, 30), (900, 1, 3))
    space = Space(places[..., 0], places[..., 1], places[..., 2], (1.0, 1.0, 1.0))
    beside = np.minimum.reduce([ventricle.distance(space) for ventricle in ventricles])
    grey = np.minimum.reduce([nucleus.distance(space) for nucleus in nuclei])
    room_mm = np.minimum.reduce([-brain.white.distance(space) + 1.0, beside, grey]).ravel()
    order = np.argsort(beside.ravel() + rng.uniform(0, 24, len(places)))
    for number in range(int(rng.integers(3, 11))):
        enhances = number == 0 or rng.uniform() < 0.25
        radius = rng.uniform(3.6, 8.0) if enhances else rng.uniform(2.6, 6.5)
        fitting = order[room_mm[order] > 0.85 * radius]
        if not fitting.size:
            continue
        place = places[fitting[0], 0]
        radii = radius * rng.uniform(0.75, 1.25, 3)
        mass = Ellipsoid(point(place), point(radii), turn_deg=rng.uniform(-60, 60))
        plaque = mass.rough(Waves.draw(rng, 0.4, (7, 16)))
        yield Layer(HeadTissue.ENHANCING_LESION if enhances else HeadTissue.LESION, plaque)
        if enhances and radius > 5.5:
            yield Layer(HeadTissue.LESION, mass.grown(-2.6))
        apart_mm = np.sqrt(((places[:, 0] - place) ** 2).sum(axis=1)) - 1.4 * radius
        room_mm = np.minimum(room_mm, apart_mm)
