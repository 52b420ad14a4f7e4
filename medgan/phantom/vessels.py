"""Aorta, vena cava, portal system and renal vessels."""

from collections.abc import Iterator

import numpy as np

from medgan.phantom.shapes import Tube
from medgan.phantom.space import near, point
from medgan.phantom.tissues import Layer, Tissue
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
