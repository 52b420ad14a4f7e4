"""Belonging: what cannot be of a domain is refused by name, what is odd is told, and what is right passes."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medgan.data.belonging import Scans, _is_label_map, _sample, check_belongs, contradictions, oddities
from medgan.data.domains import domain_named
from medgan.data.grid import Volume, made_up_grid
from medgan.data.preparation import GridConfig, Scan, scan_of
from medgan.data.volumes import read_volume
from medgan.errors import DataError

CT, MR = domain_named("plain:CT"), domain_named("t1")
SHAPES = pytest.mark.parametrize("shape", [(48, 40, 1), (48, 40, 6)], ids=["2d", "3d"])


def volume(voxels, modality=None, affine=None, path="nowhere/a.nii.gz"):
    grid = made_up_grid(voxels.shape, np.diag([2.0, 2, 5, 1]) if affine is None else affine)
    return Volume(np.asarray(voxels, dtype=np.float32), grid, Path(path), modality)


def hu(shape, seed=0):
    x, y = (np.linspace(-1, 1, size) for size in shape[:2])
    radius = np.hypot(x[:, None, None], y[None, :, None])
    clean = np.select([radius < 0.2, radius < 0.6, radius < 0.8], [300.0, 40.0, -100.0], -1000.0)
    return clean + np.random.default_rng(seed).normal(0, 10, shape)


def signal(shape, seed=0):
    return np.abs(hu(shape, seed) + 1000) * 0.7


@SHAPES
def test_a_ct_in_hu_and_an_mr_in_whatever_unit_belong_and_nothing_about_them_is_odd(shape):
    right = [(volume(hu(shape), said), CT) for said in (None, "", "CT", " ct ")]
    right += [(volume(signal(shape) * scale, "MR"), MR) for scale in (1e-3, 1.0, 1e4)]
    for own, domain in right:
        assert (check_belongs(own, domain), oddities(own, domain)) == ((), [])


@pytest.mark.parametrize("wanted", ["CT", "MR"])
@pytest.mark.parametrize("said", ["PT", "NM", "US", "SEG", "RTDOSE", "RTSTRUCT", "CR", "other", "pt "])
def test_another_modality_is_refused_by_its_name(wanted, said):
    said = {"CT": "mr", "MR": "ct"}[wanted] if said == "other" else said
    voxels = hu((48, 40, 6)) if wanted == "CT" else signal((48, 40, 6))
    named = "label map" if said == "SEG" else f"modality is {said.strip().upper()}"
    with pytest.raises(DataError, match=rf"a\.nii\.gz: cannot be an? {wanted} of domain .*{named}"):
        check_belongs(volume(voxels, said), {"CT": CT, "MR": MR}[wanted])


def test_a_word_that_is_no_other_modality_is_odd_and_no_more():
    own = volume(hu((48, 40, 6)), "X" * 99)
    assert check_belongs(own, CT) == ()
    (text,) = oddities(own, CT)
    assert "X" * 20 in text
    assert len(text) < 80


@SHAPES
@pytest.mark.parametrize(("lower", "upper"), [(0, 1), (7, 7), (0, 49), (-25, 24)])
def test_values_that_span_too_little_are_no_hu_whatever_the_outliers(shape, lower, upper):
    voxels = np.interp(hu(shape), (-1000, 300), (lower, upper))
    assert check_belongs(volume(voxels + np.random.default_rng(0).normal(0, 0.1, shape)), MR) == ()
    outliers = np.interp(hu((512, 512, shape[2])), (-1000, 300), (lower, upper))
    outliers[3, 3, 0], outliers[4, 4, 0] = 3000, -1000
    for each in (voxels, outliers):
        with pytest.raises(DataError, match="are no HU; give the study itself, in HU, or leave it out\\."):
            check_belongs(volume(each), CT, advice=", or leave it out")


@SHAPES
def test_air_alone_is_in_hu_and_a_noiseless_cylinder_of_water_is_odd_and_no_more(shape):
    assert check_belongs(volume(np.full(shape, -1024)), CT) == ()
    assert oddities(volume(np.full(shape, -1000)), CT) == []
    own = volume(np.where(hu(shape) > -500, 0, -1000))
    assert check_belongs(own, CT) == ()
    assert [text.partition(":")[0] for text in oddities(own, CT)] == ["all that is no air spans 0 HU"]


@SHAPES
@pytest.mark.parametrize("padding", [0, -1024, -2000])
def test_a_lost_offset_is_told_whatever_the_padding(shape, padding):
    voxels = hu(shape)
    own = volume(np.where(voxels < -500, padding, voxels + 1024))
    assert check_belongs(own, CT) == ()
    assert "an offset of 1024 may be lost" in oddities(own, CT)[0]


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("domain", [CT, MR], ids=["ct", "mr"])
@SHAPES
def test_a_label_map_is_refused_by_what_it_holds(shape, count, domain):
    regions = ndimage.zoom(np.random.default_rng(count).integers(0, count + 1, (5, 5, 1)), (40, 40, shape[2]), order=0)
    assert _is_label_map(regions.astype(np.float32))
    with pytest.raises(DataError, match="whole numbers in flat patches, as in a label map"):
        check_belongs(volume(regions), domain)


@SHAPES
def test_what_only_looks_a_little_like_labels_is_none(shape):
    coarse = np.clip(np.rint(signal(shape) / 60), 0, 15).astype(np.float32)
    mask = (coarse > 3).astype(np.float32)
    assert _is_label_map(mask)
    for none in (np.zeros_like(mask), coarse, mask / 2, mask - 1):  # of one value, 4 bits of noise, fractions, negative
        assert not _is_label_map(none)


def test_z_scores_are_odd_in_mr_and_ringing_below_zero_is_not():
    voxels = signal((48, 40, 6))
    (text,) = oddities(volume((voxels - voxels.mean()) / voxels.std()), MR)
    assert "negative intensities" in text
    voxels[::7] -= 20
    assert oddities(volume(voxels), MR) == []


def test_the_json_beside_an_image_counts_less_than_the_files_own_word(tmp_path):
    (tmp_path / "a.json").write_text('{"Modality": "PT"}')
    (why,) = contradictions(volume(hu((48, 40, 6)), path=tmp_path / "a.nii.gz"), CT)
    assert "modality is PT" in why
    assert check_belongs(volume(hu((48, 40, 6)), "CT", path=tmp_path / "a.nii.gz"), CT) == ()


def test_who_forces_is_told_why_it_could_not_be():
    assert check_belongs(volume(hu((48, 40, 6)) / 1000, "MR"), CT, force=True) == (
        "it says that its modality is MR",
        "its values span 1.35 (-1.03 to 0.318, .1 to 99.9 percentile) and are no HU",
    )


def test_a_large_volume_is_looked_at_in_slices_and_not_copied():
    voxels = np.asfortranarray(np.zeros((512, 512, 100), dtype=np.int8))
    assert np.shares_memory(_sample(voxels), voxels)
    assert _sample(voxels).size < 5e6
    assert _sample(voxels[..., :10]).shape == (512, 512, 10)


def test_how_a_volume_was_scanned_is_told_along_the_bodys_axes():
    affine = np.array([[0, 0, -5.0, 0], [0.7, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    scan = scan_of(volume(np.zeros((40, 30, 20)), "CT", affine))
    assert scan == Scan(spacing_mm=(5, 0.7, 2), field_mm=(100, 28, 60), slices=30, modality="CT")


SCANS = [Scan((0.8, 0.8, 5), (400, 400, 200), 40, "CT"), Scan((1, 1, 2), (500, 500, 300), 150, None)]
SEEN = Scans.of([*SCANS, Scan((1, 1, 3), (450, 450, 9), 3, "X" * 99)])


def test_the_ranges_of_the_training_are_kept_and_only_words_that_are_modalities():
    assert SEEN.spacing_mm == ((0.8, 1), (0.8, 1), (2, 5))
    assert SEEN.field_mm == ((400, 500), (400, 500), (9, 300))
    assert SEEN.modalities == ("CT",)
    assert Scans.model_validate_json(SEEN.model_dump_json()) == SEEN


@pytest.mark.parametrize(
    ("spacing", "shape", "told"),
    [
        ((0.9, 0.9, 4), (64, 64, 8), ["field of view"]),
        ((0.9, 0.9, 4), (64, 128, 8), []),  # a limb, cut close
        ((0.9, 0.9, 4), (128, 128, 8), []),  # a limb
        ((0.3, 0.3, 4), (512, 512, 8), []),  # finer, and resampled
        ((0.9, 0.9, 0.4), (512, 512, 8), ["voxel size"]),
        ((0.9, 0.9, 21), (512, 512, 8), ["voxel size"]),
        ((0.9, 0.9, 21), (512, 512, 1), []),  # a slice has no neighbours
        ((5, 5, 4), (100, 100, 8), ["voxel size"]),
        ((0.05, 0.05, 4), (512, 512, 8), ["field of view"]),  # a mouse
        ((9, 9, 40), (512, 512, 8), ["voxel size", "field of view"]),  # centimetres
    ],
)
def test_scans_far_outside_the_trainings_are_told(spacing, shape, told):
    voxels = np.broadcast_to(hu((*shape[:2], 1)), shape)
    own = volume(voxels, affine=np.diag([*map(float, spacing), 1]))
    found = oddities(own, CT, SEEN, GridConfig())
    assert [text.partition(" far outside")[0] for text in found] == told
    assert oddities(own, CT) == []


def test_finer_voxels_are_told_where_the_network_sees_them_as_they_are():
    own = volume(hu((640, 640, 1)), affine=np.diag([0.15, 0.15, 5, 1]))
    assert oddities(own, CT, SEEN, GridConfig()) == []
    assert oddities(own, CT, SEEN, GridConfig(spacing_mm=(None, None, None))) == [
        "voxel size far outside what the model saw: 0.15 mm along right, 0.8 to 1 mm in training, 0.15 mm along "
        "anterior, 0.8 to 1 mm in training"
    ]


@pytest.mark.parametrize("folder", ["sts", "abdomen_ct", "torso_ct"])
def test_no_real_scan_is_odd_to_a_model_of_real_scans(medgan_data, folder):
    root = medgan_data / folder
    names = {"ct.nii.gz": CT, "ct_labelled.nii.gz": CT, "mr_t1.nii.gz": MR, "mr_t2.nii.gz": MR}
    paths = [path for path in sorted(root.rglob("*.nii.gz"))[:9] if path.name in names]
    scans = [(read_volume(path), names[path.name]) for path in paths]
    assert scans
    for own, domain in scans:
        others = [scan_of(other) for other, kind in scans if kind == domain and other is not own]
        assert check_belongs(own, domain) == ()
        assert oddities(own, domain, Scans.of(others or [scan_of(own)]), GridConfig()) == []
    for path in [*root.rglob("tumour.nii.gz"), *root.rglob("organs.nii.gz"), *root.rglob("aorta.nii.gz")][:9]:
        assert list(contradictions(read_volume(path), CT)), path
        assert list(contradictions(read_volume(path), MR)), path
