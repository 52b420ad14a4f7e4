"""Sharpness against waves of known frequency and the direct Fourier sum."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.evaluation.sharpness import high_frequency_power, taper

SLICES = pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])


def wave(cycles_per_voxel, slices, amplitude=1.0, angle=0.3):
    x, y = np.mgrid[:80, :70]
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.repeat((amplitude * np.sin(2 * np.pi * cycles_per_voxel * along))[..., None], slices, axis=2)


def region(slices):
    where = np.zeros((80, 70, slices), dtype=bool)
    where[8:70, 10:60] = True
    return where


def noise(slices):
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 80, (80, 70, slices)), (0.6, 0.6, 0))


def direct(volume, weights):
    """The whole spectrum of every slice, unpadded and not cropped."""
    total = 0.0
    for z in range(volume.shape[2]):
        part, weight = volume[..., z], weights[..., z].astype(float)
        spectrum = np.fft.fft2((part - np.average(part, weights=weight)) * weight)
        x, y = np.meshgrid(*map(np.fft.fftfreq, part.shape), indexing="ij")
        total += (np.abs(spectrum[np.hypot(x, y) > 0.25]) ** 2).sum() / part.size
    return total


@SLICES
def test_power_is_that_of_the_direct_sum(slices):
    weights = taper(region(slices))
    assert high_frequency_power(noise(slices), weights) == pytest.approx(direct(noise(slices), weights), rel=0.02)


@SLICES
def test_fast_waves_count_and_slow_ones_do_not(slices):
    weights = taper(region(slices))
    fast, slow = (high_frequency_power(wave(cycles, slices), weights) for cycles in (0.35, 0.15))
    assert slow < 0.01 * fast
    half_the_energy = 0.5 * np.square(weights.astype(float)).sum()
    assert fast == pytest.approx(half_the_energy, rel=0.02)


@SLICES
def test_power_grows_with_the_square_of_the_amplitude_and_not_with_the_level(slices):
    weights = taper(region(slices))
    once = high_frequency_power(wave(0.4, slices), weights)
    assert high_frequency_power(wave(0.4, slices, 3.0) + 70, weights) == pytest.approx(9 * once, rel=0.01)


@SLICES
def test_blur_lowers_power_and_noise_raises_it(slices):
    weights, image = taper(region(slices)), noise(slices)
    sharp = high_frequency_power(image, weights)
    assert high_frequency_power(ndimage.gaussian_filter(image, (1, 1, 0)), weights) < 0.3 * sharp
    assert high_frequency_power(image + np.random.default_rng(1).normal(0, 80, image.shape), weights) > 2 * sharp


@SLICES
def test_what_lies_outside_the_region_changes_nothing(slices):
    weights = taper(region(slices))
    elsewhere = np.where(region(slices), noise(slices), 3000)
    assert high_frequency_power(elsewhere, weights) == pytest.approx(high_frequency_power(noise(slices), weights))


def test_the_outline_of_air_counts_as_little_as_fat_against_air_of_minus_200():
    weights = taper(region(1))
    step = np.where(np.arange(80)[:, None, None] < 40, -100.0, -1000.0) * np.ones((1, 70, 1))
    assert high_frequency_power(step, weights) == high_frequency_power(np.maximum(step, -200), weights)


def test_the_taper_is_a_squared_sine_from_the_edge_to_four_voxels_inside():
    where = np.zeros((20, 20, 1), dtype=bool)
    where[2:18, 2:18] = True
    np.testing.assert_allclose(taper(where)[1:7, 10, 0], [0, *np.sin(np.pi / 8 * np.arange(1, 5)) ** 2, 1], atol=1e-6)


def test_an_empty_region_has_no_power():
    assert high_frequency_power(noise(1), taper(np.zeros((80, 70, 1), dtype=bool))) == 0
