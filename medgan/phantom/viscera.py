"""The organs of an abdomen, each a smooth shape with its own size, place and surface in every subject.

Coordinates as in ``medgan.phantom.trunk``. The order of the layers is that in which they are laid over each other.
"""

from collections.abc import Iterator

import numpy as np

from medgan.phantom.shapes import Ellipsoid, HalfSpace, Shape, Tube
from medgan.phantom.space import Point, Space, Waves, near, point
from medgan.phantom.tissues import Layer, Tissue
from medgan.phantom.trunk import Trunk


def organ_layers(rng: np.random.Generator, trunk: Trunk, *, lesions: bool) -> Iterator[Layer]:
    """Every organ of the belly, the lowest first, with one to four liver lesions where ``lesions`` is set."""
    yield from _bowel(rng, trunk)
    yield from _stomach(rng, trunk)
    yield from _spleen(rng, trunk)
    liver = _liver_shape(rng, trunk)
    yield from _liver(rng, trunk, liver)
    if lesions:
        yield from _lesions(rng, liver)
    yield from _pancreas(rng, trunk)
    yield from _kidneys(rng, trunk)


def _liver_shape(rng: np.random.Generator, trunk: Trunk) -> Shape:
    """Right and left lobe under the diaphragm; the visceral side faces left, back and down."""
    size = rng.uniform(0.88, 1.08)
    right: Shape = Ellipsoid(near(rng, (70, 4, 2), 6), (70 * size, 84 * size, 78 * size))
    right = right.within(HalfSpace((14, -10, 30), (-1, -0.25, -0.62)), blend_mm=14)
    reach = rng.uniform(56, 96)
    left: Shape = Ellipsoid(near(rng, (4, 46, 40), 5), (reach, 33, 46), turn_deg=rng.uniform(-8, 4), tilt_deg=-6)
    left = left.within(HalfSpace((0, 20, 30), (0, -1, -0.25)), blend_mm=14)
    caudate = Ellipsoid((12, 12, 34), (18, 22, 24))
    liver = right.joined(left, 22).joined(caudate, 10).rough(Waves.draw(rng, 1.4, (45, 90)))
    return liver.within(trunk.belly.grown(-3.5), blend_mm=6)


def _liver(rng: np.random.Generator, trunk: Trunk, liver: Shape) -> Iterator[Layer]:
    """The liver with its hepatic and portal veins, and the gallbladder in its fossa."""
    yield from trunk.padded(Layer(Tissue.LIVER, liver), 1.8)
    fissure = Tube([near(rng, p, 5) for p in [(4, 62, 6), (6, 40, 20), (14, 24, 24)]], [3.5, 2, 1.5])
    yield Layer(Tissue.VISCERAL_FAT, fissure)
    inside = liver.grown(-4.0)
    for end in [(96, -20, 34), (60, 50, 40), (-14, 48, 48)]:
        ex, ey, ez = near(rng, end, 8)
        vein = Tube([(23, -2, 78), ((23 + ex) / 2, (ey - 2) / 2 + 3, 66), (ex, ey, ez)], [5.5, 4.5, 2])
        yield Layer(Tissue.HEPATIC_VEIN, vein.within(inside))
    hilum = (36, 18, 22)
    branches = [[(70, 4, 24), (98, -16, 10)], [(66, 24, 20), (92, 40, 0)], [(12, 34, 32), (-20, 48, 34)]]
    for middle, end in branches:
        branch = Tube([hilum, near(rng, middle, 5), near(rng, end, 8)], [5, 4, 1.8])
        yield Layer(Tissue.PORTAL_VEIN, branch.within(inside))
    if rng.uniform() < 0.85:
        fill = rng.uniform(0.8, 1.2)
        bladder = Ellipsoid(near(rng, (50, 34, -14), 7), (13 * fill, 24 * fill, 19 * fill), turn_deg=20, tilt_deg=15)
        yield from trunk.padded(Layer(Tissue.GALLBLADDER, bladder), 1.2)


def _lesions(rng: np.random.Generator, liver: Shape) -> Iterator[Layer]:
    """One to four round masses, each wholly in the liver and apart from the others; a subject's are of one kind."""
    tissue = Tissue.HYPER_LESION if rng.uniform() < 0.4 else Tissue.HYPO_LESION
    masses = int(rng.integers(1, 5))
    places = rng.uniform((-40, -60, -40), (110, 70, 60), (400, 1, 3))
    room_mm = -liver.distance(Space(places[..., 0], places[..., 1], places[..., 2], (1.0, 1.0, 1.0))).ravel()
    for _ in range(masses):
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


def _spleen(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """A crescent against the left posterior ribs, hollow towards stomach and kidney."""
    size = rng.uniform(0.85, 1.12)
    spleen: Shape = Ellipsoid(
        near(rng, (-90, -30, 26), 7), (50 * size, 60 * size, 56 * size), turn_deg=-18, tilt_deg=18
    )
    hollow = Ellipsoid((-50, 6, 20), (36, 48, 90), turn_deg=-22)
    spleen = spleen.within(trunk.belly.grown(-3.5), 5).without(hollow, 10).rough(Waves.draw(rng, 1.0, (35, 70)))
    yield from trunk.padded(Layer(Tissue.SPLEEN, spleen), 2.0)


def _stomach(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Fundus at the back, body, antrum across the midline; food and fluid under a level of gas."""
    full = rng.uniform(0.75, 1.1)
    path = [(-54, -8, 78), (-60, 8, 52), (-60, 34, 24), (-34, 50, 2), (4, 46, -10), (27, 33, -6)]
    stomach = Tube([near(rng, p, 7) for p in path], [26 * full, 33 * full, 29 * full, 23 * full, 16, 9])
    yield from _hollow(
        rng, trunk, Tissue.STOMACH_WALL, stomach, wall_mm=4.0, level=rng.uniform(0.15, 0.7), rough_mm=1.6
    )


def _bowel(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Small-bowel loops, duodenum and the colon's frame around them."""
    for place in np.linspace(-88, 48, 18):
        start = rng.uniform((place - 5, 6, -92), (place + 5, 62, -12))
        steps = np.cumsum(rng.uniform(-1, 1, (4, 3)) * (34, 20, 18), axis=0)
        loop = Tube([point(start), *(point(start + step) for step in steps)], rng.uniform(9.5, 14.0))
        level = rng.uniform(-0.2, 0.5) if rng.uniform() < 0.2 else 2.0
        yield from _hollow(rng, trunk, Tissue.BOWEL_WALL, loop, wall_mm=2.5, level=level, rough_mm=1.0)
    duodenum = [(27, 33, -8), (46, 24, -14), (48, 4, -34), (36, 0, -52), (6, 6, -56), (-26, 12, -46)]
    tube = Tube([near(rng, p, 3) for p in duodenum], [10, 12, 12, 11, 10, 10])
    yield from _hollow(rng, trunk, Tissue.BOWEL_WALL, tube, wall_mm=2.5, level=rng.uniform(0, 2), rough_mm=1.0)
    colon = [
        [(94, -12, -100), (95, -6, -62), (90, 12, -40), (70, 42, -34)],
        [(70, 42, -34), (40, 62, -46), (-10, 68, -52), (-60, 60, -34), (-88, 36, -6)],
        [(-88, 36, -6), (-102, 4, 4), (-104, -18, -22), (-100, -24, -62), (-98, -22, -100)],
    ]
    for stretch, width, level in zip(colon, (23, 20, 16), rng.uniform((0.0, -0.5, 0.1), (0.8, 0.4, 1.6)), strict=True):
        tube = Tube(
            [stretch[0], *(near(rng, p, 7) for p in stretch[1:-1]), stretch[-1]], width * rng.uniform(0.85, 1.1)
        )
        yield from _hollow(rng, trunk, Tissue.BOWEL_WALL, tube, wall_mm=2.0, level=level, rough_mm=2.4)


def _pancreas(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Head in the duodenum's arc, neck before the portal confluence, tail towards the spleen."""
    path = [(32, 10, -36), (28, 14, -22), (10, 27, -6), (-18, 28, 4), (-46, 10, 14), (-72, -14, 24)]
    pancreas = Tube([near(rng, p, 3) for p in path], [10, 13, 9, 9, 9.5, 9]).rough(Waves.draw(rng, 1.3, (12, 24)))
    yield from trunk.padded(Layer(Tissue.PANCREAS, pancreas), 1.5)


def _kidneys(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Both kidneys in their fat: cortex, pyramids, sinus and pelvis; the hilum looks inwards and to the front."""
    for side, place in ((1, (58, -40, -26)), (-1, (-57, -38, -16))):
        (x, y, z), size, turn = near(rng, place, 6), rng.uniform(0.9, 1.1), rng.uniform(28, 48)
        inwards, forwards = -side * np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))

        def part(mm: float, radii: Point, dz: float = 0.0, tilt: float = 0.0) -> Ellipsoid:
            """A part of the kidney, so far from its middle towards the hilum."""
            centre = (x + mm * inwards, y + mm * forwards, z + dz)  # noqa: B023
            return Ellipsoid(centre, radii, turn_deg=-side * turn, tilt_deg=tilt)  # noqa: B023

        kidney: Shape = part(0, (26 * size, 31 * size, 55 * size), tilt=-side * 8)
        kidney = kidney.without(part(21, (20, 8, 17)), 8).rough(Waves.draw(rng, 0.7, (25, 60)))
        sinus = part(9, (13 * size, 9 * size, 28 * size))
        pyramids = kidney.grown(-9.5).rough(Waves.draw(rng, 2.6, (14, 20))).without(sinus.grown(1.5))
        yield from trunk.padded(Layer(Tissue.KIDNEY_CORTEX, kidney), rng.uniform(3, 9))
        yield Layer(Tissue.KIDNEY_MEDULLA, pyramids)
        yield Layer(Tissue.VISCERAL_FAT, sinus.rough(Waves.draw(rng, 1.5, (12, 20))))
        yield Layer(Tissue.URINE, part(13, (9, 3.5, 11), dz=-4))


def _hollow(
    rng: np.random.Generator,
    trunk: Trunk,
    wall: Tissue,
    tube: Tube,
    *,
    wall_mm: float,
    level: float,
    rough_mm: float,
) -> Iterator[Layer]:
    """A wall, what it holds, and gas in front, where it rises in a patient who lies on the back.

    ``level`` is the height of the gas level over the tube's axis, in radii; above 1 there is no gas. Folds are
    ``rough_mm`` deep.
    """
    outer = tube.rough(Waves.draw(rng, rough_mm, (22, 45))).within(trunk.belly.grown(-3.0), 4)
    inner = outer.grown(-wall_mm)
    yield from trunk.padded(Layer(wall, outer), 1.6)
    yield Layer(Tissue.CONTENT, inner, rng.uniform(-10, 14))
    if level < 1:
        yield Layer(Tissue.GAS, inner.within(tube.front(level)))
