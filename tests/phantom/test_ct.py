from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.ct import ATTENUATION, RENAL_RETURN, attenuation_of_subject
from medgan.phantom.kinds import KINDS
from medgan.phantom.space import Space, stream
from medgan.phantom.tissues import VESSELS, Tissue

CT = KINDS["abdomen_ct"]
ENHANCING = (Tissue.AORTA, Tissue.VENA_CAVA, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.LIVER, Tissue.SPLEEN)
NEVER = (Tissue.GALLBLADDER, Tissue.SPINAL_CANAL, Tissue.LUNG, Tissue.GAS, Tissue.SUBCUTANEOUS_FAT, Tissue.AIR)
WITHOUT_BLOOD = (
    *(Tissue.AIR, Tissue.SUBCUTANEOUS_FAT, Tissue.VISCERAL_FAT, Tissue.CORTICAL_BONE, Tissue.RIB, Tissue.SPINAL_CANAL),
    *(Tissue.GAS, Tissue.LUNG, Tissue.CONTENT, Tissue.GALLBLADDER, Tissue.URINE, Tissue.TABLE),
)


def gain_hu(volumes, where):
    """What iodine adds in some voxels, HU."""
    return volumes["contrast"][where].astype(float) - volumes["plain"][where]


@pytest.mark.parametrize("tissue", ENHANCING)
def test_iodine_brightens_every_voxel_of_enhancing_organs(subject, core, tissue):
    assert gain_hu(subject, core(tissue)).min() > 3


@pytest.mark.parametrize("tissue", NEVER)
def test_iodine_leaves_what_has_no_blood_as_it_is(subject, core, tissue):
    assert np.abs(gain_hu(subject, core(tissue))).mean() < 1


def test_iodine_never_darkens_a_voxel_and_hardly_changes_bone_and_gas_even_with_partial_volume(subject):
    assert gain_hu(subject, ...).min() >= -1
    for tissue in (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE, Tissue.RIB, Tissue.LUNG, Tissue.GAS):
        assert gain_hu(subject, subject["labels"] == tissue).mean() < 10


@pytest.mark.parametrize("tissue", [*ENHANCING, Tissue.MUSCLE, Tissue.GALLBLADDER, Tissue.CONTENT, Tissue.AIR])
def test_attenuation_without_iodine_is_that_of_the_tissue(subject, core, tissue):
    mean = ATTENUATION[tissue]
    layers_differ_hu = 16  # contents and gas pockets have an offset of their own; cores keep some partial volume
    assert abs(np.median(subject["plain"][core(tissue)]) - mean.hu) <= mean.spread_hu + layers_differ_hu


def test_the_arterial_phase_fills_the_aorta_and_the_portal_phase_the_liver():
    def scan(number):
        return CT.describe(0, number)["plain"]

    order = sorted(range(20), key=lambda number: scan(number)["phase"])
    gains = []
    for number in (order[0], order[-1]):
        volumes = CT.render(0, number, shape=(64, 64, 12), noise=False)
        cores = {t: ndimage.binary_erosion(volumes["labels"] == t) for t in (Tissue.AORTA, Tissue.LIVER)}
        gains.append({t: np.median(gain_hu(volumes, c)) / scan(number)["iodine"] for t, c in cores.items()})
    early, late = gains
    assert early[Tissue.AORTA] > late[Tissue.AORTA]
    assert early[Tissue.LIVER] < late[Tissue.LIVER]
    assert early[Tissue.AORTA] / early[Tissue.LIVER] > 4 > late[Tissue.AORTA] / late[Tissue.LIVER]


def test_scans_are_set_within_the_ranges_of_real_ones():
    scans = [CT.describe(0, number)["contrast"] for number in range(60)]
    assert all(0.8 <= scan["iodine"] <= 1.2 and 9 <= scan["noise_hu"] <= 16 for scan in scans)
    phases = np.array([scan["phase"] for scan in scans])
    assert phases.min() < 0.15
    assert phases.max() > 0.85


def scanner(spacing_mm, shape=(96, 96, 12)):
    return CT.examinations[0].scanner(lambda purpose: stream(0, 0, purpose), Space.regular(shape, spacing_mm))


def noise(spacing_mm):
    """The noise of both scans of water, in units of its deviation."""
    water = scanner(spacing_mm)
    water.hu[:] = 0
    return [scan / water.scan.noise_hu for scan in water.images(noise=True).values()]


def test_noise_has_unit_deviation_in_mid_body_less_towards_the_skin_and_none_on_average():
    for values in noise((3.8, 3.8, 5.0)):
        assert values[40:56, 40:56].std() == pytest.approx(0.97, abs=0.06)
        assert values[2:10, 40:56].std() < 0.7
        assert abs(values.mean()) < 0.02


def test_noise_is_correlated_within_slices_and_not_between_them_or_between_scans():
    contrast, plain = noise((0.1, 0.1, 5.0))
    assert np.corrcoef(plain[1:].ravel(), plain[:-1].ravel())[0, 1] > 0.1
    assert abs(np.corrcoef(plain[..., 1:].ravel(), plain[..., :-1].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(contrast.ravel(), plain.ravel())[0, 1]) < 0.05


def test_voxels_are_stored_as_whole_hu_of_a_12_bit_scanner_after_a_blur_within_slices():
    shown = scanner((1.0, 1.0, 1.0), (15, 15, 3))
    shown.scan = replace(shown.scan, blur_mm=0.0)
    shown.hu[:] = np.array([-2000.0, 40.4, 40.50001, 40.49999, 9000.0]).repeat(135).reshape(15, 15, 3)
    assert np.unique(shown.images(noise=False)["plain"]).tolist() == [-1024, 40, 3071]
    shown.scan = replace(shown.scan, blur_mm=2.0)
    shown.hu[:] = 0
    shown.hu[7, 7, 1] = 3000.0
    spread = shown.images(noise=False)["plain"]
    assert spread[7, 7, 1] < 300
    assert spread[..., [0, 2]].sum() == 0
    assert spread.sum() == pytest.approx(3000, rel=0.02)


# The table of tissues.


def test_every_tissue_has_an_attenuation_and_what_has_no_blood_supply_takes_up_no_iodine():
    assert set(ATTENUATION) == set(Tissue)
    for phase in np.linspace(0, 1, 5):
        assert all(mean.gain_hu(phase) >= 0 for mean in ATTENUATION.values())
        assert all(ATTENUATION[tissue].gain_hu(phase) == 0 for tissue in WITHOUT_BLOOD)


def test_uptake_follows_the_bolus():
    arterial, portal = ({tissue: ATTENUATION[tissue].gain_hu(phase) for tissue in Tissue} for phase in (0.0, 1.0))
    for early in (Tissue.AORTA, Tissue.ARTERY, Tissue.HYPER_LESION, Tissue.PANCREAS):
        assert arterial[early] > portal[early]
    for late in (Tissue.LIVER, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.KIDNEY_MEDULLA):
        assert portal[late] > arterial[late]
    assert arterial[Tissue.AORTA] > arterial[Tissue.PORTAL_VEIN] > arterial[Tissue.HEPATIC_VEIN]
    assert arterial[Tissue.KIDNEY_CORTEX] > 3 * arterial[Tissue.KIDNEY_MEDULLA]
    assert RENAL_RETURN.gain_hu(0.0) > arterial[Tissue.VENA_CAVA]


def test_lesions_stand_out_from_the_liver_in_their_phase():
    liver, hypo, hyper = (ATTENUATION[t] for t in (Tissue.LIVER, Tissue.HYPO_LESION, Tissue.HYPER_LESION))
    assert hypo.hu + hypo.gain_hu(1.0) < liver.hu + liver.gain_hu(1.0) - 30
    assert hyper.hu + hyper.gain_hu(0.0) > liver.hu + liver.gain_hu(0.0) + 30


def test_a_subjects_means_lie_within_the_spread_and_its_blood_is_one():
    rng = np.random.default_rng(4)
    for _ in range(20):
        drawn = attenuation_of_subject(rng)
        assert all(abs(drawn[tissue].hu - mean.hu) <= mean.spread_hu for tissue, mean in ATTENUATION.items())
        assert len({drawn[vessel].hu for vessel in VESSELS}) == 1
