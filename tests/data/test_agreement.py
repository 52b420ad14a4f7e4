import numpy as np
import pytest

from medgan.data.agreement import agreement, eroded_in_plane
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.preparation import Prepared

MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0, upper=100, percentiles=True))
CT = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window())
PAIR = DomainPair(source=MR, target=CT, paired=True)


def square(first, last, inside, outside, depth):
    voxels = np.full((40, 40, depth), outside, dtype=np.float32)
    voxels[first:last, first:last] = inside
    return Prepared(voxels, np.diag([1.0, 1.0, 3.0, 1.0]), ((first, last), (first, last), (0, depth)), (0.0, 1.0))


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("margin", [0, 3])
def test_the_region_is_what_both_bodies_share_without_its_rim(depth, margin):
    mr, ct = square(5, 30, 100.0, 0.0, depth), square(8, 35, 40.0, -1000.0, depth)
    found = agreement(mr, ct, PAIR, margin_voxels=margin)
    expected = np.zeros((40, 40, depth), dtype=np.float32)
    expected[8 + margin : 30 - margin, 8 + margin : 30 - margin] = 1
    # The body's own opening rounds its corners, so the two middle lines are compared.
    np.testing.assert_array_equal(found.voxels[20], expected[20])
    np.testing.assert_array_equal(found.voxels[:, 20], expected[:, 20])
    assert np.all(found.voxels <= expected)
    assert set(np.unique(found.normalised())) == {-1.0, 1.0}
    assert (found.body, found.bounds) == (ct.body, (0.0, 1.0))


def test_the_edge_of_the_volume_is_no_rim():
    mask = np.zeros((10, 12, 2), dtype=bool)
    mask[:6] = True
    eroded = eroded_in_plane(mask, 2)
    assert eroded[:4].all()
    assert not eroded[4:].any()
