import numpy as np
import pytest

from medgan.phantom.anatomy import Layer, lay
from medgan.phantom.kinds import KINDS
from medgan.phantom.shapes import Ellipsoid, slab
from medgan.phantom.space import Space
from medgan.phantom.tissues import Tissue

BALL = Ellipsoid((0.0, 0.0, 0.0), (12.0, 12.0, 12.0))


@pytest.mark.parametrize("kind", [KINDS["abdomen_ct"], KINDS["head_mr"]])
def test_equal_numbers_give_equal_anatomies_and_others_give_others(kind):
    space = Space.regular((12, 12, 6), (16.0, 16.0, 20.0))
    first, again, other = (kind.draw(np.random.default_rng(seed), lesions=True) for seed in (1, 1, 2))
    for one, two in zip(first.layers, again.layers, strict=True):
        assert one.tissue == two.tissue
        assert np.array_equal(one.shape.distance(space), two.shape.distance(space))
    assert not np.array_equal(first.coordinates(space).x, other.coordinates(space).x)
    assert {layer.tissue for layer in first.layers} & {*kind.lesion_labels}
    healthy = kind.draw(np.random.default_rng(3), lesions=False)
    assert not {layer.tissue for layer in healthy.layers} & {*kind.lesion_labels}


class Filled:
    """A scanner that sees how much of each voxel a tissue fills."""

    def __init__(self, grid, tissue):
        self.share, self.tissue = np.zeros(grid.x.shape), tissue

    def lay(self, layer, box, near, share):
        self.share[box] += share * ((layer.tissue == self.tissue) - self.share[box])


@pytest.mark.parametrize("shape", [(30, 30, 1), (30, 30, 15)], ids=["2d", "3d"])
def test_later_layers_cover_earlier_ones_and_a_voxel_has_the_label_of_what_fills_half_of_it(shape):
    grid = Space.regular(shape, (2.0, 2.0, 4.0))
    liver, fat = Filled(grid, Tissue.LIVER), Filled(grid, Tissue.VISCERAL_FAT)
    far = Layer(Tissue.TABLE, Ellipsoid((900.0, 0.0, 0.0), (12.0, 12.0, 12.0)))
    labels = lay([Layer(Tissue.VISCERAL_FAT, slab(-100, 100)), Layer(Tissue.LIVER, BALL), far], grid, liver, fat)
    assert np.allclose(liver.share + fat.share, 1)  # both scanners see the same
    assert liver.share.max() == 1
    assert np.array_equal(labels == Tissue.LIVER, liver.share >= 0.5)
    assert set(np.unique(labels)) == {Tissue.VISCERAL_FAT, Tissue.LIVER}  # and nothing that lies beside the grid
    assert set(np.unique(lay([Layer(Tissue.LIVER, BALL)], grid))) == {Tissue.AIR, Tissue.LIVER}
