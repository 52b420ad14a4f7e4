import hashlib

import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import HEAD_LESIONS, LESIONS, HeadTissue, Tissue

ABDOMEN_CT, ABDOMEN_MR_CT, HEAD_MR = KINDS.values()
SMALL = (32, 32, 8)
TAKES_UP = [tissue for tissue in HeadTissue if tissue.relaxation.uptake_mmol]


def digest(volumes):
    """SHA-256 over the voxels of every volume."""
    return hashlib.sha256(b"".join(volumes[name].tobytes() for name in sorted(volumes))).hexdigest()


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        (ABDOMEN_CT, SMALL, "48442b7dc79e55183ba02e41ecf37b5e8eb91b0d2f94b14b932b7cc4b5a03d10"),
        (ABDOMEN_MR_CT, SMALL, "36621824126b893a7f01c523f64fe9d79d9556fc128d8fc48f3c90c70dbbea59"),
        (HEAD_MR, (32, 36, 8), "eebadc05ee12f1753a47addb2f261f987a3675d76563c6e2a516e6e057b75336"),
    ],
    ids=list(KINDS),
)
def test_voxels_are_the_same_on_every_machine(kind, shape, expected):
    assert digest(kind.render(11, 4, shape=shape, lesions=1.0)) == expected


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_all_volumes_of_a_subject_lie_on_one_grid_and_any_other_seed_or_subject_gives_others(kind):
    assert kind.domains == kind.scans[:2]
    assert set(kind.describe(0, 0)) == {*kind.scans}
    types = dict.fromkeys(kind.scans, "int16") | {"labels": "uint8", "lesions": "uint8"}
    whole, flat, *others = (
        kind.render(*who, shape=(16, 16, depth)) for *who, depth in ((0, 0, 3), (0, 0, 1), (1, 0, 1), (0, 1, 1))
    )
    for volumes, depth in ((whole, 3), (flat, 1)):
        expected = {name: ((16, 16, depth), dtype) for name, dtype in types.items()}
        assert {name: (voxels.shape, str(voxels.dtype)) for name, voxels in volumes.items()} == expected
    assert len(set(map(digest, (flat, *others)))) == 3


@pytest.mark.parametrize(("kind", "domain", "least"), [(ABDOMEN_CT, "plain", 0.995), (HEAD_MR, "t1", 0.99)])
def test_a_finer_grid_shows_the_same_field_of_view_and_a_spacing_of_ones_own_narrows_it(kind, domain, least):
    assert np.multiply(kind.spacing_mm((48, 48, 4)), (48, 48, 4)) == pytest.approx(kind.field_of_view_mm)
    coarse, fine = (kind.render(5, 1, shape=(n, n, 4), noise=False) for n in (48, 96))
    averaged = fine[domain].reshape(48, 2, 48, 2, 4).mean(axis=(1, 3))
    assert np.corrcoef(coarse[domain].ravel(), averaged.ravel())[0, 1] > least
    assert abs(coarse[domain].mean() - averaged.mean()) < 0.01 * np.ptp(coarse[domain])
    narrow = kind.render(5, 1, shape=(24, 24, 4), spacing_mm=(4.0, 4.0, 10.0), noise=False)["labels"]
    assert (narrow > 0).mean() > (coarse["labels"] > 0).mean()


def test_the_lesion_mask_is_what_the_labels_call_a_lesion_and_others_than_carriers_have_none(subject, head):
    for kind in KINDS.values():
        assert not kind.render(7, 0, shape=(16, 16, 4), lesions=0.0)["lesions"].any()
    assert np.array_equal(subject["lesions"], np.isin(subject["labels"], LESIONS))
    assert subject["lesions"].any()
    assert np.array_equal(head["lesions"], np.where(np.isin(head["labels"], HEAD_LESIONS), head["labels"], 0))
    assert (head["lesions"] == HeadTissue.ENHANCING_LESION).any()


def test_almost_every_tissue_is_in_view_and_the_table_is_none(subject, head):
    present = set(np.unique(subject["labels"]).tolist())
    assert set(Tissue) - present <= {Tissue.TABLE, *LESIONS, Tissue.GALLBLADDER, Tissue.URINE}
    assert Tissue.TABLE not in present
    assert set(np.unique(head["labels"]).tolist()) == set(HeadTissue)


def test_sidecars_say_how_each_scan_was_made():
    ct, mixed, head = (
        kind.describe(0, 3, lesions=share) for kind, share in zip(KINDS.values(), (1, 1, 0), strict=True)
    )
    assert set(ct["plain"]) == {"phase", "iodine", "noise_hu", "blur_mm", "table", "lesions"}
    assert set(mixed["ct"]) == {"noise_hu", "blur_mm", "table", "lesions"}
    assert mixed["mr"]["sequence"] == {"tr_ms": 150, "te_ms": 4.6, "flip_deg": 70}
    assert mixed["mr"]["lesions"] is mixed["ct"]["lesions"] is True
    assert head["t1"]["sequence"] == head["t1_gd"]["sequence"] == {"tr_ms": 25, "te_ms": 5, "flip_deg": 35}
    assert [head[domain]["enhanced"] for domain in ("t1", "t1_gd")] == [False, True]
    assert head["flair"]["sequence"]["ti_ms"] == 2372
    assert head["t2"]["lesions"] is False


# An abdomen in MR and CT.


def test_the_ct_and_the_truth_are_those_of_the_kind_with_iodine():
    mixed, ct = (kind.render(5, 2, shape=SMALL) for kind in (ABDOMEN_MR_CT, ABDOMEN_CT))
    assert np.array_equal(mixed["ct"], ct["plain"])
    assert all(np.array_equal(mixed[name], ct[name]) for name in ("labels", "lesions"))


def test_dense_bone_is_dark_in_mr_where_the_voxels_are_fine_enough_to_hold_it_alone():
    fine = ABDOMEN_MR_CT.render(3, 0, shape=(96, 100, 3), spacing_mm=(1.5, 1.5, 2.0), noise=False)
    dense = (fine["labels"] == Tissue.CORTICAL_BONE) & (fine["ct"] > 550)
    assert dense.sum() > 50
    assert np.median(fine["mr"][dense]) < 0.4 * np.median(fine["mr"][fine["labels"] == Tissue.LIVER])


def test_tissues_of_an_abdomen_have_the_contrasts_of_mr():
    abdomen = ABDOMEN_MR_CT.render(3, 0, shape=(96, 96, 12), lesions=1.0, noise=False)

    def median(scan, *tissues):
        return np.median(abdomen[scan][np.isin(abdomen["labels"], tissues)].astype(float))

    liver = median("mr", Tissue.LIVER)
    for dark in (Tissue.GAS, Tissue.LUNG, Tissue.AIR):
        assert median("mr", dark) < 0.15 * liver
    assert median("ct", Tissue.GAS) < -600
    assert median("mr", Tissue.SUBCUTANEOUS_FAT) > 1.2 * liver
    for darker in (Tissue.SPLEEN, Tissue.MUSCLE):
        assert liver > 1.1 * median("mr", darker)
    assert median("mr", *LESIONS) < 0.9 * liver


def test_the_table_shows_in_ct_alone():
    number = next(n for n in range(20) if ABDOMEN_CT.describe(0, n)["plain"]["table"])
    volumes = ABDOMEN_MR_CT.render(0, number, shape=(96, 96, 4), noise=False)
    air = ndimage.binary_erosion(volumes["labels"] == Tissue.AIR, iterations=2, border_value=1)
    table = air & (volumes["ct"] > -700)
    assert table.sum() > 20
    assert not volumes["mr"][table].any()


# A head in four series of MR.


def test_series_of_a_head_have_the_contrasts_of_life(head, core):
    def median(domain, *tissues):
        return float(np.median(head[domain][core(head, *tissues)]))

    order = [HeadTissue.FAT, HeadTissue.WHITE_MATTER, HeadTissue.DEEP_GREY, HeadTissue.VENTRICLE]
    shown = [median("t1", tissue) for tissue in order]
    assert shown == sorted(shown, reverse=True)
    white = {domain: median(domain, HeadTissue.WHITE_MATTER) for domain in HEAD_MR.scans}
    assert median("t1", HeadTissue.GREY_MATTER) < 0.95 * white["t1"]
    for tissue in (HeadTissue.WHITE_MATTER, HeadTissue.GREY_MATTER, HeadTissue.FAT, *HEAD_LESIONS):
        assert median("t2", HeadTissue.VENTRICLE) > median("t2", tissue)
    assert median("flair", HeadTissue.VENTRICLE) < 0.3 * white["flair"]
    for domain in ("t2", "flair"):
        assert median(domain, *HEAD_LESIONS) > 1.15 * white[domain]
    assert median("t1", *HEAD_LESIONS) < white["t1"]
    # What lies outside the barrier between blood and brain lights up.
    for tissue, factor in (
        (HeadTissue.VENOUS_SINUS, 1.8),
        (HeadTissue.ENHANCING_LESION, 1.15),
        (HeadTissue.PITUITARY, 1.2),
        (HeadTissue.DURA, 1.02),
    ):
        assert median("t1_gd", tissue) > factor * median("t1", tissue)


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
