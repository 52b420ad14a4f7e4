"""Multi-scale similarity against MONAI's, and what a mask does to it."""

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy import ndimage

from medgan.evaluation.fidelity import RANGE_HU
from medgan.evaluation.multiscale import SMALLEST_VOXELS, WEIGHTS, ms_ssim


def pair(slices, side=(112, 128)):
    rng = np.random.default_rng(0)
    real = ndimage.gaussian_filter(rng.normal(0, 3000, (*side, slices)), (2, 2, 0)).clip(-1024, 3000)
    return (real + rng.normal(20, 500, real.shape)).clip(-1024, 3000), real


def by_monai(fake, real):
    metric = MultiScaleSSIMMetric(2, data_range=RANGE_HU, kernel_type="uniform", kernel_size=7, weights=WEIGHTS)
    return metric(*(torch.tensor(volume[..., 0] + 1024)[None, None] for volume in (fake, real))).item()


def everywhere(volume):
    return np.ones(volume.shape, dtype=bool)


def test_a_slice_without_a_mask_has_the_figure_of_monai():
    fake, real = pair(1)
    expected = by_monai(fake, real)
    assert 0.3 < expected < 0.98
    assert ms_ssim(fake, real, everywhere(real)) == pytest.approx(expected, abs=1e-4)


def test_slices_that_are_alike_have_the_figure_of_one():
    fake, real = pair(1)
    stacked = [np.repeat(volume, 3, axis=2) for volume in (fake, real)]
    assert ms_ssim(*stacked, everywhere(stacked[0])) == pytest.approx(ms_ssim(fake, real, everywhere(real)), abs=1e-6)


@pytest.mark.parametrize("slices", [1, 3])
def test_only_the_mask_counts(slices):
    fake, real = pair(slices)
    mask = np.zeros(real.shape, dtype=bool)
    mask[20:90, 30:100] = True
    assert ms_ssim(np.where(mask, real, fake), real, mask) == pytest.approx(1)
    assert ms_ssim(np.where(mask, fake, 3000), real, mask) == ms_ssim(fake, real, mask) < 0.98


def test_slices_too_small_for_five_scales_have_no_figure():
    for side, known in (((SMALLEST_VOXELS, SMALLEST_VOXELS), True), ((SMALLEST_VOXELS - 1, 200), False)):
        fake, real = pair(1, side)
        assert np.isfinite(ms_ssim(fake, real, everywhere(real))) == known


def test_a_mask_that_no_window_fits_has_no_figure():
    fake, real = pair(1)
    mask = np.zeros(real.shape, dtype=bool)
    mask[0] = True
    assert np.isnan(ms_ssim(fake, real, mask))
