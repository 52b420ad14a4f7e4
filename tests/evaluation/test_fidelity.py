"""Fidelity against hand-computed values, scikit-image and a brute-force window."""

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medgan.errors import DataError, GeometryError
from medgan.evaluation.fidelity import (
    SCALE_WEIGHTS,
    SMALLEST_VOXELS,
    body_mask,
    fidelity,
    high_frequency_power,
    mae_hu,
    ms_ssim,
    taper,
)

RANGE_HU = 4024
SHAPES = pytest.mark.parametrize("shape", [(20, 24, 1), (20, 24, 4), (20, 24, 11)], ids=["slice", "thin", "3d"])


def ssim(*volumes):
    return fidelity(*volumes)["ssim"]


def pair(shape, seed=0):
    """A volume, a noisy copy of it and a mask that is a box well inside, on one grid."""
    rng = np.random.default_rng(seed)
    reference = rng.uniform(-600, 600, shape).astype(np.float32)
    synthetic = reference + rng.normal(5, 40, shape).astype(np.float32)
    mask = np.zeros(shape, dtype=bool)
    mask[4:15, 5:18] = True
    return synthetic, reference, mask


@SHAPES
def test_identical_volumes_have_no_error_and_a_constant_offset_is_the_mae_and_the_signed_bias(shape):
    _, reference, mask = pair(shape)
    assert fidelity(reference, reference, mask) == {"mae_hu": 0, "bias_hu": 0, "psnr_db": np.inf, "ssim": 1}
    found = fidelity(reference - 30, reference, mask)
    assert found["mae_hu"] == pytest.approx(30)
    assert found["bias_hu"] == pytest.approx(-30)
    assert found["psnr_db"] == pytest.approx(20 * np.log10(4024 / 30), rel=1e-4)


def test_mae_is_unclipped_and_psnr_is_clipped():
    mask = np.ones((7, 7, 1), dtype=bool)
    metal, brighter = np.full(mask.shape, 5000.0), np.full(mask.shape, 6000.0)
    assert mae_hu(brighter, metal, mask) == 1000
    assert fidelity(brighter, metal, mask)["psnr_db"] == np.inf


@SHAPES
def test_psnr_is_that_of_scikit_image_on_the_clipped_voxels_of_the_mask_and_nothing_else_counts(shape):
    synthetic, reference, mask = pair(shape)
    fake, real = (np.clip(volume, -1024, 3000)[mask].astype(float) for volume in (synthetic, reference))
    found = fidelity(synthetic, reference, mask)
    assert found["psnr_db"] == pytest.approx(peak_signal_noise_ratio(real, fake, data_range=RANGE_HU))
    assert fidelity(np.where(mask, synthetic, 2000), reference, mask) == found


def challenge_ssim(synthetic, reference, mask):
    """The protocol word for word on the whole grid: clip, mask, shift, 7-voxel window, crop by 3, mean in the mask."""
    fake, real = (np.where(mask, np.clip(v, -1024, 3000), -1024).astype(float) + 1024 for v in (synthetic, reference))
    _, similarity = structural_similarity(fake, real, win_size=7, data_range=4024, full=True)
    crop = tuple(slice(3, -3) for _ in fake.shape)
    return similarity[crop][mask[crop]].mean()


@SHAPES
def test_ssim_is_that_of_the_challenge_in_a_thin_stack_the_mean_over_its_slices(shape):
    volumes = pair(shape)
    parts = [volumes] if shape[2] > 7 else [[volume[..., z] for volume in volumes] for z in range(shape[2])]
    assert ssim(*volumes) == pytest.approx(np.mean([challenge_ssim(*part) for part in parts]), abs=1e-12)


@pytest.mark.parametrize("shape", [(7, 7, 1), (7, 7, 7)], ids=["2d", "3d"])
def test_ssim_of_a_single_window_is_the_formula(shape):
    synthetic, reference, _ = pair(shape)
    x, y = synthetic.ravel().astype(float) + 1024, reference.ravel().astype(float) + 1024
    (vx, vxy), (_, vy) = np.cov(x, y)
    c1, c2 = (0.01 * RANGE_HU) ** 2, (0.03 * RANGE_HU) ** 2
    luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    structure = (2 * vxy + c2) / (vx + vy + c2)
    assert ssim(synthetic, reference, np.ones(shape, dtype=bool)) == pytest.approx(luminance * structure)


def test_ssim_is_not_a_number_where_no_window_fits():
    volume = np.zeros((6, 30, 1))
    assert np.isnan(ssim(volume, volume, np.ones(volume.shape, dtype=bool)))


def test_other_shapes_and_empty_masks_are_named():
    volume = np.zeros((8, 8, 1))
    with pytest.raises(GeometryError, match=r"\(8, 8, 1\).*not on one grid"):
        fidelity(volume, np.zeros((8, 8, 2)), np.ones((8, 8, 1), dtype=bool))
    with pytest.raises(DataError, match="the mask is empty"):
        fidelity(volume, volume, np.zeros((8, 8, 1), dtype=bool))


def patient(slices):
    """A disc of soft tissue with a lung in it, on a table 4 voxels below; the true body is the disc."""
    x, y = np.mgrid[:64, :64]
    disc = np.hypot(x - 32, y - 28) < 20
    hu = np.full((64, 64), -1000.0)
    hu[disc] = 40
    hu[np.hypot(x - 32, y - 28) < 8] = -850
    hu[4:60, 52:54] = 100
    return np.repeat(hu[..., None], slices, axis=2), np.repeat(disc[..., None], slices, axis=2)


@pytest.mark.parametrize("slices", [1, 5], ids=["slice", "3d"])
def test_the_body_holds_its_lungs_and_not_the_table(slices):
    hu, disc = patient(slices)
    found = body_mask(hu)
    assert not found[4:60, 52:54].any()
    assert np.count_nonzero(found ^ disc) < 0.03 * np.count_nonzero(disc)


def test_a_body_cut_by_the_edge_of_the_image_reaches_the_edge_and_air_has_none():
    hu = np.full((40, 40, 1), 40.0)
    hu[:, 30:] = -1000
    assert body_mask(hu)[:, :29].mean() > 0.99
    assert not body_mask(np.full((32, 32, 3), -1000.0)).any()


def test_a_real_abdomen_is_found_whole(medgan_data):
    image = nibabel.load(medgan_data / "abdomen_ct/CRLM-CT-1004/ct.nii.gz")
    hu = np.asarray(image.dataobj[..., 18:21], dtype=np.float32)
    found = body_mask(hu)
    assert 0.2 < found.mean() < 0.6
    assert (hu[found] > -300).mean() > 0.95


def slices_pair(slices, side=(112, 128)):
    rng = np.random.default_rng(0)
    real = ndimage.gaussian_filter(rng.normal(0, 3000, (*side, slices)), (2, 2, 0)).clip(-1024, 3000)
    return (real + rng.normal(20, 500, real.shape)).clip(-1024, 3000), real


def by_monai(fake, real):
    metric = MultiScaleSSIMMetric(2, data_range=RANGE_HU, kernel_type="uniform", kernel_size=7, weights=SCALE_WEIGHTS)
    return metric(*(torch.tensor(volume[..., 0] + 1024)[None, None] for volume in (fake, real))).item()


def everywhere(volume):
    return np.ones(volume.shape, dtype=bool)


def test_slices_without_a_mask_have_the_figure_of_monai():
    fake, real = slices_pair(1)
    expected = by_monai(fake, real)
    assert 0.3 < expected < 0.98
    for count in (1, 3):
        stacked = [np.repeat(volume, count, axis=2) for volume in (fake, real)]
        assert ms_ssim(*stacked, everywhere(stacked[0])) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("slices", [1, 3])
def test_only_the_mask_counts(slices):
    fake, real = slices_pair(slices)
    mask = np.zeros(real.shape, dtype=bool)
    mask[20:90, 30:100] = True
    assert ms_ssim(np.where(mask, real, fake), real, mask) == pytest.approx(1)
    assert ms_ssim(np.where(mask, fake, 3000), real, mask) == ms_ssim(fake, real, mask) < 0.98


def test_slices_or_masks_too_small_for_five_scales_have_no_figure():
    for side, known in (((SMALLEST_VOXELS, SMALLEST_VOXELS), True), ((SMALLEST_VOXELS - 1, 200), False)):
        fake, real = slices_pair(1, side)
        assert np.isfinite(ms_ssim(fake, real, everywhere(real))) == known
        edge = np.arange(side[0])[:, None, None] == np.zeros(real.shape)
        assert np.isnan(ms_ssim(fake, real, edge)), "no window fits the mask"


SLICES = pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])


def wave(cycles_per_voxel, slices):
    x, y = np.mgrid[:80, :70]
    along = np.cos(0.3) * x + np.sin(0.3) * y
    return np.repeat(np.sin(2 * np.pi * cycles_per_voxel * along)[..., None], slices, axis=2)


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
def test_power_is_that_of_the_direct_sum_inside_the_region(slices):
    weights, image = taper(region(slices)), noise(slices)
    power = high_frequency_power(image, weights)
    assert power == pytest.approx(direct(image, weights), rel=0.02)
    assert high_frequency_power(np.where(region(slices), image, 3000), weights) == pytest.approx(power)


@SLICES
def test_fast_waves_count_and_slow_ones_do_not(slices):
    weights = taper(region(slices))
    fast, slow = (high_frequency_power(wave(cycles, slices), weights) for cycles in (0.35, 0.15))
    assert slow < 0.01 * fast
    half_the_energy = 0.5 * np.square(weights.astype(float)).sum()
    assert fast == pytest.approx(half_the_energy, rel=0.02)
    thrice = high_frequency_power(3 * wave(0.35, slices) + 70, weights)
    assert thrice == pytest.approx(9 * fast, rel=0.01), "the square of the amplitude, whatever the level"


def test_the_outline_of_air_counts_as_little_as_fat_against_air_of_minus_200():
    weights = taper(region(1))
    step = np.where(np.arange(80)[:, None, None] < 40, -100.0, -1000.0) * np.ones((1, 70, 1))
    assert high_frequency_power(step, weights) == high_frequency_power(np.maximum(step, -200), weights)


def test_the_taper_is_a_squared_sine_from_the_edge_to_four_voxels_inside():
    where = np.zeros((20, 20, 1), dtype=bool)
    where[2:18, 2:18] = True
    np.testing.assert_allclose(taper(where)[1:7, 10, 0], [0, *np.sin(np.pi / 8 * np.arange(1, 5)) ** 2, 1], atol=1e-6)
    assert high_frequency_power(noise(1), taper(np.zeros((80, 70, 1), dtype=bool))) == 0
