import numpy as np
import pytest

from medgan.phantom.anatomy import draw_abdomen
from medgan.phantom.head import draw_head
from medgan.phantom.space import Space
from medgan.phantom.tissues import HEAD_LESIONS, LESIONS, Tissue

BODIES = pytest.mark.parametrize(("draw", "lesions"), [(draw_abdomen, LESIONS), (draw_head, HEAD_LESIONS)])


def abdomen(seed, *, lesions=True):
    return draw_abdomen(np.random.default_rng(seed), lesions=lesions)


@BODIES
def test_equal_numbers_give_equal_anatomies_and_others_give_others(draw, lesions):
    space = Space.regular((12, 12, 6), (16.0, 16.0, 20.0))
    first, again, other = (draw(np.random.default_rng(seed), lesions=True) for seed in (1, 1, 2))
    for one, two in zip(first.layers, again.layers, strict=True):
        assert one.tissue == two.tissue
        assert np.array_equal(one.shape.distance(space), two.shape.distance(space))
    assert not np.array_equal(first.coordinates(space).x, other.coordinates(space).x)
    assert {layer.tissue for layer in first.layers} & {*lesions}
    assert not {layer.tissue for layer in draw(np.random.default_rng(3), lesions=False).layers} & {*lesions}


@pytest.mark.parametrize("seed", range(6))
def test_lesions_are_one_to_four_of_one_kind_within_the_liver(seed):
    layers = abdomen(seed).layers
    liver = next(layer.shape for layer in layers if layer.tissue == Tissue.LIVER)
    masses = [layer for layer in layers if layer.tissue in LESIONS]
    assert 1 <= len(masses) <= 4
    assert len({mass.tissue for mass in masses}) == 1
    space = Space.regular((56, 48, 40), (5.0, 5.0, 5.0))
    for mass in masses:
        assert (liver.distance(space)[mass.shape.distance(space) < 0] < 0).all()


def test_the_build_and_the_bend_are_those_of_a_person():
    space = Space.regular((20, 20, 8), (18.0, 18.0, 15.0))
    for seed in range(8):
        anatomy = abdomen(seed)
        assert all(0.85 < scale < 1.25 for scale in anatomy.build)
        bent = anatomy.coordinates(space)
        assert np.abs(bent.x - space.x / anatomy.build[0]).max() < 10
