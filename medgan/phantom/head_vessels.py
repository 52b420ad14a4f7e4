"""Sinuses, veins and arteries of the head, and the pituitary gland, which fills with blood as they do."""

from collections.abc import Iterator

import numpy as np

from medgan.phantom.shapes import Ellipsoid, Shape, Tube
from medgan.phantom.space import near
from medgan.phantom.tissues import HeadTissue, Layer


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
