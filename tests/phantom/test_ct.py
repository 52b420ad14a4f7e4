import hashlib

import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.ct import (
    MATERIALS,
    RENAL_RETURN,
    Scan,
    blurred,
    default_spacing_mm,
    draw_scan,
    materials_of_subject,
    quantum_noise,
    render_subject,
    stored,
)
from medgan.phantom.space import Space
from medgan.phantom.tissues import LESIONS, VESSELS, Tissue

SMALL = (32, 32, 8)
ENHANCING = (Tissue.AORTA, Tissue.VENA_CAVA, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.LIVER, Tissue.SPLEEN)
NEVER = (Tissue.GALLBLADDER, Tissue.SPINAL_CANAL, Tissue.LUNG, Tissue.GAS, Tissue.SUBCUTANEOUS_FAT, Tissue.AIR)


def digest(volumes):
    """SHA-256 over the voxels of every volume."""
    return hashlib.sha256(b"".join(volumes[name].tobytes() for name in sorted(volumes))).hexdigest()


def gain_hu(volumes, where):
    """What iodine adds in some voxels, HU."""
    return volumes["contrast"][where].astype(float) - volumes["plain"][where]


def test_voxels_are_the_same_on_every_machine():
    assert digest(render_subject(11, 4, shape=SMALL, lesions=1.0)) == (
        "48442b7dc79e55183ba02e41ecf37b5e8eb91b0d2f94b14b932b7cc4b5a03d10"
    )


def test_equal_arguments_give_equal_voxels_and_any_other_seed_or_subject_gives_others():
    first = digest(render_subject(1, 2, shape=SMALL))
    assert digest(render_subject(1, 2, shape=SMALL)) == first
    assert len({first, digest(render_subject(2, 2, shape=SMALL)), digest(render_subject(1, 3, shape=SMALL))}) == 3


@pytest.mark.parametrize("shape", [(40, 40, 1), SMALL], ids=["2d", "3d"])
def test_all_volumes_of_a_subject_lie_on_one_grid(shape):
    volumes = render_subject(0, 0, shape=shape)
    assert {name: (v.shape, v.dtype) for name, v in volumes.items()} == {
        "contrast": (shape, np.dtype(np.int16)),
        "plain": (shape, np.dtype(np.int16)),
        "labels": (shape, np.dtype(np.uint8)),
        "lesions": (shape, np.dtype(np.uint8)),
    }


def test_a_finer_grid_shows_the_same_subject():
    coarse, fine = (render_subject(5, 1, shape=(n, n, 8), noise=False)["plain"].astype(float) for n in (48, 96))
    averaged = fine.reshape(48, 2, 48, 2, 8).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), averaged.ravel())[0, 1] > 0.995
    assert abs(coarse.mean() - averaged.mean()) < 3


def test_a_spacing_of_ones_own_narrows_the_view():
    narrow = render_subject(5, 1, shape=(48, 48, 8), spacing_mm=(3.0, 3.0, 5.0), noise=False)["labels"]
    wide = render_subject(5, 1, shape=(48, 48, 8), noise=False)["labels"]
    assert default_spacing_mm((48, 48, 8)) == pytest.approx((7.604, 7.604, 15.0), abs=1e-3)
    assert (narrow > 0).mean() > (wide > 0).mean()


@pytest.mark.parametrize("tissue", ENHANCING)
def test_iodine_brightens_every_voxel_of_enhancing_organs(subject, core, tissue):
    assert gain_hu(subject, core(tissue)).min() > 3


@pytest.mark.parametrize("tissue", NEVER)
def test_iodine_leaves_what_has_no_blood_as_it_is(subject, core, tissue):
    assert np.abs(gain_hu(subject, core(tissue))).mean() < 1


def test_iodine_never_darkens_a_voxel(subject):
    assert gain_hu(subject, ...).min() >= -1


def test_the_mean_change_of_bone_fat_and_gas_is_small_even_with_partial_volume(subject):
    for tissue in (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE, Tissue.RIB, Tissue.LUNG, Tissue.GAS):
        assert gain_hu(subject, subject["labels"] == tissue).mean() < 10


@pytest.mark.parametrize("tissue", [*ENHANCING, Tissue.MUSCLE, Tissue.GALLBLADDER, Tissue.CONTENT, Tissue.AIR])
def test_attenuation_without_iodine_is_that_of_the_tissue(subject, core, tissue):
    material = MATERIALS[tissue]
    layers_differ_hu = 16  # contents and gas pockets have an offset of their own; cores keep some partial volume
    assert abs(np.median(subject["plain"][core(tissue)]) - material.hu) <= material.spread_hu + layers_differ_hu


def test_the_arterial_phase_fills_the_aorta_and_the_portal_phase_the_liver(core_gains):
    (_, early), (_, late) = core_gains[0], core_gains[-1]
    assert early[Tissue.AORTA] > late[Tissue.AORTA]
    assert early[Tissue.LIVER] < late[Tissue.LIVER]
    assert early[Tissue.AORTA] / early[Tissue.LIVER] > 4 > late[Tissue.AORTA] / late[Tissue.LIVER]


@pytest.fixture(scope="module")
def core_gains():
    """Uptake of aorta and liver, per unit of iodine, of the earliest and the latest of some subjects."""
    order = sorted(range(20), key=lambda number: draw_scan(0, number).phase)
    gains = []
    for number in (order[0], order[-1]):
        volumes = render_subject(0, number, shape=(64, 64, 12), noise=False)
        scan = draw_scan(0, number)
        cores = {t: ndimage.binary_erosion(volumes["labels"] == t) for t in (Tissue.AORTA, Tissue.LIVER)}
        gains.append((scan.phase, {t: np.median(gain_hu(volumes, c)) / scan.iodine for t, c in cores.items()}))
    return gains


def test_the_lesion_mask_is_what_the_labels_call_a_lesion(subject):
    assert np.array_equal(subject["lesions"] == 1, np.isin(subject["labels"], LESIONS))
    assert subject["lesions"].any()


@pytest.mark.parametrize("number", range(4))
def test_carriers_have_a_lesion_in_view_and_others_have_none(number):
    for share, expected in ((1.0, True), (0.0, False)):
        assert render_subject(7, number, shape=(64, 64, 16), lesions=share)["lesions"].any() == expected


def test_almost_every_tissue_is_in_view(subject):
    present = set(np.unique(subject["labels"]).tolist())
    rare = {Tissue.TABLE, *LESIONS, Tissue.GALLBLADDER, Tissue.URINE}
    assert set(Tissue) - present <= rare


def test_the_table_is_no_tissue(subject):
    assert Tissue.TABLE not in subject["labels"]


def test_scans_are_set_within_the_ranges_of_real_ones():
    scans = [draw_scan(0, number) for number in range(60)]
    assert all(isinstance(scan, Scan) for scan in scans)
    assert all(0.8 <= scan.iodine <= 1.2 and 9 <= scan.noise_hu <= 16 for scan in scans)
    phases = np.array([scan.phase for scan in scans])
    assert phases.min() < 0.15
    assert phases.max() > 0.85


def test_noise_has_unit_deviation_in_mid_body_and_less_towards_the_skin():
    space = Space.regular((96, 96, 24), (3.8, 3.8, 5.0))
    noise = quantum_noise(np.random.default_rng(0), space)
    assert noise[40:56, 40:56].std() == pytest.approx(0.97, abs=0.06)
    assert noise[2:10, 40:56].std() < 0.7
    assert abs(noise.mean()) < 0.02


def test_noise_is_correlated_within_slices_and_not_between_them():
    noise = quantum_noise(np.random.default_rng(0), Space.regular((96, 96, 24), (0.1, 0.1, 5.0)))
    within = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    between = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert within > 0.1
    assert abs(between) < 0.01


def test_the_two_scans_have_noise_of_their_own():
    clean, noisy = (render_subject(2, 3, shape=(64, 64, 8), noise=noise) for noise in (False, True))
    body = clean["labels"] > 0
    left = [(noisy[d].astype(float) - clean[d])[body] for d in ("contrast", "plain")]
    assert abs(np.corrcoef(*left)[0, 1]) < 0.05
    for residual in left:
        assert 0.6 * draw_scan(2, 3).noise_hu < residual.std() < draw_scan(2, 3).noise_hu


def test_voxels_are_stored_as_whole_hu_of_a_12_bit_scanner():
    hu = np.array([-2000.0, 40.4, 40.50001, 40.49999, 9000.0]).reshape(5, 1, 1)
    assert stored(hu).ravel().tolist() == [-1024, 40, 40, 40, 3071]


def test_blur_spreads_a_point_within_its_slice_and_keeps_the_sum():
    point = np.zeros((15, 15, 3))
    point[7, 7, 1] = 1000.0
    spread = blurred(point, 2.0, (1.0, 1.0, 1.0))
    assert spread[7, 7, 1] < 100
    assert spread[..., [0, 2]].sum() == 0
    assert spread.sum() == pytest.approx(1000, rel=0.01)


WITHOUT_BLOOD = (
    *(Tissue.AIR, Tissue.SUBCUTANEOUS_FAT, Tissue.VISCERAL_FAT, Tissue.CORTICAL_BONE, Tissue.RIB, Tissue.SPINAL_CANAL),
    *(Tissue.GAS, Tissue.LUNG, Tissue.CONTENT, Tissue.GALLBLADDER, Tissue.URINE, Tissue.TABLE),
)


def test_every_tissue_has_a_material():
    assert set(MATERIALS) == set(Tissue)


@pytest.mark.parametrize("tissue", WITHOUT_BLOOD)
@pytest.mark.parametrize("phase", [0.0, 0.5, 1.0])
def test_what_has_no_blood_supply_takes_up_no_iodine(tissue, phase):
    assert MATERIALS[tissue].gain_hu(phase) == 0


@pytest.mark.parametrize("phase", np.linspace(0, 1, 5))
def test_iodine_only_adds_attenuation(phase):
    assert all(material.gain_hu(phase) >= 0 for material in MATERIALS.values())


def test_uptake_follows_the_bolus():
    gain = {phase: {tissue: MATERIALS[tissue].gain_hu(phase) for tissue in Tissue} for phase in (0.0, 1.0)}
    arterial, portal = gain[0.0], gain[1.0]
    for early in (Tissue.AORTA, Tissue.ARTERY, Tissue.HYPER_LESION, Tissue.PANCREAS):
        assert arterial[early] > portal[early]
    for late in (Tissue.LIVER, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.KIDNEY_MEDULLA):
        assert portal[late] > arterial[late]
    assert arterial[Tissue.AORTA] > arterial[Tissue.PORTAL_VEIN] > arterial[Tissue.HEPATIC_VEIN]
    assert arterial[Tissue.KIDNEY_CORTEX] > 3 * arterial[Tissue.KIDNEY_MEDULLA]
    assert RENAL_RETURN.gain_hu(0.0) > arterial[Tissue.VENA_CAVA]


def test_lesions_stand_out_from_the_liver_in_their_phase():
    liver, hypo, hyper = (MATERIALS[t] for t in (Tissue.LIVER, Tissue.HYPO_LESION, Tissue.HYPER_LESION))
    assert hypo.hu + hypo.gain_hu(1.0) < liver.hu + liver.gain_hu(1.0) - 30
    assert hyper.hu + hyper.gain_hu(0.0) > liver.hu + liver.gain_hu(0.0) + 30


def test_a_subjects_means_lie_within_the_spread_and_its_blood_is_one():
    rng = np.random.default_rng(4)
    for _ in range(20):
        drawn = materials_of_subject(rng)
        for tissue, material in MATERIALS.items():
            assert abs(drawn[tissue].hu - material.hu) <= material.spread_hu
        assert len({drawn[vessel].hu for vessel in VESSELS}) == 1
