"""A subject's abdomen: trunk, organs, vessels and bones, each with its own size, place and surface in every subject.

Coordinates are those of a subject of average build, in mm: the origin lies in mid-body, at about the first lumbar
vertebra. Every part gives its layers in the order in which they are laid over each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator

from medgan.phantom.anatomy import Anatomy, Layer
from medgan.phantom.shapes import TALL, Ellipsoid, Shape, Tube, dome, half_space, slab
from medgan.phantom.space import Field, Point, Space, Waves, near, point
from medgan.phantom.tissues import Tissue

VERTEBRA_STEP_MM = 33.0
SPINE_Y = -29.0


def draw_abdomen(rng: Generator, *, lesions: bool) -> Anatomy:
    """A random abdomen, with one to four liver lesions where ``lesions`` is set; layers from the skin to the ribs."""
    girth = rng.uniform(0.92, 1.06)
    build = (girth, girth * rng.uniform(1.0, 1.13), float(rng.uniform(0.94, 1.06)))
    bend = tuple(Waves.draw(rng, rms, (110, 260)) for rms in (1.8, 2.4, 2.4))
    trunk = _Trunk.draw(rng)
    layers = [*_wall(rng, trunk), *_bowel(rng, trunk), *_stomach(rng, trunk), *_spleen(rng, trunk)]
    layers += [*_liver(rng, trunk, lesions), *_pancreas(rng, trunk), *_kidneys(rng, trunk), *_crura()]
    layers += [*_vessels(rng, trunk), *_back(rng), *_bones(trunk)]
    return Anatomy(tuple(layers), build, bend)


@dataclass(frozen=True)
class _Trunk:
    """The surfaces between which everything else lies."""

    skin: Shape
    muscle: Shape  # the muscle wall's outer surface
    cavity: Shape  # the muscle wall's inner surface
    belly: Shape  # the part of the cavity below the diaphragm
    spine_z: float  # middle of the first lumbar vertebra

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """A trunk whose fat, girth and diaphragm vary from subject to subject."""
        side, front, back = rng.uniform(7, 24), rng.uniform(6, 24), rng.uniform(7, 16)
        spine = Ellipsoid((0, -88, 0), (66, 22, TALL))
        cavity = Ellipsoid((0, 0, -15), (126, 86, 420), square=0.2).without(spine, blend_mm=12)
        muscle = Ellipsoid((0, -3, -15), (139, 99, 480), square=0.22)
        middle, radii = (0, -3 + (front - back) / 2, -15), (139 + side, 99 + (front + back) / 2, 700)
        furrow = Ellipsoid((0, -102 - back - 9, 0), (16, 14, TALL))
        skin = Ellipsoid(middle, radii, square=0.2).without(furrow, blend_mm=16)
        top = rng.uniform(68, 88)
        right, left = dome((58, 10, top - 92), (78, 98, 92)), dome((-60, 10, top - 100), (76, 96, 92))
        domes = right.joined(left, 30).joined(dome((0, 18, top - 90), (44, 92, 105)), 30)
        return cls(skin, muscle, cavity, cavity.within(domes), rng.uniform(-14, 14))

    def padded(self, layer: Layer, fat_mm: float) -> Iterator[Layer]:
        """An organ in a coat of fat, which parts it from what it is laid over."""
        yield Layer(Tissue.VISCERAL_FAT, layer.shape.grown(fat_mm).within(self.belly.grown(-1.0)))
        yield layer


def _wall(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
    """Skin, fat, muscles, lungs and the fat in which the organs will lie, outermost first."""
    yield Layer(Tissue.SKIN, trunk.skin)
    yield Layer(Tissue.SUBCUTANEOUS_FAT, trunk.skin.grown(-2.0))
    yield Layer(Tissue.MUSCLE, trunk.muscle)
    # Fat between the three muscles of the flank, and between the two straight muscles in front.
    flank = half_space((0, 66, 0), (0, 1, 0))
    for depth in (4.2, 8.6):
        sheet = trunk.cavity.grown(depth + 0.45).without(trunk.cavity.grown(depth - 0.45))
        yield Layer(Tissue.SUBCUTANEOUS_FAT, sheet.within(flank))
    yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((0, 95, 0), (3.5, 8, TALL)))
    for side in (-1, 1):
        yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((side * 70, 81, 0), (1.6, 6, TALL), turn_deg=side * 20))
    yield Layer(Tissue.VISCERAL_FAT, trunk.cavity)
    yield Layer(Tissue.MUSCLE, trunk.cavity.without(trunk.belly.grown(-2.5)))
    yield Layer(Tissue.LUNG, trunk.cavity.without(trunk.belly, blend_mm=3).grown(-0.8), rng.uniform(-25, 25))


def _bowel(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
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
        path = [stretch[0], *(near(rng, p, 7) for p in stretch[1:-1]), stretch[-1]]
        tube = Tube(path, width * rng.uniform(0.85, 1.1))
        yield from _hollow(rng, trunk, Tissue.BOWEL_WALL, tube, wall_mm=2.0, level=level, rough_mm=2.4)


def _stomach(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
    """Fundus at the back, body, antrum across the midline; food and fluid under a level of gas."""
    full = rng.uniform(0.75, 1.1)
    path = [(-54, -8, 78), (-60, 8, 52), (-60, 34, 24), (-34, 50, 2), (4, 46, -10), (27, 33, -6)]
    stomach = Tube([near(rng, p, 7) for p in path], [26 * full, 33 * full, 29 * full, 23 * full, 16, 9])
    level = rng.uniform(0.15, 0.7)
    yield from _hollow(rng, trunk, Tissue.STOMACH_WALL, stomach, wall_mm=4.0, level=level, rough_mm=1.6)


def _hollow(
    rng: Generator, trunk: _Trunk, wall: Tissue, tube: Tube, *, wall_mm: float, level: float, rough_mm: float
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


def _spleen(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
    """A crescent against the left posterior ribs, hollow towards stomach and kidney."""
    size = rng.uniform(0.85, 1.12)
    middle = near(rng, (-90, -30, 26), 7)
    spleen = Ellipsoid(middle, (50 * size, 60 * size, 56 * size), turn_deg=-18, tilt_deg=18)
    hollow = Ellipsoid((-50, 6, 20), (36, 48, 90), turn_deg=-22)
    crescent = spleen.within(trunk.belly.grown(-3.5), 5).without(hollow, 10).rough(Waves.draw(rng, 1.0, (35, 70)))
    yield from trunk.padded(Layer(Tissue.SPLEEN, crescent), 2.0)


def _liver_shape(rng: Generator, trunk: _Trunk) -> Shape:
    """Right and left lobe under the diaphragm; the visceral side faces left, back and down."""
    size = rng.uniform(0.88, 1.08)
    lobe = Ellipsoid(near(rng, (70, 4, 2), 6), (70 * size, 84 * size, 78 * size))
    right = lobe.within(half_space((14, -10, 30), (-1, -0.25, -0.62)), blend_mm=14)
    reach = rng.uniform(56, 96)
    lobe = Ellipsoid(near(rng, (4, 46, 40), 5), (reach, 33, 46), turn_deg=rng.uniform(-8, 4), tilt_deg=-6)
    left = lobe.within(half_space((0, 20, 30), (0, -1, -0.25)), blend_mm=14)
    caudate = Ellipsoid((12, 12, 34), (18, 22, 24))
    liver = right.joined(left, 22).joined(caudate, 10).rough(Waves.draw(rng, 1.4, (45, 90)))
    return liver.within(trunk.belly.grown(-3.5), blend_mm=6)


def _liver(rng: Generator, trunk: _Trunk, lesions: bool) -> Iterator[Layer]:
    """The liver with its hepatic and portal veins, the gallbladder in its fossa, and lesions where they are asked."""
    liver = _liver_shape(rng, trunk)
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
    if lesions:
        yield from _lesions(rng, liver)


def _lesions(rng: Generator, liver: Shape) -> Iterator[Layer]:
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


def _pancreas(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
    """Head in the duodenum's arc, neck before the portal confluence, tail towards the spleen."""
    path = [(32, 10, -36), (28, 14, -22), (10, 27, -6), (-18, 28, 4), (-46, 10, 14), (-72, -14, 24)]
    pancreas = Tube([near(rng, p, 3) for p in path], [10, 13, 9, 9, 9.5, 9]).rough(Waves.draw(rng, 1.3, (12, 24)))
    yield from trunk.padded(Layer(Tissue.PANCREAS, pancreas), 1.5)


def _kidneys(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
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


def _crura() -> Iterator[Layer]:
    """The legs of the diaphragm, to the left and right of the aorta."""
    for side in (-1, 1):
        path = [(side * 13, -10, -30), (side * 17, -8, 20), (side * 20, 2, 60), (side * 10, 30, 95)]
        yield Layer(Tissue.MUSCLE, Tube(path, [3, 5, 5, 4]))


def _vessels(rng: Generator, trunk: _Trunk) -> Iterator[Layer]:
    """Aorta left of and vena cava right of the midline, before the spine; portal vein and visceral branches."""
    wide, kink = rng.uniform(0.88, 1.15), rng.uniform(-4, 4)
    cava = Tube(
        [(21, -4, -105), (20 + kink / 2, -3, -40), (22, -4, 10), (25, -8, 45), (23, -2, 78), (20, 6, 100)],
        [10.5 * wide, 11 * wide, 11.5 * wide, 12.5, 12.5, 12],
    )
    aorta = Tube(
        [(-4, 0, -105), (-8 + kink, 1, -40), (-9 + kink, 0, 0), (-12, -3, 40), (-16, -8, 100)],
        [8.5 * wide, 9 * wide, 9.8 * wide, 11 * wide, 12 * wide],
    )
    yield from trunk.padded(Layer(Tissue.VENA_CAVA, cava), 0.8)
    yield from trunk.padded(Layer(Tissue.AORTA, aorta), 2.0)
    # Renal veins and arteries.
    left = near(rng, (-38, -24, -18), 3)
    yield Layer(Tissue.RENAL_VEIN, Tube([left, (-22, 6, -14), (-6, 15, -12), (16, 2, -12)], [4.5, 4.5, 4, 5]))
    yield Layer(Tissue.RENAL_VEIN, Tube([near(rng, (40, -26, -24), 3), (30, -12, -20), (22, -4, -18)], [4.5, 5, 5]))
    yield Layer(Tissue.ARTERY, Tube([(-10, 0, -12), (-24, -12, -15), (-40, -28, -19)], [3.5, 3, 2.8]))
    yield Layer(Tissue.ARTERY, Tube([(-6, -2, -14), (18, -17, -18), (42, -30, -26)], [3.5, 3, 2.8]))
    # Upper mesenteric vein, splenic vein behind the pancreas, and their trunk to the liver's hilum.
    meeting = (9, 19, -4)
    yield Layer(Tissue.PORTAL_VEIN, Tube([(14, 32, -95), (12, 26, -40), meeting], [4.5, 5.5, 6.5]))
    splenic = [meeting, (-16, 18, 4), (-44, 1, 14), (-74, -20, 24)]
    yield Layer(Tissue.PORTAL_VEIN, Tube([meeting, *(near(rng, p, 2) for p in splenic[1:])], [5.5, 4.5, 4.2, 4]))
    yield Layer(Tissue.PORTAL_VEIN, Tube([meeting, (22, 18, 10), (36, 18, 22)], [7, 6.8, 6]))
    # Coeliac trunk and upper mesenteric artery with their branches.
    yield Layer(Tissue.ARTERY, Tube([(-10, 4, 16), (-8, 16, 17), (10, 22, 16), (30, 22, 20)], [4, 3.8, 3, 2.2]))
    yield Layer(Tissue.ARTERY, Tube([(-8, 16, 17), (-30, 16, 15), (-70, -14, 26)], [3.2, 2.8, 2.2]))
    yield Layer(Tissue.ARTERY, Tube([(-9, 6, 2), (-7, 18, -8), (-4, 27, -45), (2, 33, -95)], [4, 4, 3.6, 3]))
    for tissue, root in ((Tissue.ARTERY, (-4, 28, -40)), (Tissue.PORTAL_VEIN, (12, 28, -44))):
        for _ in range(4):
            end = rng.uniform((-70, 34, -80), (60, 58, -20))
            middle = near(rng, point((np.asarray(root) + end) / 2), 6)
            yield Layer(tissue, Tube([root, middle, point(end)], [2.4, 1.8, 1.2]))


def _back(rng: Generator) -> Iterator[Layer]:
    """Psoas, quadratus lumborum and the erectors of the spine, on each side."""
    bulk = rng.uniform(0.85, 1.15)
    for side in (-1, 1):
        erector = Ellipsoid((side * 33, -81, 0), (30, 16 * bulk, TALL), turn_deg=side * 8, square=0.3)
        yield Layer(Tissue.SUBCUTANEOUS_FAT, erector.grown(1.6))
        yield Layer(Tissue.MUSCLE, erector.grown(-0.4))
        lateral = Ellipsoid((side * 30, -81, 0), (0.7, 14, TALL), turn_deg=side * 18)
        yield Layer(Tissue.SUBCUTANEOUS_FAT, lateral)
        path = [(side * 24, -38, 40), (side * 29, -36, 0), (side * 38, -32, -40), (side * 46, -24, -95)]
        psoas = Tube(path, [3, 9 * bulk, 15 * bulk, 20 * bulk])
        path = [(side * 48, -60, 40), (side * 58, -58, -20), (side * 66, -54, -95)]
        quadratus = Tube(path, [6, 10 * bulk, 12 * bulk])
        yield Layer(Tissue.VISCERAL_FAT, psoas.grown(1.5))
        yield Layer(Tissue.MUSCLE, psoas)
        yield Layer(Tissue.MUSCLE, quadratus)
    yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((0, -92, 0), (2.5, 14, TALL)))


def _bones(trunk: _Trunk) -> Iterator[Layer]:
    """Discs, vertebrae, the canal and the ribs: laid over the organs' fat."""
    column = Ellipsoid((0, SPINE_Y, 0), (22, 16.5, TALL))
    yield Layer(Tissue.DISC, column)
    for level in range(-3, 4):
        bone = _vertebra(trunk.spine_z + level * VERTEBRA_STEP_MM)
        yield Layer(Tissue.CORTICAL_BONE, bone)
        yield Layer(Tissue.TRABECULAR_BONE, bone.grown(-1.2))
    yield Layer(Tissue.VISCERAL_FAT, Ellipsoid((0, -54.5, 0), (11, 8.5, TALL)))
    yield Layer(Tissue.SPINAL_CANAL, Ellipsoid((0, -53.8, 0), (9, 7.2, TALL)))
    ribs = _ribs(trunk, bone=True)
    yield Layer(Tissue.CARTILAGE, _ribs(trunk, bone=False))
    yield Layer(Tissue.RIB, ribs)
    yield Layer(Tissue.RIB, ribs.grown(-1.5), -420.0, filling=Tissue.TRABECULAR_BONE)


def _vertebra(z: float) -> Shape:
    """One vertebra: body, arch around the canal, and its processes."""
    body = _drum((0, SPINE_Y, z), (23.5, 17.5), 12.8)
    arch = _drum((0, -55, z + 2), (17.5, 14.5), 9.5).without(_drum((0, -54.5, z), (11.5, 9), 60), blend_mm=1)
    spinous = Ellipsoid((0, -79, z - 6), (3.6, 17, 9.5))
    bone = body.without(_drum((0, -54.5, z), (11, 8.5), 60), blend_mm=3).joined(arch, 4).joined(spinous, 5)
    for side in (-1, 1):
        transverse = Tube([(side * 14, -54, z + 4), (side * 28, -58, z + 4), (side * 40, -64, z + 3)], [5, 4, 3.4])
        facet = Ellipsoid((side * 17, -60, z - 13), (6.5, 5.5, 10))
        bone = bone.joined(transverse, 3).joined(facet, 4)
    return bone


def _drum(centre: Point, radii: tuple[float, float], half_height: float) -> Shape:
    """An upright cylinder with rounded rims."""
    ends = slab(centre[2] - half_height, centre[2] + half_height)
    return Ellipsoid(centre, (*radii, TALL)).within(ends, blend_mm=4)


def _ribs(trunk: _Trunk, *, bone: bool) -> Shape:
    """All ribs at once, or their cartilage: bars along the cavity's wall that fall from the spine towards the front.

    A rib is 8 mm thick and 14 mm high, and the lower it is, the earlier it ends.
    """
    head_z = trunk.spine_z + VERTEBRA_STEP_MM + 4

    def distance(at: Space) -> Field:
        fall = 0.62 * (at.y + 80) + 0.4 * (np.abs(at.x) - 35)
        rank = np.clip(np.round((at.z + fall - head_z) / 31.0), 0, 8)
        beside = trunk.cavity.distance(at) - 5.0
        above = (at.z + fall - head_z - 31.0 * rank) * 0.81
        bar = (np.sqrt((beside / 4.0) ** 2 + (above / 7.0) ** 2 + 1e-12) - 1.0) * 4.5
        end_y = np.minimum(-38.0 + 48.0 * rank, 52.0)
        if bone:
            return np.maximum(np.maximum(bar, (at.y - end_y) * 0.8), 33.0 - np.abs(at.x))
        arch = np.maximum(end_y - at.y, np.abs(at.x) - 110.0)
        return np.maximum(np.maximum(bar, arch), np.where(rank < 2, 99.0, 26.0 - np.abs(at.x)))

    return Shape(trunk.muscle.low, trunk.muscle.high, distance)
