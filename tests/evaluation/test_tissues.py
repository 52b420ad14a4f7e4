"""Tissues: bands of HU in 2D and 3D, change and distributions within them."""

import numpy as np
import pytest

from medgan.evaluation.tissues import (
    CODES,
    TISSUES,
    air_around,
    body,
    calibration,
    change_by_tissue,
    clipped_percent,
    core,
    distribution_distance_hu,
    intensities,
    overlap,
    quantile_sample,
    soft_tissue,
    tissue_map,
    true_tissues,
)

SLICES = pytest.mark.parametrize("slices", [1, 6], ids=["2d", "3d"])
EXAMPLE_HU = {"air": -1000, "lung": -700, "fat": -100, "soft_tissue": 50, "enhancing": 250, "bone": 900}


def strips(slices):
    """One strip per tissue, 10 voxels wide, in the order of TISSUES, with air between enhancing and bone."""
    hu = np.full((20, 80, slices), -1000.0)
    for place, tissue in enumerate(TISSUES):
        start = 10 * place + 10 * (tissue == "bone")
        hu[:, start : start + 10] = EXAMPLE_HU[tissue]
    return hu


@SLICES
def test_each_tissue_is_found_where_its_intensity_lies(slices):
    tissues = tissue_map(strips(slices))
    for place, tissue in enumerate(TISSUES[:-1]):
        assert (tissues[:, 10 * place : 10 * place + 10] == CODES[tissue]).all()
    assert (tissues[:, 60:70] == CODES["bone"]).all()
    assert (tissue_map(np.full((5, 5, slices), -300.0)) == 0).all(), "partial volume is of no tissue"
    outside = tissue_map(strips(slices), body=np.zeros(tissues.shape, dtype=bool))
    assert set(np.unique(outside)) == {0, CODES["air"]}, "outside the body only air is a tissue"


@SLICES
def test_marrow_within_cortex_is_bone_and_a_vessel_away_from_it_is_not(slices):
    hu = np.full((60, 60, slices), 40.0)
    hu[10:24, 10:24] = 700
    hu[13:21, 13:21] = 180
    hu[40:50, 40:50] = 180
    tissues = tissue_map(hu)
    assert (tissues[10:24, 10:24] == CODES["bone"]).all()
    assert (tissues[40:50, 40:50] == CODES["enhancing"]).all()
    assert (tissues[2:6, 2:6] == CODES["soft_tissue"]).all()


@SLICES
def test_a_change_is_counted_in_the_tissue_of_the_source(slices):
    source = strips(slices)
    synthetic = np.where(source == EXAMPLE_HU["enhancing"], source - 200, source + 4)
    change = change_by_tissue(source, synthetic, tissue_map(source))
    assert change == {tissue: 200 if tissue == "enhancing" else 4 for tissue in TISSUES}
    only_fat = np.full(source.shape, CODES["fat"], np.uint8)
    change = change_by_tissue(source, source - 10, only_fat)
    assert change.pop("fat") == 10
    assert np.isnan(list(change.values())).all(), "an absent tissue has no change"


def test_soft_tissue_holds_what_enhances_so_that_iodine_moves_nothing_out_of_it():
    hu = np.array([[[40.0, 200.0, -100.0]]])
    np.testing.assert_array_equal(soft_tissue(tissue_map(hu)), [[[True, True, False]]])


def test_the_distance_is_how_far_intensities_must_move_whatever_their_order_number_and_shape():
    values = np.random.default_rng(0).normal(40, 20, (50, 100))
    assert distribution_distance_hu(values + 12, values) == pytest.approx(12)
    assert distribution_distance_hu(np.repeat(values, 2), values.ravel()[::-1]) == pytest.approx(0, abs=1e-9)
    assert np.isnan(distribution_distance_hu(np.empty(0), np.ones(3)))


def test_quantiles_keep_the_distribution_and_forget_the_size():
    values = np.random.default_rng(2).gamma(2, 30, 100_000)
    sample = quantile_sample(values)
    assert sample.shape == (1000,)
    assert distribution_distance_hu(sample, values) < 0.5


def test_intensities_of_a_tissue_are_described_by_moments_and_percentiles():
    values = np.arange(101, dtype=np.float32).reshape(101, 1, 1)
    found = intensities(values, np.full(values.shape, CODES["fat"], np.uint8))
    assert {name: found.pop(f"fat_{name}") for name in ("mean_hu", "sd_hu", "p5_hu", "p50_hu", "p95_hu")} == (
        pytest.approx({"mean_hu": 50, "sd_hu": np.arange(101).std(), "p5_hu": 5, "p50_hu": 50, "p95_hu": 95})
    )
    assert np.isnan(list(found.values())).all()
    assert len(found) == 5 * (len(TISSUES) - 1)


def disc(radius, slices, centre=(32, 32)):
    x, y = np.mgrid[:64, :64]
    return np.repeat((np.hypot(x - centre[0], y - centre[1]) < radius)[..., None], slices, axis=2)


def square(half, slices):
    mask = np.zeros((64, 64, slices), dtype=bool)
    mask[32 - half : 32 + half, 32 - half : 32 + half] = True
    return mask


@SLICES
@pytest.mark.parametrize(("modality", "tissue", "air"), [("CT", 40.0, -1000.0), ("MR", 600.0, 8.0)])
def test_the_body_is_found_in_either_modality(slices, modality, tissue, air):
    true = disc(20, slices)
    volume = np.where(true, tissue, air) + np.random.default_rng(0).normal(0, 2, true.shape)
    found = body(volume, modality)
    assert overlap(found, true) > 0.98


@SLICES
def test_the_core_of_two_squares_is_their_overlap_less_three_voxels_on_each_side(slices):
    one, other = square(15, slices), np.roll(square(15, slices), 4, axis=0)
    found = core(one, other)
    assert np.count_nonzero(found) == (30 - 4 - 6) * (30 - 6) * slices
    assert not found[:24].any()
    assert found[24, 32].all()
    everything = np.ones((20, 20, slices), dtype=bool)
    assert core(everything, everything).all(), "the edge of the image is no rim"


def test_a_slice_is_eroded_without_its_neighbours():
    mask = disc(20, 3)
    mask[..., 2] = False
    alone = core(mask, mask)
    assert not alone[..., 2].any()
    np.testing.assert_array_equal(alone[..., 1], core(disc(20, 1), disc(20, 1))[..., 0])


def test_tissues_part_the_region_at_their_bounds():
    hu = np.array([-301.0, -300.0, 200.0, 201.0, 40.0]).reshape(5, 1, 1)
    where = np.array([1, 1, 1, 1, 0], dtype=bool).reshape(5, 1, 1)
    found = {name: mask.ravel().tolist() for name, mask in true_tissues(hu, where).items()}
    assert found == {
        "soft_tissue": [False, True, True, False, False],
        "bone": [False, False, False, True, False],
        "air_inside": [True, False, False, False, False],
    }


@SLICES
def test_air_around_is_air_outside_within_five_steps(slices):
    inside = square(10, slices)
    hu = np.where(inside, 40.0, -1000.0)
    hu[32 - 14 : 32 - 12, 30:34] = 100  # a table two voxels below
    found = air_around(hu, inside)
    assert not (found & inside).any()
    assert found[32 + 10 : 32 + 15, 32].all()
    assert not found[32 + 15, 32].any()
    assert not found[32 - 14 : 32 - 12, 30:34].any()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 1, 0], [0, 1, 0], 2 / 3), ([1, 0, 0], [0, 1, 0], 0), ([0, 0, 0], [0, 0, 0], np.nan)],
)
def test_overlap_is_dice_and_nothing_without_voxels(one, other, expected):
    np.testing.assert_equal(overlap(np.array(one, bool), np.array(other, bool)), expected)


@SLICES
def test_error_bias_and_slope_are_those_of_numpys_line_in_each_tissue(slices):
    shape = (40, 40, slices)
    real, everywhere = np.random.default_rng(0).uniform(-100, 900, shape), np.ones(shape, dtype=bool)
    fake = 0.5 * real + 30 + np.random.default_rng(1).normal(0, 200, shape)
    found, bone = calibration(fake, real, everywhere), real > 200
    assert found["bias_bone_hu"] == pytest.approx((fake - real)[bone].mean())
    assert found["mae_bone_hu"] == pytest.approx(np.abs(fake - real)[bone].mean())
    assert found["slope_bone"] == pytest.approx(np.polyfit(real[bone], fake[bone], 1)[0])
    assert np.isnan([found["mae_air_inside_hu"], found["bias_air_inside_hu"], found["slope_air_inside"]]).all()
    constant = np.full(shape, 40.0)
    assert calibration(constant, real, everywhere)["slope_bone"] == pytest.approx(0)
    assert np.isnan(calibration(real, constant, everywhere)["slope_soft_tissue"]), "a constant truth has no slope"


@SLICES
def test_clipped_is_the_share_of_the_region_beyond_the_synthetic_range(slices):
    real = np.zeros((20, 24, slices))
    real[:3] = 2000
    real[3] = -1024
    where = np.ones(real.shape, dtype=bool)
    where[-1] = False
    assert clipped_percent(np.clip(real, -1000, 1000), real, where) == pytest.approx(100 * 4 / 19)
    assert clipped_percent(real, real, where) == 0
    assert np.isnan(clipped_percent(real, real, ~(where | True)))
