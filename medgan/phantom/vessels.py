"""Aorta, vena cava, portal system and renal vessels."""

from collections.abc import Iterator

import numpy as np

from medgan.phantom.shapes import Ellipsoid, Shape, Tube
from medgan.phantom.space import near, point
from medgan.phantom.tissues import HeadTissue, Layer, Tissue
from medgan.phantom.trunk import Trunk


def vessel_layers(rng: np.random.Generator, trunk: Trunk) -> Iterator[Layer]:
    """Aorta left of and vena cava right of the midline, before the spine; portal vein and visceral branches."""
    wide = rng.uniform(0.88, 1.15)
    kink = rng.uniform(-4, 4)
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
    yield from _renal(rng)
    yield from _portal(rng)
    yield from _mesenteric(rng)


def _renal(rng: np.random.Generator) -> Iterator[Layer]:
    left = near(rng, (-38, -24, -18), 3)
    yield Layer(Tissue.RENAL_VEIN, Tube([left, (-22, 6, -14), (-6, 15, -12), (16, 2, -12)], [4.5, 4.5, 4, 5]))
    yield Layer(Tissue.RENAL_VEIN, Tube([near(rng, (40, -26, -24), 3), (30, -12, -20), (22, -4, -18)], [4.5, 5, 5]))
    yield Layer(Tissue.ARTERY, Tube([(-10, 0, -12), (-24, -12, -15), (-40, -28, -19)], [3.5, 3, 2.8]))
    yield Layer(Tissue.ARTERY, Tube([(-6, -2, -14), (18, -17, -18), (42, -30, -26)], [3.5, 3, 2.8]))


def _portal(rng: np.random.Generator) -> Iterator[Layer]:
    """Upper mesenteric vein, splenic vein behind the pancreas, and their trunk to the liver's hilum."""
    meeting = (9, 19, -4)
    yield Layer(Tissue.PORTAL_VEIN, Tube([(14, 32, -95), (12, 26, -40), meeting], [4.5, 5.5, 6.5]))
    splenic = [meeting, (-16, 18, 4), (-44, 1, 14), (-74, -20, 24)]
    yield Layer(Tissue.PORTAL_VEIN, Tube([meeting, *(near(rng, p, 2) for p in splenic[1:])], [5.5, 4.5, 4.2, 4]))
    yield Layer(Tissue.PORTAL_VEIN, Tube([meeting, (22, 18, 10), (36, 18, 22)], [7, 6.8, 6]))


def _mesenteric(rng: np.random.Generator) -> Iterator[Layer]:
    """Coeliac trunk and upper mesenteric artery with their branches."""
    yield Layer(Tissue.ARTERY, Tube([(-10, 4, 16), (-8, 16, 17), (10, 22, 16), (30, 22, 20)], [4, 3.8, 3, 2.2]))
    yield Layer(Tissue.ARTERY, Tube([(-8, 16, 17), (-30, 16, 15), (-70, -14, 26)], [3.2, 2.8, 2.2]))
    yield Layer(Tissue.ARTERY, Tube([(-9, 6, 2), (-7, 18, -8), (-4, 27, -45), (2, 33, -95)], [4, 4, 3.6, 3]))
    for tissue, root in ((Tissue.ARTERY, (-4, 28, -40)), (Tissue.PORTAL_VEIN, (12, 28, -44))):
        for _ in range(4):
            end = rng.uniform((-70, 34, -80), (60, 58, -20))
            middle = near(rng, point((np.asarray(root) + end) / 2), 6)
            yield Layer(tissue, Tube([root, middle, point(end)], [2.4, 1.8, 1.2]))


def head_vessel_layers(rng: np.random.Generator, inside: Shape) -> Iterator[Layer]:
    """All vessels; the sinuses run along the inner surface of the skull, ``inside``."""
    wide = rng.uniform(0.85, 1.15)
    yield from _sinuses(rng, inside, wide)
    yield from _veins(rng, inside)
    yield from _arteries(rng)
    yield Layer(HeadTissue.PITUITARY, Ellipsoid((0, 7, -55), (6, 4.5, 3.5)))


def _sinuses(rng: np.random.Generator, inside: Shape, wide: float) -> Iterator[Layer]:
    """The sagittal sinus along the vault, the straight sinus, and the transverse sinuses to both sides."""
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


def _veins(rng: np.random.Generator, inside: Shape) -> Iterator[Layer]:
    """Veins that bridge to the sagittal sinus, and the deep ones in the midline."""
    surface = inside.grown(-1.2)
    for side in (-1, 1):
        for y in np.linspace(-52, 46, 5):
            start = near(rng, (side * 2.0, float(y), -20 + 64 * float(np.sqrt(1 - ((y + 8) / 86) ** 2))), 2)
            middle = near(rng, (side * 18, float(y) + 6, start[2] - 3), 4)
            end = near(rng, (side * 36, float(y) + 10, start[2] - 13), 5)
            yield Layer(HeadTissue.VEIN, Tube([start, middle, end], [1.4, 1.3, 0.9]).within(surface))
        yield Layer(HeadTissue.VEIN, Tube([(side * 2, 10, -12), (side * 2, -20, -10), (0, -42, -14)], [0.8, 1.0, 1.6]))


def _arteries(rng: np.random.Generator) -> Iterator[Layer]:
    """Carotids in the cavernous sinuses, the basilar artery, and the anterior, middle and posterior arteries."""
    yield Layer(HeadTissue.ARTERY, Tube([(0, -1, -70), (0, 1, -56), (0, -1, -46)], 1.7))
    yield Layer(HeadTissue.ARTERY, Tube([(0, 16, -42), (0, 34, -30), (0, 40, -14), (0, 22, 10)], [1.3, 1.2, 1.2, 0.9]))
    for side in (-1, 1):
        cavernous = Ellipsoid((side * 11, 7, -55), (4.5, 9, 5))
        yield Layer(HeadTissue.VENOUS_SINUS, cavernous)
        yield Layer(HeadTissue.ARTERY, Tube([(side * 12, -4, -62), (side * 11, 10, -54), (side * 8, 8, -44)], 2.2))
        bend = near(rng, (side * 28, 8, -39), 1.5)
        end = near(rng, (side * 40, -4, -26), 2)
        yield Layer(HeadTissue.ARTERY, Tube([(side * 8, 8, -43), bend, (side * 38, 5, -34), end], [1.8, 1.6, 1.4, 1.0]))
        yield Layer(HeadTissue.ARTERY, Tube([(side * 8, 8, -43), (side * 1.5, 16, -42)], 1.3))
        yield Layer(
            HeadTissue.ARTERY, Tube([(0, -2, -46), (side * 14, -10, -44), (side * 20, -30, -40)], [1.5, 1.3, 1.0])
        )
