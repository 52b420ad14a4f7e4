"""The trunk of an abdomen: skin, fat, muscle wall, diaphragm, lung bases, spine and ribs.

Coordinates are those of a subject of average build, in mm: the origin lies in mid-body, at about the first lumbar
vertebra.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from medgan.phantom.shapes import TALL, Dome, Ellipsoid, HalfSpace, Shape, Slab, Tube
from medgan.phantom.space import Field, Space
from medgan.phantom.tissues import Layer, Tissue

VERTEBRA_STEP_MM = 33.0
SPINE_Y = -29.0


@dataclass(frozen=True)
class Trunk:
    """The surfaces between which everything else lies."""

    skin: Shape
    muscle: Shape
    """The muscle wall's outer surface."""
    cavity: Shape
    """The muscle wall's inner surface."""
    belly: Shape
    """The part of the cavity below the diaphragm."""
    spine_z: float
    """Middle of the first lumbar vertebra."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """A trunk whose fat, girth and diaphragm vary from subject to subject."""
        side, front, back = rng.uniform(7, 24), rng.uniform(6, 24), rng.uniform(7, 16)
        cavity: Shape = Ellipsoid((0, 0, -15), (126, 86, 420), square=0.2)
        cavity = cavity.without(Ellipsoid((0, -88, 0), (66, 22, TALL)), blend_mm=12)
        muscle = Ellipsoid((0, -3, -15), (139, 99, 480), square=0.22)
        skin: Shape = Ellipsoid(
            (0, -3 + (front - back) / 2, -15), (139 + side, 99 + (front + back) / 2, 700), square=0.2
        )
        skin = skin.without(Ellipsoid((0, -102 - back - 9, 0), (16, 14, TALL)), blend_mm=16)
        top = rng.uniform(68, 88)
        right = Dome((58, 10, top - 92), (78, 98, 92))
        left = Dome((-60, 10, top - 100), (76, 96, 92))
        middle = Dome((0, 18, top - 90), (44, 92, 105))
        domes = right.joined(left, 30).joined(middle, 30)
        return cls(skin, muscle, cavity, cavity.within(domes), rng.uniform(-14, 14))

    def padded(self, layer: Layer, fat_mm: float) -> Iterator[Layer]:
        """An organ in a coat of fat, which parts it from what it is laid over."""
        yield Layer(Tissue.VISCERAL_FAT, layer.shape.grown(fat_mm).within(self.belly.grown(-1.0)))
        yield layer


def trunk_layers(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Skin, fat, muscle wall, lungs and the fat in which the organs will lie, outermost first."""
    yield Layer(Tissue.SKIN, trunk.skin)
    yield Layer(Tissue.SUBCUTANEOUS_FAT, trunk.skin.grown(-2.0))
    yield Layer(Tissue.MUSCLE, trunk.muscle)
    yield from _fat_planes(trunk)
    yield Layer(Tissue.VISCERAL_FAT, trunk.cavity)
    yield Layer(Tissue.MUSCLE, trunk.cavity.without(trunk.belly.grown(-2.5)))
    yield Layer(Tissue.LUNG, trunk.cavity.without(trunk.belly, blend_mm=3).grown(-0.8), rng.uniform(-25, 25))


def crus_layers() -> Iterator[Layer]:
    """The legs of the diaphragm, to the left and right of the aorta."""
    for side in (-1, 1):
        path = [(side * 13, -10, -30), (side * 17, -8, 20), (side * 20, 2, 60), (side * 10, 30, 95)]
        yield Layer(Tissue.MUSCLE, Tube(path, [3, 5, 5, 4]))


def bone_layers(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """The muscles along the spine, then discs, vertebrae, the canal and the ribs: laid over the organs' fat."""
    yield from _back_muscles(rng)
    column = Ellipsoid((0, SPINE_Y, 0), (22, 16.5, TALL))
    yield Layer(Tissue.DISC, column)
    for level in range(-3, 4):
        bone = _vertebra(trunk.spine_z + level * VERTEBRA_STEP_MM)
        yield Layer(Tissue.CORTICAL_BONE, bone)
        yield Layer(Tissue.TRABECULAR_BONE, bone.grown(-1.2))
    yield Layer(Tissue.VISCERAL_FAT, Ellipsoid((0, -54.5, 0), (11, 8.5, TALL)))
    yield Layer(Tissue.SPINAL_CANAL, Ellipsoid((0, -53.8, 0), (9, 7.2, TALL)))
    # The ribs and, before their ends, the cartilage of the costal arch.
    yield Layer(Tissue.CARTILAGE, _Ribs(trunk, bone=False))
    ribs = _Ribs(trunk, bone=True)
    yield Layer(Tissue.RIB, ribs)
    yield Layer(Tissue.RIB, ribs.grown(-1.5), -420.0, filling=Tissue.TRABECULAR_BONE)


class _Ribs(Shape):
    """All ribs at once: bars that run along the cavity's wall and fall from the spine towards the front."""

    def __init__(self, trunk: Trunk, *, bone: bool) -> None:
        self.cavity, self.bone = trunk.cavity, bone
        self.head_z = trunk.spine_z + VERTEBRA_STEP_MM + 4
        self.low, self.high = trunk.muscle.low, trunk.muscle.high

    def distance(self, at: Space) -> Field:
        """Distance to the nearest rib; a rib is 8 mm thick and 14 mm high, and the lower it is, the earlier it ends."""
        fall = 0.62 * (at.y + 80) + 0.4 * (np.abs(at.x) - 35)
        rank = np.clip(np.round((at.z + fall - self.head_z) / 31.0), 0, 8)
        beside = self.cavity.distance(at) - 5.0
        above = (at.z + fall - self.head_z - 31.0 * rank) * 0.81
        bar = (np.sqrt((beside / 4.0) ** 2 + (above / 7.0) ** 2 + 1e-12) - 1.0) * 4.5
        end_y = np.minimum(-38.0 + 48.0 * rank, 52.0)
        if self.bone:
            return np.maximum(np.maximum(bar, (at.y - end_y) * 0.8), 33.0 - np.abs(at.x))
        arch = np.maximum(end_y - at.y, np.abs(at.x) - 110.0)
        return np.maximum(np.maximum(bar, arch), np.where(rank < 2, 99.0, 26.0 - np.abs(at.x)))


def _fat_planes(trunk: Trunk) -> Iterator[Layer]:
    """Fat between the three muscles of the flank, and between the two straight muscles in front."""
    flank = HalfSpace((0, 66, 0), (0, 1, 0))
    for depth in (4.2, 8.6):
        sheet = trunk.cavity.grown(depth + 0.45).without(trunk.cavity.grown(depth - 0.45))
        yield Layer(Tissue.SUBCUTANEOUS_FAT, sheet.within(flank))
    yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((0, 95, 0), (3.5, 8, TALL)))
    for side in (-1, 1):
        yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((side * 70, 81, 0), (1.6, 6, TALL), turn_deg=side * 20))


def _back_muscles(rng: np.random.Generator) -> Iterator[Layer]:
    """Psoas, quadratus lumborum and the erectors of the spine, on each side."""
    bulk = rng.uniform(0.85, 1.15)
    for side in (-1, 1):
        erector = Ellipsoid((side * 33, -81, 0), (30, 16 * bulk, TALL), turn_deg=side * 8, square=0.3)
        yield Layer(Tissue.SUBCUTANEOUS_FAT, erector.grown(1.6))
        yield Layer(Tissue.MUSCLE, erector.grown(-0.4))
        lateral = Ellipsoid((side * 30, -81, 0), (0.7, 14, TALL), turn_deg=side * 18)
        yield Layer(Tissue.SUBCUTANEOUS_FAT, lateral)
        psoas = Tube(
            [(side * 24, -38, 40), (side * 29, -36, 0), (side * 38, -32, -40), (side * 46, -24, -95)],
            [3, 9 * bulk, 15 * bulk, 20 * bulk],
        )
        quadratus = Tube(
            [(side * 48, -60, 40), (side * 58, -58, -20), (side * 66, -54, -95)], [6, 10 * bulk, 12 * bulk]
        )
        yield Layer(Tissue.VISCERAL_FAT, psoas.grown(1.5))
        yield Layer(Tissue.MUSCLE, psoas)
        yield Layer(Tissue.MUSCLE, quadratus)
    yield Layer(Tissue.SUBCUTANEOUS_FAT, Ellipsoid((0, -92, 0), (2.5, 14, TALL)))


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


def _drum(centre: tuple[float, float, float], radii: tuple[float, float], half_height: float) -> Shape:
    """An upright cylinder with rounded rims."""
    slab = Slab(centre[2] - half_height, centre[2] + half_height)
    return Ellipsoid(centre, (*radii, TALL)).within(slab, blend_mm=4)
