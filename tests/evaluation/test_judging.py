"""Judging: one grid for all volumes of a case, and figures by label and tissue."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medgan.data.layouts import map_beside
from medgan.errors import DataError, GeometryError
from medgan.evaluation.fidelity import fidelity
from medgan.evaluation.judging import (
    MEASURES,
    CaseScans,
    Modalities,
    distance_to_ideal,
    label_names_of,
    measure,
    spearman,
    uncertainty_figures,
)
from medgan.evaluation.matching import Case

MR_CT = Modalities("MR", "CT")
SHAPES = pytest.mark.parametrize("shape", [(24, 24), (24, 24, 1), (24, 24, 9)], ids=["2d", "slice", "3d"])


def save(path, voxels, affine=None):
    nibabel.Nifti1Image(np.asarray(voxels), np.eye(4) if affine is None else affine).to_filename(path)
    return path


def a_case(folder, shape, **others):
    """A case of random soft tissue; each other role is given as voxels."""
    synthetic = save(folder / "synthetic.nii", np.random.default_rng(0).integers(0, 90, shape).astype(np.int16))
    partners = {role: save(folder / f"{role}.nii", voxels) for role, voxels in others.items()}
    return Case("s", "s", synthetic, partners)


def halves(shape):
    labels = np.full(shape, 3, np.uint8)
    labels[: shape[0] // 2] = 5
    return labels


@SHAPES
def test_errors_are_fidelity_and_the_error_in_each_label(tmp_path, shape):
    truth = np.full(shape, 50, np.int16)
    scans = CaseScans(a_case(tmp_path, shape, reference=truth, labels=halves(shape)), {"left": 5, "all": [3, 5]})
    volume = np.where(scans.regions["left"], 60, 50).astype(np.float32)
    found = scans.errors(volume)
    assert found["mae_in_left_hu"] == 10
    assert found["mae_in_all_hu"] == 5
    assert found.items() >= fidelity(volume, scans.reference, scans.inside).items()
    masked = CaseScans(a_case(tmp_path, shape, reference=truth, mask=(halves(shape) == 5).astype(np.uint8)), None)
    np.testing.assert_array_equal(masked.inside, scans.regions["left"])


@SHAPES
def test_changes_are_against_the_source_in_the_same_unit(tmp_path, shape):
    source = np.full(shape, 50, np.int16)
    scans = CaseScans(a_case(tmp_path, shape, source=source, labels=halves(shape)), None)
    found = scans.changes(scans.source - 7)
    assert found["change_soft_tissue_hu"] == found["change_in_label_3_hu"] == found["change_in_label_5_hu"] == 7
    assert CaseScans(a_case(tmp_path, shape), None).changes(scans.synthetic) == {}
    from_mr = CaseScans(a_case(tmp_path, shape, source=source, mask=np.ones(shape, np.uint8)), None, MR_CT)
    assert from_mr.changes(scans.synthetic) == {}


@pytest.fixture(params=[1, 8], ids=["2d", "3d"])
def limb(request):
    """A limb with a bone: its CT, an MR of it without the left rim, and its body."""
    x, y = np.mgrid[:64, :64]
    radius = np.hypot(x - 32, y - 32)
    noise = np.random.default_rng(0).normal(0, 10, (64, 64, request.param))
    ct = np.select([radius < 6, radius < 24], [700.0, 40.0], -1000.0)[..., None] + noise
    mr = np.select([radius < 6, (radius < 24) & (x > 12)], [100.0, 600.0], 5.0)[..., None] + noise / 5
    return ct, mr, np.repeat((radius < 24)[..., None], request.param, axis=2)


def test_the_rim_does_not_count_in_the_core_and_bone_is_measured_there(tmp_path, limb):
    ct, mr, _ = limb
    scans = CaseScans(a_case(tmp_path, ct.shape, reference=ct, source=mr), None, MR_CT)
    spoilt = np.where(scans.core, ct, ct + 500).astype(np.float32)
    found = scans.errors(spoilt)
    assert found["mae_hu"] > 50
    assert found["core_mae_hu"] == pytest.approx(0, abs=1e-3)
    assert found["core_bone_dice"] == found["core_bone_surface_dice"] == 1
    assert found["core_high_frequency_power_ratio"] == pytest.approx(1, abs=1e-3)
    assert "bone_dice" not in found
    assert 0.5 < scans.core.sum() / scans.inside.sum() < 0.85


def test_without_a_source_bone_is_measured_in_the_whole_body(tmp_path, limb):
    ct, _, body = limb
    scans = CaseScans(a_case(tmp_path, ct.shape, reference=ct), None)
    found = scans.errors(np.full(ct.shape, 40.0, np.float32))
    assert found["bone_dice"] == 0
    assert found["high_frequency_power_ratio"] == pytest.approx(0, abs=1e-6)
    assert found["mae_bone_hu"] == pytest.approx(660, abs=3)
    assert found["mae_air_around_hu"] == pytest.approx(1040, abs=3)
    assert found["clipped_percent"] > 99
    assert not [name for name in found if name.startswith("core_")]
    np.testing.assert_allclose(scans.inside.sum(), body.sum(), rtol=0.03)


def test_an_mr_from_an_mr_is_judged_by_enhancement_and_from_a_ct_by_fidelity_alone(tmp_path, limb):
    ct, mr, _ = limb
    after = mr.copy()
    after[36:42, 36:42] += 300
    names = [
        set(CaseScans(a_case(tmp_path, ct.shape, reference=after, source=source), None, modalities).errors(after))
        for source, modalities in ((mr, Modalities("MR", "MR")), (ct, Modalities("CT", "MR")))
    ]
    assert names[1] == {"mae_percent", "psnr_db", "ssim"} < names[0]
    assert "enhancing_dice" in names[0]


def test_a_core_without_a_voxel_has_no_figures(tmp_path, limb):
    ct, mr, _ = limb
    tiny = np.zeros(ct.shape, np.uint8)
    tiny[9:11, 30:34] = 1
    scans = CaseScans(a_case(tmp_path, ct.shape, reference=ct, source=mr, mask=tiny), None, MR_CT)
    found = scans.errors(scans.synthetic)
    assert np.isfinite(found["mae_hu"])
    assert np.isnan([found["core_mae_hu"], found["core_bone_dice"], found["core_high_frequency_power_ratio"]]).all()


@pytest.mark.parametrize("role", ["reference", "source", "mask", "labels", "synthetic_uncertainty"])
def test_a_partner_on_another_grid_is_refused_by_name(tmp_path, role):
    case = a_case(tmp_path, (24, 24, 3), **({} if "_" in role else {role: np.zeros((24, 24, 3))}))
    beside, named = ("nii.gz", "uncertainty map") if "_" in role else ("nii", role)
    save(tmp_path / f"{role}.{beside}", np.zeros((24, 24, 4)))
    with pytest.raises(GeometryError, match=rf"{named}.*\(24, 24, 4\)"):
        CaseScans(case, None)
    save(tmp_path / f"{role}.{beside}", np.zeros((24, 24, 3)), np.diag([1.0, 1.0, 1.1, 1.0]))
    with pytest.raises(GeometryError, match=rf"{named} .* not on one grid: 0\.2 voxels apart at a corner"):
        CaseScans(case, None)


def test_labels_that_were_interpolated_are_refused(tmp_path):
    with pytest.raises(DataError, match="not whole numbers"):
        CaseScans(a_case(tmp_path, (24, 24), labels=np.full((24, 24), 1.5)), None)


def test_label_names_are_read_where_they_lie_and_a_file_without_any_is_named(tmp_path):
    assert label_names_of(None, tmp_path) is None
    for text, names in (
        ('{"liver": 5, "kidneys": [7, 8]}', {"liver": 5, "kidneys": [7, 8]}),
        ('{"phantom": true, "labels": {"5": "liver"}}', {"liver": 5}),
    ):
        (tmp_path / "labels.json").write_text(text)
        assert label_names_of(None, tmp_path) == names
    for text in ("", "[1, 2]", '{"liver": "five"}'):
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(DataError, match=r"labels\.json names no labels"):
            label_names_of(None, tmp_path)


@pytest.mark.parametrize(("modality", "scale"), [("CT", 1), ("MR", 1), ("MR", 3)])
def test_an_uncertainty_map_beside_the_image_is_compared_with_its_error(tmp_path, modality, scale):
    shape = (24, 24, 3)
    truth = 50 + np.random.default_rng(1).uniform(0, 9, shape)
    case = a_case(tmp_path, shape, reference=truth, mask=np.ones(shape, np.uint8))
    kinds = Modalities(modality, modality)
    # Most voxels are right, so the scale of an MR is known.
    error = np.maximum(np.random.default_rng(0).uniform(-2, 1, shape), 0)
    save(tmp_path / "synthetic.nii", scale * (truth + error))
    assert CaseScans(case, None, kinds).map_figures() == {}
    save(tmp_path / "synthetic_uncertainty.nii.gz", error**2)
    assert CaseScans(case, None, kinds).map_figures()["uncertainty_spearman_where_unsure"] > 0.999


def made(shape):
    random = np.random.default_rng(0)
    error = random.gamma(1.0, 10.0, shape).astype(np.float32)
    inside = np.zeros(shape, dtype=bool)
    inside[4:-4, 4:-4] = True
    return error, inside, random


@pytest.mark.parametrize("shape", [(40, 40, 1), (20, 20, 6)], ids=["2d", "3d"])
def test_a_map_that_rises_with_the_error_orders_it_perfectly(shape):
    error, inside, _ = made(shape)
    found = uncertainty_figures(np.sqrt(error), error, inside)
    assert found["uncertainty_spearman"] == pytest.approx(1)
    values = np.sort(error[inside])
    tenth = values[values >= np.percentile(values, 90)]
    assert found["error_in_most_unsure_tenth"] == pytest.approx(tenth.mean() / values.mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 40, 1), (20, 20, 6)], ids=["2d", "3d"])
def test_a_map_of_noise_is_worth_nothing_and_where_it_is_zero_it_is_judged_apart(shape):
    error, inside, random = made(shape)
    noise = random.uniform(1, 2, shape).astype(np.float32)
    found = uncertainty_figures(noise, error, inside)
    assert abs(found["uncertainty_spearman"]) < 0.1
    assert found["error_in_most_unsure_tenth"] == pytest.approx(1, abs=0.25)
    still = random.random(shape) < 0.5
    error[still] = noise[still] = 0
    found = uncertainty_figures(noise, error, inside)
    assert found["uncertainty_spearman"] > 0.6
    assert abs(found["uncertainty_spearman_where_unsure"]) < 0.15


def test_what_does_not_vary_or_is_empty_has_no_figure():
    error, inside, _ = made((20, 20, 1))
    for given in ((0 * error, error, inside), (error, 0 * error, inside), (error, error, inside & False)):
        assert np.isnan(uncertainty_figures(*given)["uncertainty_spearman"])


def test_the_correlation_is_that_of_the_ranks_and_the_map_lies_beside_its_image():
    one, other = np.random.default_rng(1).normal(size=(2, 50))
    expected = np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1]
    assert spearman(one, other) == pytest.approx(expected)
    beside = map_beside(Path("out/s1/contrast.nii.gz"), "uncertainty")
    assert beside == Path("out/s1/contrast_uncertainty.nii.gz")


@pytest.mark.parametrize(
    "name", ["", " liver", "liver\n", "a\x1b[2J", "a\x00", "x" * 101, "a\u202eb", "\t=1"], ids=ascii
)
def test_a_label_that_cannot_stand_in_a_table_is_named(name):
    as_people_do = {"left kidney": 1, "Niere (rechts)": 2, "<b>": 3, "肝": 4}
    assert label_names_of(as_people_do, None) == as_people_do
    with pytest.raises(DataError, match="cannot stand in a table"):
        label_names_of(as_people_do | {name: 5}, None)


BETTER_AND_WORSE = {
    "core_mae_hu": (10, 20), "mae_in_liver_hu": (10, 20), "bias_hu": (-2, 5), "core_bias_bone_hu": (3, -50),
    "psnr_db": (np.inf, 40), "ssim": (0.9, 0.8), "core_bone_dice": (0.6, 0.3), "core_slope_bone": (1.2, 0.7),
    "core_high_frequency_power_ratio": (0.8, 1.9), "core_false_bone_percent": (0.1, 0.5), "enhancing_dice": (0.5, 0.1),
    "enhancing_mae_percent": (4, 9), "false_enhancement_percent_of_voxels": (1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BETTER_AND_WORSE)
def test_the_better_of_two_values_is_nearer_to_the_ideal(name):
    near, far = distance_to_ideal(name, pd.Series(BETTER_AND_WORSE[name], dtype=float))
    assert near < far


def test_figures_that_describe_have_no_best_value_and_what_is_not_known_is_shown():
    for name in ("change_fat_hu", "soft_tissue_mean_hu", "enhancement_percent", "bone_p95_hu"):
        assert distance_to_ideal(name, pd.Series([1.0])) is None
    assert measure("anything").shown
    assert not measure("core_bias_bone_hu").shown
    assert not measure("fat_sd_hu").shown


@pytest.mark.parametrize("known", MEASURES, ids=lambda known: known.pattern)
def test_no_pattern_hides_behind_an_earlier_one(known):
    for name in re.sub(r"\(.*?\)|\.\*", "bone", known.pattern).split("|"):
        if not known.pattern.startswith(("bias_.*", "slope_.*")):
            assert measure(name).ideal == known.ideal
