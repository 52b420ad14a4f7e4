import numpy as np
import pytest
import torch

from medgan.data.intensity import IntensityConfig, RandIntensityd

SHAPES = pytest.mark.parametrize("shape", [(1, 24, 20), (5, 24, 20), (1, 16, 16, 12)], ids=["2d", "2.5d", "3d"])
STRONG = {"gamma": 0.4, "bias_field": 0.5, "noise": 0.05}


def image(shape):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))


def varied(given, seed, **settings):
    transform = RandIntensityd("source", IntensityConfig(**settings))
    transform.set_random_state(seed)
    return transform({"source": given})["source"]


@SHAPES
def test_a_varied_patch_keeps_its_shape_and_range_and_is_a_function_of_the_seed(shape):
    given = image(shape)
    kept = given.clone()
    for seed in range(8):
        found = varied(given, seed, **STRONG)
        assert found.shape == given.shape
        assert -1 <= float(found.min()) <= float(found.max()) <= 1
        assert torch.equal(found, varied(given, seed, **STRONG))
    assert torch.equal(given, kept)
    assert any(not torch.equal(varied(given, 0, **STRONG), varied(given, seed, **STRONG)) for seed in range(1, 8))


@SHAPES
def test_gamma_keeps_the_order_of_intensities(shape):
    given = image(shape)
    order = given.flatten().argsort()
    for seed in range(6):
        ordered = varied(given, seed, gamma=0.4).flatten()[order]
        assert bool((ordered.diff() >= -1e-6).all())


def test_gamma_is_a_power_of_the_unit_range_within_its_bounds():
    given = torch.linspace(-1, 1, 101).reshape(1, 101, 1)
    middles = [float(varied(given, seed, gamma=0.4)[0, 50, 0] + 1) / 2 for seed in range(40)]
    exponents = np.log(middles) / np.log(0.5)
    assert exponents.min() >= 0.6 - 1e-4
    assert exponents.max() <= 1 / 0.6 + 1e-4
    assert np.ptp(exponents) > 0.2
    assert sum(abs(exponent - 1) < 1e-6 for exponent in exponents) in range(8, 33), "half of the patches stay"


def test_a_coil_profile_is_smooth_and_the_same_in_every_slice():
    given = torch.full((3, 32, 32), -0.5)
    profiles = [varied(given, seed, bias_field=0.3) for seed in range(10)]
    changed = [profile for profile in profiles if not torch.allclose(profile, given)]
    assert changed
    for profile in changed:
        assert torch.equal(profile[0], profile[2])
        assert float(profile.diff(dim=1).abs().max()) < 0.4 * float(profile.max() - profile.min())


def test_zeros_vary_nothing():
    assert not IntensityConfig().varies
    assert torch.allclose(varied(image((1, 8, 8)), 3), image((1, 8, 8)))


@SHAPES
def test_contrast_scales_the_distances_to_the_mean_within_its_bounds(shape):
    given = 0.3 * image(shape)  # far enough from the window's ends
    scales = []
    for seed in range(30):
        found = varied(given, seed, contrast=0.2)
        assert float(found.mean()) == pytest.approx(float(given.mean()), abs=1e-5)
        scales.append(float(found.std() / given.std()))
        torch.testing.assert_close((found - found.mean()) / scales[-1], given - given.mean(), atol=1e-5, rtol=0)
    assert min(scales) >= 0.8 - 1e-4
    assert max(scales) <= 1.2 + 1e-4
    assert np.ptp(scales) > 0.1
    assert sum(abs(scale - 1) < 1e-6 for scale in scales) in range(5, 26), "half of the patches stay"


@SHAPES
def test_brightness_shifts_all_intensities_alike_within_its_bounds(shape):
    given = 0.3 * image(shape)
    shifts = []
    for seed in range(30):
        shift = varied(given, seed, brightness=0.1) - given
        torch.testing.assert_close(shift, torch.full_like(shift, float(shift.mean())), atol=1e-6, rtol=0)
        shifts.append(float(shift.mean()) / 2)  # the window is 2 wide
    assert max(map(abs, shifts)) <= 0.1 + 1e-6
    assert np.ptp(shifts) > 0.05
    assert IntensityConfig(brightness=0.1).varies
    assert IntensityConfig(contrast=0.1).varies
