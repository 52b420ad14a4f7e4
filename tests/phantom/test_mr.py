from math import exp, log, pi, sqrt

import numpy as np
import pytest

from medgan.phantom.anatomy import Layer, lay
from medgan.phantom.kinds import KINDS
from medgan.phantom.mr import FLOW_VOID, MR, Acquisition, InversionRecovery, SpinEcho, SpoiledGradientEcho
from medgan.phantom.shapes import slab
from medgan.phantom.space import Space
from medgan.phantom.tissues import HeadTissue, Relaxation

WATER = Relaxation(1000.0, 100.0, 1.0)
(EXAMINATION,) = KINDS["head_mr"].examinations
SERIES = EXAMINATION.series
SMALL = Space.regular((4, 4, 3), (2.0, 2.0, 2.0))


def scanner(grid=SMALL, examination=EXAMINATION, seed=5):
    return examination.scanner(lambda purpose: np.random.default_rng(seed), grid)


@pytest.mark.parametrize(
    ("sequence", "by_hand"),
    [
        # E1 = exp(-0.1) = 0.904837; sin 30 = 0.5, cos 30 = 0.866025; exp(-0.05) = 0.951229
        (SpoiledGradientEcho(100, 5, 30), 0.5 * 0.095163 / (1 - 0.866025 * 0.904837) * 0.951229),
        # at 90 degrees nothing is left along the field: 1 - E1
        (SpoiledGradientEcho(100, 0, 90), 0.095163),
        # 1 - exp(-2) = 0.864665; exp(-1) = 0.367879
        (SpinEcho(2000, 100), 0.864665 * 0.367879),
        # 1 - 2 exp(-0.5) + exp(-5) = 1 - 1.213061 + 0.006738
        (InversionRecovery(5000, 0, 500), -0.206323),
    ],
    ids=["gradient echo", "at 90 degrees", "spin echo", "inversion"],
)
def test_signals_are_those_worked_out_by_hand(sequence, by_hand):
    assert sequence.signal(WATER) == pytest.approx(by_hand, abs=2e-6)


def test_signals_follow_density_angle_inversion_and_flow():
    thin, dense, flowing = (Relaxation(800, 70, *rest) for rest in ((0.4,), (1.0,), (1.0, 0.05, 0.02, 0.0, True)))
    spin_echoes = (SpinEcho(500, 15), FLOW_VOID), (InversionRecovery(9000, 90, 2000), FLOW_VOID)
    for sequence, still in ((SpoiledGradientEcho(25, 5, 35), 1.0), *spin_echoes):
        assert sequence.signal(thin) == pytest.approx(0.4 * sequence.signal(dense))
        assert sequence.signal(flowing) == pytest.approx(still * sequence.signal(dense))  # blood is void in spin echoes
    angles = np.linspace(1, 89, 881)
    strongest = angles[np.argmax([SpoiledGradientEcho(50, 0, angle).signal(WATER) for angle in angles])]
    assert strongest == pytest.approx(np.rad2deg(np.arccos(exp(-0.05))), abs=0.1)  # the Ernst angle
    # What has half recovered is nulled.
    assert InversionRecovery(1e6, 90, 1000 * log(2)).signal(WATER) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_contrasts_are_those_of_life_in_every_subject(seed):
    tissues = scanner(seed=seed).tissues
    fat, white, grey = (tissues[t] for t in (HeadTissue.FAT, HeadTissue.WHITE_MATTER, HeadTissue.GREY_MATTER))
    fluid, lesion = tissues[HeadTissue.CSF], tissues[HeadTissue.LESION]
    t1, t2, flair = (SERIES[domain].signal for domain in ("t1", "t2", "flair"))
    assert t1(fat) > t1(white) > t1(grey) > 2 * t1(fluid)
    assert t1(lesion) < t1(white)
    assert t2(fluid) == max(t2(tissue) for tissue in tissues.values() if tissue.t1_ms < 3000 or tissue is fluid)
    assert t2(lesion) > 1.3 * t2(grey) > 1.3 * t2(white)
    assert abs(flair(fluid)) < 0.2 * flair(white)
    assert flair(lesion) > 1.3 * flair(grey) > 1.3 * flair(white)
    assert t1(tissues[HeadTissue.OUTER_TABLE]) < 0.05 * t1(white)


def test_gadolinium_raises_the_t1_signal_where_it_is_and_nowhere_else():
    for tissue in HeadTissue:
        before, after = (SERIES[domain].signal(tissue.relaxation) for domain in ("t1", "t1_gd"))
        assert after > 1.05 * before if tissue.relaxation.uptake_mmol else after == before, tissue


@pytest.mark.parametrize("shape", [(96, 96, 1), (48, 48, 6)], ids=["2d", "3d"])
def test_the_coils_field_is_smooth_and_noise_rayleigh_without_a_signal_and_normal_around_a_strong_one(shape):
    shown = scanner(Space.regular(shape, (4.0, 4.0, 8.0)), MR(HeadTissue, {"t1": SERIES["t1"]}))
    assert shown.sensitivity.min() > 0
    assert 0.6 < shown.sensitivity.mean() < 1.6
    for axis in (0, 1):
        step = np.abs(np.diff(np.log(shown.sensitivity), axis=axis)).max()
        assert step < shown.session.bias * 2**0.5 * 2 * 2 * pi / 250 * 4
    shown.sensitivity[:] = 1.0
    unit = shown.session.scale * shown.session.noise
    noise = shown.images(noise=True)["t1"] / unit
    assert noise.mean() == pytest.approx(sqrt(pi / 2), rel=0.03)
    assert noise.std() == pytest.approx(sqrt(2 - pi / 2), rel=0.03)
    shown.signals["t1"][:] = 100 * shown.session.noise
    noisy = shown.images(noise=True)["t1"] / unit
    assert noisy.mean() == pytest.approx(sqrt(100.0**2 + 1), abs=0.05)
    assert noisy.std() == pytest.approx(1.0, rel=0.04)


def test_a_voxel_between_two_tissues_has_the_mean_of_their_signals():
    grid = Space.regular((4, 4, 5), (2.0, 2.0, 2.0))
    seen = scanner(grid)
    seen.texture[:] = 0
    white, fluid = seen.tissues[HeadTissue.WHITE_MATTER], seen.tissues[HeadTissue.CSF]
    layers = [Layer(HeadTissue.WHITE_MATTER, slab(-50, 50)), Layer(HeadTissue.CSF, slab(0.5, 50))]
    labels = lay(layers, grid, seen)
    for domain, acquisition in SERIES.items():  # the fluid begins three quarters up the middle voxel
        expected = 0.75 * acquisition.signal(white) + 0.25 * acquisition.signal(fluid)
        assert np.allclose(seen.signals[domain][:, :, 2], expected)
    assert (labels[:, :, 2] == HeadTissue.WHITE_MATTER).all()
    assert (labels[:, :, 3] == HeadTissue.CSF).all()


def test_a_piece_with_a_filling_shows_as_what_fills_it_under_its_own_label():
    shown = []
    for tissue, filling in ((HeadTissue.FAT, None), (HeadTissue.OUTER_TABLE, HeadTissue.FAT)):
        seen = scanner()
        labels = lay([Layer(tissue, slab(-50, 50), filling=filling)], SMALL, seen)
        assert (labels == tissue).all()
        shown.append(seen.signals["t1"])
    assert np.array_equal(*shown)


def test_what_is_stored_is_the_magnitude_at_the_subjects_scale_and_scales_differ_as_mr_has_no_unit():
    shown = scanner(examination=MR(HeadTissue, {"fast": Acquisition(InversionRecovery(5000, 0, 500))}))
    shown.signals["fast"][:] = -0.25
    shown.sensitivity[:] = 2.0
    stored = shown.images(noise=False)["fast"]
    assert stored.dtype == np.int16
    assert (stored == round(0.5 * shown.session.scale)).all()

    scales = [KINDS["head_mr"].describe(0, number)["t1"]["scale"] for number in range(40)]
    assert 1500 <= min(scales) < 2200
    assert 8000 < max(scales) <= 12000


def test_a_subjects_times_lie_within_the_spread_and_its_blood_is_one():
    for seed in range(20):
        drawn = [(own, tissue.relaxation) for tissue, own in scanner(seed=seed).tissues.items()]
        for own, mean in drawn:
            assert abs(own.t1_ms / mean.t1_ms - 1) <= mean.spread + 1e-12
            assert abs(own.t2_ms / mean.t2_ms - 1) <= mean.spread + 1e-12
        assert len({own.t1_ms for own, mean in drawn if mean.flows}) == 1
        # The dose reaches all tissues in proportion.
        doses = [own.uptake_mmol / mean.uptake_mmol for own, mean in drawn if mean.uptake_mmol]
        assert np.allclose(doses, doses[0])
        assert 0.8 <= doses[0] <= 1.2
