import numpy as np
import pytest

from medgan.data.domains import domain_named
from medgan.pictures.windows import BONE, SOFT_TISSUE, WINDOWS, change, change_limit, percentiles, window_for


def test_windows_have_the_widths_and_levels_by_which_radiologists_know_them():
    levels = {name: (w.upper - w.lower, (w.upper + w.lower) / 2) for name, w in WINDOWS.items()}
    assert levels["soft tissue"] == (400, 40)
    assert levels["lung"] == (1500, -600)
    assert levels["bone"] == (1500, 300)
    assert levels["brain"] == (80, 40)
    assert SOFT_TISSUE.label == "soft tissue −160 … 240 HU"
    assert BONE.label == "bone −450 … 1050 HU"


def test_a_window_clips_what_lies_beyond_it_and_is_linear_between():
    row = np.array([[-3000.0, -160.0, 40.0, 240.0, 3000.0]])
    colours = SOFT_TISSUE.colours(row)
    assert colours[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (colours == colours[..., :1]).all()


def test_a_difference_is_shown_with_equal_colours_to_both_sides_and_zero_is_neutral():
    window = change(50.0, "HU")
    below, zero, above, far = window.colours(np.array([[-50.0, 0.0, 50.0, 500.0]]))[0].astype(int)
    assert np.ptp(zero) == 0
    assert zero[0] > 240
    assert below[2] > below[0] + 50  # blue
    assert above[0] > above[2] + 50  # red
    assert (above == far).all()


def test_mr_is_shown_between_percentiles_of_what_is_not_zero_in_arbitrary_units():
    voxels = np.concatenate([np.zeros(1000), np.arange(1.0, 101.0)]).reshape(10, 11, 10)
    window = window_for(domain_named("t1"), voxels)
    assert (window.lower, window.upper) == pytest.approx((1.99, 99.01))
    assert window.label == "P1–P99: 1.99 … 99 arbitrary"
    assert window_for(domain_named("ct"), voxels, "lung") is WINDOWS["lung"]
    assert percentiles(np.zeros((2, 2, 2))).lower < percentiles(np.zeros((2, 2, 2))).upper


@pytest.mark.parametrize(("largest", "limit"), [(0.0, 1.0), (37.0, 50.0), (200.0, 200.0), (0.021, 0.025), (9.9, 10.0)])
def test_the_limit_of_a_change_is_a_round_number_that_holds_it(largest, limit):
    assert change_limit(np.array([0.0, -largest])) == pytest.approx(limit)


@pytest.mark.parametrize("window", [SOFT_TISSUE, change(10.0, "HU")])
def test_what_is_no_number_is_drawn_and_ends_no_training(window):
    shown = window.colours(np.array([[np.nan, window.lower, np.inf, window.upper]]))
    assert (shown[0, 0] == shown[0, 1]).all()
    assert (shown[0, 2] == shown[0, 3]).all()
