import numpy as np
import pytest

from medgan.phantom.shapes import Ellipsoid, Slab
from medgan.phantom.space import Space
from medgan.phantom.tissues import LESIONS, VESSELS, Layer, Tissue, lay


def test_label_values_fit_a_byte_air_is_zero_and_no_vessel_is_a_lesion():
    assert Tissue.AIR == 0
    assert sorted(Tissue) == list(range(len(Tissue)))
    assert max(Tissue) < 256
    assert not set(LESIONS) & set(VESSELS)


BALL = Ellipsoid((0.0, 0.0, 0.0), (12.0, 12.0, 12.0))


class Filled:
    """A scanner that sees how much of each voxel a tissue fills."""

    def __init__(self, grid, tissue):
        self.share, self.tissue = np.zeros(grid.x.shape), tissue

    def lay(self, layer, box, near, share):
        self.share[box] += share * ((layer.tissue == self.tissue) - self.share[box])


@pytest.fixture(params=[(30, 30, 1), (30, 30, 15)], ids=["2d", "3d"])
def grid(request):
    return Space.regular(request.param, (2.0, 2.0, 4.0))


def test_later_layers_cover_earlier_ones_and_every_scanner_sees_the_same(grid):
    liver, fat = Filled(grid, Tissue.LIVER), Filled(grid, Tissue.VISCERAL_FAT)
    lay([Layer(Tissue.VISCERAL_FAT, Slab(-100, 100)), Layer(Tissue.LIVER, BALL)], grid, liver, fat)
    assert np.allclose(liver.share + fat.share, 1)
    assert liver.share.max() == 1


def test_a_voxel_has_the_label_of_what_fills_half_of_it(grid):
    liver = Filled(grid, Tissue.LIVER)
    labels = lay([Layer(Tissue.LIVER, BALL)], grid, liver)
    assert np.array_equal(labels == Tissue.LIVER, liver.share >= 0.5)
    assert set(np.unique(labels)) == {Tissue.AIR, Tissue.LIVER}


def test_what_lies_beside_the_grid_leaves_it_as_it_is(grid):
    far = Layer(Tissue.LIVER, Ellipsoid((900.0, 0.0, 0.0), (12.0, 12.0, 12.0)))
    assert not lay([far], grid, Filled(grid, Tissue.LIVER)).any()
