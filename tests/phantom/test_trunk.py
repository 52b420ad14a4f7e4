import numpy as np
import pytest

from medgan.phantom.space import Space
from medgan.phantom.tissues import Layer, Tissue
from medgan.phantom.trunk import Trunk, bone_layers, trunk_layers

SPACE = Space.regular((73, 61, 13), (5.0, 5.0, 10.0))


def inside(shape):
    return shape.distance(SPACE) < 0


@pytest.fixture(params=range(4))
def trunk(request):
    return Trunk.draw(np.random.default_rng(request.param))


def test_the_surfaces_lie_within_each_other_and_the_body_fits_the_field_of_view(trunk):
    skin, muscle, cavity, belly = map(inside, (trunk.skin, trunk.muscle, trunk.cavity, trunk.belly))
    assert belly.any()
    for inner, outer in ((belly, cavity), (cavity, muscle), (muscle, skin)):
        assert not (inner & ~outer).any()
    (x0, y0, _), (x1, y1, _) = trunk.muscle.low, trunk.muscle.high
    assert 1.2 < (x1 - x0) / (y1 - y0) < 1.7  # wider than deep
    assert trunk.skin.high[0] * 1.06 < 365 / 2


def test_lung_lies_above_the_diaphragm_at_the_top_only(trunk):
    lung = next(layer.shape for layer in trunk_layers(np.random.default_rng(0), trunk) if layer.tissue is Tissue.LUNG)
    by_level = inside(lung).sum(axis=(0, 1))
    assert by_level[-1] > 50
    assert by_level[:4].sum() == 0
    assert not (inside(lung) & inside(trunk.belly)).any()


def test_vertebrae_enclose_a_canal_and_leave_room_for_discs(trunk):
    layers = list(bone_layers(np.random.default_rng(0), trunk))
    canal = next(layer.shape for layer in layers if layer.tissue is Tissue.SPINAL_CANAL)
    bones = [layer.shape for layer in layers if layer.tissue is Tissue.CORTICAL_BONE]
    assert not any((inside(bone) & inside(canal)).any() for bone in bones)
    heights = [bone.high[2] for bone in bones]
    assert all(25 < step < 40 for step in np.diff(heights))


def test_ribs_ring_the_cavity_without_entering_it(trunk):
    ribs = next(layer.shape for layer in bone_layers(np.random.default_rng(0), trunk) if layer.tissue is Tissue.RIB)
    ring = inside(ribs)
    assert ring[:36].any()
    assert ring[37:].any()
    assert not (ring & inside(trunk.cavity)).any()
    assert not (ring & ~inside(trunk.skin)).any()


def test_a_padded_organ_is_laid_over_its_coat_of_fat(trunk):
    coat, organ = trunk.padded(Layer(Tissue.LIVER, trunk.belly.grown(-20.0)), 3.0)
    assert (coat.tissue, organ.tissue) == (Tissue.VISCERAL_FAT, Tissue.LIVER)
    assert not (inside(organ.shape) & ~inside(coat.shape)).any()
    assert not (inside(coat.shape) & ~inside(trunk.belly)).any()
