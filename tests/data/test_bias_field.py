import numpy as np

from medgan.data.bias_field import without_bias


def test_a_bias_field_is_taken_away_and_the_mean_stays():
    x, y, _ = (np.indices((36, 36, 16)) - np.array([18, 18, 8])[:, None, None, None]) * 3.0
    body = (x / 48) ** 2 + (y / 42) ** 2 < 1
    tissue = np.where(x**2 + (y - 15) ** 2 < 200, 150.0, 300.0)
    field = np.exp(0.4 * x / 54 - 0.3 * (y / 54) ** 2)
    noise = np.random.default_rng(0).normal(0, 4, x.shape)
    clean = np.where(body, tissue, 0.0)
    biased = np.where(body, tissue * field + noise, 0.0).astype(np.float32)
    corrected = without_bias(biased, np.diag([3.0, 3.0, 3.0, 1.0]), body)
    one_tissue = body & (clean == 300)

    def spread(voxels):
        return voxels[one_tissue].std() / voxels[one_tissue].mean()

    assert spread(biased) > 0.15
    assert spread(corrected) < spread(biased) / 3
    np.testing.assert_allclose(corrected[body].mean(), biased[body].mean(), rtol=1e-4)


def test_voxels_without_a_body_stay_as_they_are():
    voxels = np.zeros((6, 6, 6), np.float32)
    np.testing.assert_array_equal(without_bias(voxels, np.eye(4), voxels > 0), voxels)
