import hashlib

import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom import ct
from medgan.phantom.abdomen_mr_ct import default_spacing_mm, describe, render_subject
from medgan.phantom.tissues import LESIONS, Tissue

SMALL = (32, 32, 8)
CLEAN = {"shape": (96, 96, 12), "lesions": 1.0}


def digest(volumes):
    return hashlib.sha256(b"".join(volumes[name].tobytes() for name in sorted(volumes))).hexdigest()


@pytest.fixture(scope="module")
def volumes():
    return render_subject(3, 0, **CLEAN, noise=False)


@pytest.fixture(scope="module")
def median(volumes):
    return lambda scan, *tissues: np.median(volumes[scan][np.isin(volumes["labels"], tissues)].astype(float))


def test_voxels_are_the_same_on_every_machine():
    assert (
        digest(render_subject(11, 4, shape=SMALL, lesions=1.0))
        == "36621824126b893a7f01c523f64fe9d79d9556fc128d8fc48f3c90c70dbbea59"
    )


def test_the_ct_and_the_truth_are_those_of_the_kind_with_iodine():
    ours, theirs = render_subject(5, 2, shape=SMALL), ct.render_subject(5, 2, shape=SMALL)
    assert np.array_equal(ours["ct"], theirs["plain"])
    for name in ("labels", "lesions"):
        assert np.array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("shape", [(40, 40, 1), SMALL], ids=["2d", "3d"])
def test_all_volumes_of_a_subject_lie_on_one_grid(shape):
    volumes = render_subject(0, 0, shape=shape)
    assert {name: (v.shape, str(v.dtype)) for name, v in volumes.items()} == {
        "mr": (shape, "int16"),
        "ct": (shape, "int16"),
        "labels": (shape, "uint8"),
        "lesions": (shape, "uint8"),
    }
    assert default_spacing_mm(shape) == ct.default_spacing_mm(shape)


def test_dense_bone_is_dark_in_mr_where_the_voxels_are_fine_enough_to_hold_it_alone():
    fine = render_subject(3, 0, shape=(96, 100, 3), spacing_mm=(1.5, 1.5, 2.0), noise=False)
    dense = (fine["labels"] == Tissue.CORTICAL_BONE) & (fine["ct"] > 550)
    assert dense.sum() > 50
    assert np.median(fine["mr"][dense]) < 0.4 * np.median(fine["mr"][fine["labels"] == Tissue.LIVER])


def test_gas_is_dark_in_both(median):
    liver = median("mr", Tissue.LIVER)
    for dark in (Tissue.GAS, Tissue.LUNG, Tissue.AIR):
        assert median("mr", dark) < 0.15 * liver
    assert median("ct", Tissue.GAS) < -600


def test_fat_is_the_brightest_in_mr_and_muscle_darker_than_liver(median):
    fat, liver, spleen, muscle = (
        median("mr", t) for t in (Tissue.SUBCUTANEOUS_FAT, Tissue.LIVER, Tissue.SPLEEN, Tissue.MUSCLE)
    )
    assert fat > 1.2 * liver
    assert liver > 1.1 * spleen
    assert liver > 1.1 * muscle


def test_lesions_are_darker_than_the_liver_in_mr(volumes, median):
    assert np.array_equal(volumes["lesions"] == 1, np.isin(volumes["labels"], LESIONS))
    assert median("mr", *LESIONS) < 0.9 * median("mr", Tissue.LIVER)


def test_the_table_shows_in_ct_alone():
    number = next(n for n in range(20) if ct.draw_scan(0, n).table)
    volumes = render_subject(0, number, shape=(96, 96, 4), noise=False)
    table = ndimage.binary_erosion(volumes["labels"] == Tissue.AIR, iterations=2, border_value=1) & (
        volumes["ct"] > -700
    )
    assert table.sum() > 20
    assert not volumes["mr"][table].any()


def test_sidecars_say_how_each_scan_was_made():
    notes = describe(0, 3, lesions=1.0)
    assert notes["mr"]["sequence"] == {"tr_ms": 150, "te_ms": 4.6, "flip_deg": 70}
    assert notes["mr"]["lesions"] is notes["ct"]["lesions"] is True
    assert "noise_hu" in notes["ct"]
