from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from sklearn.metrics import mutual_info_score

from medgan.data.domains import domain_named
from medgan.data.grid import upright
from medgan.pictures.tiles import GAP, SIDE, STRIP
from medgan.registration.quality import (
    FIELDS,
    Limits,
    Quality,
    _checkerboard,
    _gain_noise,
    _mutual_information,
    dice,
    draw_pair,
    gains_nothing,
    judge,
    measure,
)
from tests.marked import ORDERS, bright_centre, marked

GOOD = Quality(
    mutual_information_before=0.4,
    mutual_information_after=0.6,
    gain_noise=0.02,
    dice_before=0.8,
    dice_after=0.95,
    covered=0.97,
    largest_displacement_mm=30.0,
    from_start_mm=20.0,
    rotation_degrees=12.0,
    translation_mm=15.0,
)


def test_mutual_information_is_that_of_the_binned_intensities():
    random = np.random.default_rng(0)
    one = random.integers(0, 32, 5000)
    other = np.clip(one // 2 + random.integers(0, 17, 5000), 0, 31)
    other[:2], one[:2] = (0, 31), (0, 31)
    assert _mutual_information(one, other) == pytest.approx(mutual_info_score(one, other), rel=1e-6)
    assert _mutual_information(one[:0], other[:0]) == 0


def test_the_noise_of_a_gain_is_its_spread_over_scans_that_are_drawn_anew():
    gains, noises = [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        blocks = np.repeat(np.arange(40), 50)[:, None]
        fixed, before, after = random.normal(size=(3, 40)).repeat(50, axis=1) + random.normal(0, 1, (3, 2000))
        before, after = before + fixed, after + fixed
        gains.append(_mutual_information(fixed, after) - _mutual_information(fixed, before))
        noises.append(_gain_noise(fixed, before, after, blocks))
    assert np.mean(noises) == pytest.approx(np.std(gains), rel=0.35)
    assert _gain_noise(fixed, before, before, blocks) == 0


@pytest.mark.parametrize(
    ("after", "noise", "moved_mm", "nothing"),
    [(0.43, 0.02, 9.0, True), (0.37, 0.02, 9.0, True), (0.5, 0.02, 9.0, False), (0.3, 0.02, 9.0, False),
     (0.3, 0.02, 0.9, True), (0.41, 0.0, 0.9, False), (0.4, 0.0, 0.0, True)],
)  # fmt: skip
def test_what_gains_no_more_than_noise_is_not_moved(after, noise, moved_mm, nothing):
    quality = replace(GOOD, mutual_information_after=after, gain_noise=noise, largest_displacement_mm=moved_mm)
    assert gains_nothing(quality, voxel_mm=1.0) == nothing


def test_dice_is_twice_the_overlap_over_the_sum():
    one, other = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool)
    assert dice(one, other) == pytest.approx(4 / 5)
    assert dice(one, one) == 1
    assert dice(one & False, one & False) == 0


def motion(shift_mm=(0.0, 0.0, 0.0), degrees=0.0):
    """A rigid transform in LPS+ mm."""
    transform = sitk.Euler3DTransform()
    transform.SetTranslation(shift_mm)
    transform.SetRotation(0.0, 0.0, np.deg2rad(degrees))
    return transform


def test_a_shift_is_measured_as_what_it_is(scan, sides, rigid):
    fixed, moving = sides((scan("CT"), "CT"), (scan("CT", rigid(shift_mm=(6, -8, 0))), "CT"))
    quality = measure(fixed, moving, *[motion((-6.0, 8.0, 0.0))] * 2)
    assert quality.largest_displacement_mm == pytest.approx(10)
    assert quality.translation_mm == pytest.approx(10)
    assert quality.rotation_degrees == pytest.approx(0, abs=1e-5)
    assert quality.from_start_mm < 1
    assert quality.dice_after > 0.9 > quality.dice_before
    assert quality.mutual_information_after > quality.mutual_information_before
    assert 0.85 < quality.covered <= 1


def test_the_farthest_voxel_of_a_turned_body_goes_furthest_and_one_far_away_shares_nothing(scan, sides):
    fixed, moving = sides((scan("CT"), "CT"), (scan("CT"), "CT"))
    quality = measure(fixed, moving, *[motion(degrees=10)] * 2)
    assert quality.rotation_degrees == pytest.approx(10)
    assert quality.translation_mm < 0.5
    assert quality.largest_displacement_mm == pytest.approx(2 * np.sin(np.deg2rad(5)) * 30, abs=0.5)  # 30 mm radius
    away = measure(fixed, moving, *[motion((500.0, 0.0, 0.0))] * 2)
    assert (away.dice_after, away.covered, away.mutual_information_after) == (0, 0, 0)


@pytest.mark.parametrize("ct_is_fixed", [False, True])
def test_bones_that_meet_are_a_gain_though_the_flesh_parts(scan, flesh_apart, sides, rigid, ct_is_fixed):
    mr, ct = sides((scan("MR"), "MR"), (flesh_apart(deep=rigid(shift_mm=(0, -7, 0))), "CT"))
    found = motion((0.0, -7.0 if ct_is_fixed else 7.0, 0.0))
    pair = (ct, mr) if ct_is_fixed else (mr, ct)
    without_bones = measure(*(replace(each, bone=None) for each in pair), found, found)
    assert without_bones.mutual_information_after < without_bones.mutual_information_before
    quality = measure(*pair, found, found)
    assert quality.dice_after < quality.dice_before
    assert quality.mutual_information_after > 1.05 * quality.mutual_information_before
    assert judge(quality, Limits())[0] == "accepted"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({}, "accepted", ""),
        ({"mutual_information_after": 0.395}, "accepted", ""),
        ({"mutual_information_after": 0.39}, "failed", "mutual information fell"),
        ({"from_start_mm": 151.0}, "failed", "151 mm"),
        ({"largest_displacement_mm": 900.0}, "accepted", ""),
        ({"rotation_degrees": 50.0}, "failed", "50 degrees"),
        ({"covered": 0.4}, "refused", "40%"),
        ({"dice_after": 0.89}, "refused", "0.890 is below 0.9"),
    ],
)
def test_a_pair_is_passed_on_only_within_every_limit(change, status, reason):
    verdict, text = judge(replace(GOOD, **change), Limits(least_dice=0.9))
    assert verdict == status
    assert reason in text
    assert bool(text) == (status != "accepted")


def test_the_fields_of_a_board_take_turns_and_are_a_voxel_at_least():
    board = _checkerboard(np.zeros((16, 24)), np.ones((16, 24)))
    edge = 16 // FIELDS
    fields = board[::edge, ::edge]
    np.testing.assert_array_equal(fields.repeat(edge, axis=0).repeat(edge, axis=1), board)
    np.testing.assert_array_equal(fields, np.indices(fields.shape).sum(axis=0) % 2)
    np.testing.assert_array_equal(_checkerboard(np.zeros((2, 3)), np.ones((2, 3))), [[0, 1, 0], [1, 0, 1]])


def test_a_picture_is_a_png_with_light_and_dark(scan, tmp_path):
    fixed, moved = scan("MR"), scan("CT")
    domains = (domain_named("mr"), domain_named("ct"))
    draw_pair(fixed, moved.voxels, domains, tmp_path / "a" / "s1.png", "s1: accepted")
    with Image.open(tmp_path / "a" / "s1.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 30
        assert picture.text["Description"] == "s1: accepted"


@pytest.mark.parametrize(("codes", "degrees"), ORDERS.values(), ids=ORDERS)
def test_a_registrations_picture_shows_the_patients_left_front_at_the_upper_right_however_it_is_stored(
    tmp_path, codes, degrees
):
    fixed = marked(codes, degrees)
    upright(fixed).voxels[4:12, 36:46, 10:18] = 240.0  # also in the middle slice
    domains = (domain_named("ct"), domain_named("ct"))
    draw_pair(fixed, fixed.voxels, domains, tmp_path / "s1.png", "s1: accepted")
    with Image.open(tmp_path / "s1.png") as picture:
        pixels = np.asarray(picture).astype(int)
    first = pixels[GAP + 3 * STRIP :][:SIDE]  # below the picture's title, the caption and the tiles' titles
    for number in (0, 1):  # fixed and moved
        left = GAP + number * (SIDE + GAP)
        row, column, *_ = bright_centre(first[:, left : left + SIDE])
        assert row < 0.4
        assert column > 0.6
