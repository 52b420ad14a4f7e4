"""Enhancement of discs that take up a known amount, in scans of different scale."""

import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.enhancement import Enhancement, in_one_scale, mr_fidelity

SLICES = pytest.mark.parametrize("slices", [1, 4], ids=["2d", "3d"])


def disc(radius, slices, centre=(32, 32)):
    x, y = np.mgrid[:64, :64]
    return np.repeat((np.hypot(x - centre[0], y - centre[1]) < radius)[..., None], slices, axis=2)


def head(slices):
    """Tissue of 400..1000 with two lesions; (source, body, lesion that enhances, one that a network invents)."""
    body = disc(28, slices)
    tissue = np.random.default_rng(0).uniform(400, 1000, body.shape)
    return np.where(body, tissue, 0), body, disc(6, slices, (24, 30)), disc(4, slices, (44, 30))


def enhanced(source, lesion, percent, gain=1.0):
    """A lesion brighter by some percent of the source's 99.5th percentile; the scanner's gain differs."""
    return gain * (source + np.where(lesion, percent / 100 * np.percentile(source[source > 0], 99.5), 0))


@SLICES
@pytest.mark.parametrize("gain", [1.0, 0.01, 7.0])
@pytest.mark.parametrize(("kept", "made_up"), [(0, 0), (20, 30), (40, 0)])
def test_what_is_missed_and_what_is_made_up_are_told_apart_in_scans_of_any_scale(slices, gain, kept, made_up):
    source, body, lesion, invented = head(slices)
    found = Enhancement(source, enhanced(source, lesion, 40, gain), body)
    np.testing.assert_array_equal(found.enhancing, lesion)
    made = enhanced(source, lesion, kept) + enhanced(source, invented, made_up) - source
    elsewhere, true = body.sum() - lesion.sum(), lesion.sum()
    hit, false = true * (kept > 10), invented.sum() * (made_up > 10)
    assert found.figures(made / gain) == pytest.approx(
        {
            "enhancing_mae_percent": 40 - kept,
            "enhancement_percent": kept,
            "true_enhancement_percent": 40,
            "false_enhancement_percent_of_voxels": 100 * false / elsewhere,
            "false_enhancement_percent": made_up * false / elsewhere,
            "elsewhere_mae_percent": made_up * false / elsewhere,
            "enhancing_dice": 2 * hit / (hit + false + true),
            "enhancing_percent_of_voxels": 100 * true / body.sum(),
        },
        abs=1e-9,
    )


@SLICES
def test_without_enhancement_there_is_nothing_to_reach_but_something_to_invent(slices):
    source, body, _, invented = head(slices)
    figures = Enhancement(source, source, body).figures(enhanced(source, invented, 30))
    assert np.isnan([figures["enhancing_mae_percent"], figures["true_enhancement_percent"]]).all()
    assert figures["enhancing_dice"] == 0
    assert figures["false_enhancement_percent_of_voxels"] > 0


def test_dark_voxels_set_no_scale():
    body = np.ones((20, 20, 1), dtype=bool)
    reference, volume = np.full(body.shape, 50.0), np.full(body.shape, 25.0)
    reference[:15], volume[:15] = 5.0, 0.01
    scaled, true = in_one_scale(volume, reference, body)
    assert scaled[19, 19, 0] == true[19, 19, 0] == pytest.approx(100)
    np.testing.assert_array_equal(in_one_scale(np.zeros(body.shape), reference, body)[0], np.zeros(body.shape))


@SLICES
def test_fidelity_of_an_mr_is_in_percent_and_knows_no_scale(slices):
    source, body, _, _ = head(slices)
    found = mr_fidelity(3 * source, source, body)
    assert found["mae_percent"] == pytest.approx(0, abs=1e-9)
    assert found["psnr_db"] > 200
    assert found["ssim"] == pytest.approx(1)
    half_up = np.where(np.arange(64)[:, None, None] % 8 == 0, source + 50, source)
    error = 100 * 50 / np.percentile(source[body], 99.5) * (body & (half_up != source)).sum() / body.sum()
    assert mr_fidelity(half_up, source, body)["mae_percent"] == pytest.approx(error, rel=1e-6)


def test_a_body_without_signal_is_refused():
    volume = np.zeros((9, 9, 1))
    with pytest.raises(DataError, match="no signal"):
        Enhancement(volume, volume, np.ones(volume.shape, dtype=bool))
