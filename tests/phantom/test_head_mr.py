import hashlib
import time

import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.head_mr import ACQUISITIONS, default_spacing_mm, describe, render_subject
from medgan.phantom.mr import HEAD, draw_session
from medgan.phantom.tissues import HEAD_LESIONS, HeadTissue

SMALL = (32, 36, 8)
TAKES_UP = [tissue for tissue, mean in HEAD.items() if mean.uptake_mmol]


def digest(volumes):
    return hashlib.sha256(b"".join(volumes[name].tobytes() for name in sorted(volumes))).hexdigest()


@pytest.fixture(scope="module")
def median(head):
    def of(domain, *tissues):
        inside = np.isin(head["labels"], tissues)
        core = ndimage.binary_erosion(inside)
        return float(np.median(head[domain][core if core.any() else inside]))

    return of


def test_voxels_are_the_same_on_every_machine():
    assert digest(render_subject(11, 4, shape=SMALL, lesions=1.0)) == (
        "eebadc05ee12f1753a47addb2f261f987a3675d76563c6e2a516e6e057b75336"
    )


def test_any_other_seed_or_subject_gives_others():
    assert len({digest(render_subject(*who, shape=SMALL)) for who in ((1, 2), (2, 2), (1, 3))}) == 3


@pytest.mark.parametrize("shape", [(40, 48, 1), SMALL], ids=["2d", "3d"])
def test_all_volumes_of_a_subject_lie_on_one_grid(shape):
    volumes = render_subject(0, 0, shape=shape)
    kinds = dict.fromkeys(ACQUISITIONS, "int16") | {"labels": "uint8", "lesions": "uint8"}
    assert {name: (v.shape, str(v.dtype)) for name, v in volumes.items()} == {n: (shape, k) for n, k in kinds.items()}


def test_voxels_of_the_default_shape_are_two_by_two_by_four_millimetres():
    assert default_spacing_mm((96, 112, 30)) == (2.0, 2.0, 4.0)


def test_a_finer_grid_shows_the_same_head():
    coarse, fine = (render_subject(5, 1, shape=(n, n, 8), noise=False)["t1"].astype(float) for n in (48, 96))
    averaged = fine.reshape(48, 2, 48, 2, 8).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), averaged.ravel())[0, 1] > 0.99


def test_t1_shows_fat_then_white_then_grey_matter_then_fluid(median):
    order = [HeadTissue.FAT, HeadTissue.WHITE_MATTER, HeadTissue.DEEP_GREY, HeadTissue.VENTRICLE]
    shown = [median("t1", tissue) for tissue in order]
    assert shown == sorted(shown, reverse=True)
    assert median("t1", HeadTissue.GREY_MATTER) < 0.95 * median("t1", HeadTissue.WHITE_MATTER)


def test_fluid_is_the_brightest_in_t2_and_dark_in_flair(median):
    for tissue in (HeadTissue.WHITE_MATTER, HeadTissue.GREY_MATTER, HeadTissue.FAT, *HEAD_LESIONS):
        assert median("t2", HeadTissue.VENTRICLE) > median("t2", tissue)
    assert median("flair", HeadTissue.VENTRICLE) < 0.3 * median("flair", HeadTissue.WHITE_MATTER)


def test_lesions_are_bright_in_t2_and_flair_and_dark_in_t1(median):
    for domain in ("t2", "flair"):
        assert median(domain, *HEAD_LESIONS) > 1.15 * median(domain, HeadTissue.WHITE_MATTER)
    assert median("t1", *HEAD_LESIONS) < median("t1", HeadTissue.WHITE_MATTER)


def test_gadolinium_changes_t1_only_where_something_takes_it_up(head):
    reached = ndimage.binary_dilation(np.isin(head["labels"], TAKES_UP), iterations=3)
    gain = head["t1_gd"].astype(float) - head["t1"]
    assert gain.min() >= 0
    outside = gain[~reached]
    assert (outside > 0.05 * np.percentile(head["t1"], 99)).mean() < 0.002
    for tissue in (HeadTissue.WHITE_MATTER, HeadTissue.GREY_MATTER, HeadTissue.VENTRICLE, HeadTissue.LESION):
        core = ndimage.binary_erosion(head["labels"] == tissue)
        if core.any():
            assert np.median(gain[core]) == 0


@pytest.mark.parametrize(
    ("tissue", "factor"),
    [
        (HeadTissue.VENOUS_SINUS, 1.8),
        (HeadTissue.ENHANCING_LESION, 1.15),
        (HeadTissue.PITUITARY, 1.2),
        (HeadTissue.DURA, 1.02),
    ],
)
def test_what_lies_outside_the_blood_brain_barrier_lights_up(median, tissue, factor):
    assert median("t1_gd", tissue) > factor * median("t1", tissue)


def test_the_lesion_mask_holds_the_labels_of_lesions(head):
    lesions = np.isin(head["labels"], HEAD_LESIONS)
    assert np.array_equal(head["lesions"], np.where(lesions, head["labels"], 0))
    assert (head["lesions"] == HeadTissue.ENHANCING_LESION).any()


@pytest.mark.parametrize("number", range(3))
def test_carriers_have_a_lesion_in_view_and_others_have_none(number):
    for share, expected in ((1.0, True), (0.0, False)):
        assert render_subject(7, number, shape=(64, 72, 20), lesions=share)["lesions"].any() == expected


def test_noise_in_air_is_rayleigh_at_the_subjects_scale():
    volumes, session = render_subject(2, 3, shape=(64, 72, 8)), draw_session(2, 3)
    for domain in ACQUISITIONS:
        air = volumes[domain][:6, :6].astype(float)
        assert air.mean() == pytest.approx(session.scale * session.noise * np.sqrt(np.pi / 2), rel=0.12)


def test_sidecars_say_how_each_series_was_made():
    notes = describe(0, 3, lesions=0.0)
    assert set(notes) == set(ACQUISITIONS)
    assert notes["t1"]["sequence"] == notes["t1_gd"]["sequence"] == {"tr_ms": 25, "te_ms": 5, "flip_deg": 35}
    assert [notes[domain]["enhanced"] for domain in ("t1", "t1_gd")] == [False, True]
    assert notes["flair"]["sequence"]["ti_ms"] == 2372
    assert notes["t2"]["lesions"] is False


def test_a_head_of_the_default_shape_takes_about_two_seconds_of_one_core():
    start = time.process_time()
    render_subject(0, 0)
    assert time.process_time() - start < 5  # measured: 1.2 s
