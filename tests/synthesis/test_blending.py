import numpy as np
import pytest

from medgan.errors import InsertionError
from medgan.synthesis.insertion import feather, feathered, soft_poisson

UNIT = np.ones(3)


def square(shape):
    region = np.zeros(shape, dtype=bool)
    region[7:13, 7:13, slice(1, -1) if shape[2] > 1 else 0] = True
    return region


def images(shape):
    random = np.random.default_rng(0)
    return (random.normal(100, 10, shape).astype(np.float32) for _ in range(2))


def test_the_share_falls_linearly_with_the_distance_by_hand():
    region = np.zeros((7, 1, 1), dtype=bool)
    region[3] = True
    share = feather(region, 3.0, UNIT)[:, 0, 0]
    np.testing.assert_allclose(share, [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(feather(region, 3.0, 2 * UNIT)[:, 0, 0], [0, 0, 1 / 3, 1, 1 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(feather(region, 0.0, UNIT), region)
    assert not feather(np.zeros((3, 3, 1), dtype=bool), 3.0, UNIT).any()


def test_feathered_blending_by_hand():
    before, inserted = np.full((4, 1, 1), 10.0, np.float32), np.full((4, 1, 1), 20.0, np.float32)
    share = np.array([0, 0.25, 0.5, 1], np.float32).reshape(4, 1, 1)
    np.testing.assert_allclose(feathered(before, inserted, share)[:, 0, 0], [10, 12.5, 15, 20])


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 20, 6)], ids=["2d", "3d"])
@pytest.mark.parametrize("width_mm", [0.0, 3.0])
class TestSoftPoisson:
    def test_a_constant_that_the_donor_is_off_by_vanishes(self, shape, width_mm):
        before, _ = images(shape)
        share = feather(square(shape), width_mm, UNIT)
        np.testing.assert_allclose(soft_poisson(before, before + 37, share, UNIT), before, atol=1e-3)

    def test_outside_nothing_changes_to_the_bit(self, shape, width_mm):
        before, inserted = images(shape)
        share = feather(square(shape), width_mm, UNIT)
        result = soft_poisson(before, inserted, share, UNIT)
        np.testing.assert_array_equal(result[share == 0], before[share == 0])
        assert (result[share > 0] != before[share > 0]).mean() > 0.9

    def test_a_lesion_keeps_its_contrast_on_another_level(self, shape, width_mm):
        region = square(shape)
        core = np.zeros_like(region)
        core[9:11, 9:11, shape[2] // 2] = True
        before = np.full(shape, 50.0, np.float32)
        donor = np.where(core, 130.0, 100.0).astype(np.float32)
        result = soft_poisson(before, donor, feather(region, width_mm, UNIT), UNIT)
        np.testing.assert_allclose(result, np.where(core, 80.0, 50.0), atol=1e-2)


def test_with_a_hard_edge_it_is_the_published_equation_by_hand():
    # Two unknowns a and b between 1 and 4: 2a - b = 1 + (0 - 0) + (0 - 6), 2b - a = 4 + (6 - 0) + (6 - 0).
    before = np.array([1, 0, 0, 4], np.float32).reshape(4, 1, 1)
    donor = np.array([0, 0, 6, 0], np.float32).reshape(4, 1, 1)
    share = np.array([0, 1, 1, 0], np.float32).reshape(4, 1, 1)
    expected = np.linalg.solve([[2, -1], [-1, 2]], [1 - 6, 4 + 12])
    np.testing.assert_allclose(soft_poisson(before, donor, share, UNIT)[1:3, 0, 0], expected, rtol=1e-5)


def test_a_softer_share_takes_fewer_of_the_donors_gradients():
    before = np.array([0, 0, 0], np.float32).reshape(3, 1, 1)
    donor = np.array([0, 8, 0], np.float32).reshape(3, 1, 1)
    for share, expected in ((1.0, 8.0), (0.25, 2.0)):
        soft = np.array([0, share, 0], np.float32).reshape(3, 1, 1)
        assert soft_poisson(before, donor, soft, UNIT)[1, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_thick_slices_bind_less_than_neighbours_in_plane():
    before = np.zeros((3, 1, 3), np.float32)
    before[0], before[:, :, 0] = 10, 30
    share = np.zeros_like(before)
    share[1, 0, 1] = 1
    found = soft_poisson(before, np.zeros_like(before), share, np.array([1.0, 1.0, 4.0]))[1, 0, 1]
    assert found == pytest.approx((10 + 0 + 30 / 16 + 0 / 16) / (2 + 2 / 16), rel=1e-5)


def test_nothing_to_insert_changes_nothing_and_all_of_an_image_cannot_be_blended():
    before = np.ones((4, 4, 1), np.float32)
    np.testing.assert_array_equal(soft_poisson(before, 2 * before, np.zeros_like(before), UNIT), before)
    with pytest.raises(InsertionError, match="fills the whole image"):
        soft_poisson(before, 2 * before, np.ones_like(before), UNIT)
