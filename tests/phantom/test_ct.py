from dataclasses import replace

import numpy as np
import pytest

from medgan.phantom.kinds import KINDS
from medgan.phantom.space import Space, stream
from medgan.phantom.tissues import Tissue

CT = KINDS["abdomen_ct"]
ENHANCING = (Tissue.AORTA, Tissue.VENA_CAVA, Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.LIVER, Tissue.SPLEEN)
NEVER = (Tissue.GALLBLADDER, Tissue.SPINAL_CANAL, Tissue.LUNG, Tissue.GAS, Tissue.SUBCUTANEOUS_FAT, Tissue.AIR)


def gain_hu(volumes, where):
    """What iodine adds in some voxels, HU."""
    return volumes["contrast"][where].astype(float) - volumes["plain"][where]


def test_iodine_brightens_organs_and_hardly_anything_else_and_darkens_no_voxel(subject, core):
    assert all(gain_hu(subject, core(subject, tissue)).min() > 3 for tissue in ENHANCING)
    assert all(np.abs(gain_hu(subject, core(subject, tissue))).mean() < 1 for tissue in NEVER)
    assert gain_hu(subject, ...).min() >= -1
    for tissue in (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE, Tissue.RIB, Tissue.LUNG, Tissue.GAS):
        assert gain_hu(subject, subject["labels"] == tissue).mean() < 10


@pytest.mark.parametrize("tissue", [*ENHANCING, Tissue.MUSCLE, Tissue.GALLBLADDER, Tissue.CONTENT, Tissue.AIR])
def test_attenuation_without_iodine_is_that_of_the_tissue(subject, core, tissue):
    mean = tissue.attenuation
    layers_differ_hu = 16  # contents and gas pockets have an offset of their own; cores keep some partial volume
    assert abs(np.median(subject["plain"][core(subject, tissue)]) - mean.hu) <= mean.spread_hu + layers_differ_hu


def test_the_arterial_phase_fills_the_aorta_and_the_portal_phase_the_liver(core):
    scans = [CT.describe(0, number)["contrast"] for number in range(60)]
    assert all(0.8 <= scan["iodine"] <= 1.2 and 9 <= scan["noise_hu"] <= 16 for scan in scans)
    phases = [scan["phase"] for scan in scans]
    assert min(phases) < 0.15 < 0.85 < max(phases)
    gains = []
    for number in (np.argmin(phases), np.argmax(phases)):
        volumes = CT.render(0, int(number), shape=(48, 48, 10), noise=False)
        cores = (core(volumes, tissue) for tissue in (Tissue.AORTA, Tissue.LIVER))
        gains.append([np.median(gain_hu(volumes, inside)) / scans[number]["iodine"] for inside in cores])
    (early_aorta, early_liver), (late_aorta, late_liver) = gains
    assert early_aorta > late_aorta
    assert early_liver < late_liver
    assert early_aorta / early_liver > 4 > late_aorta / late_liver


def scanner(spacing_mm, shape=(96, 96, 12), number=0):
    return CT.examinations[0].scanner(lambda purpose: stream(0, number, purpose), Space.regular(shape, spacing_mm))


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


def test_a_subjects_means_lie_within_the_spread_and_its_blood_is_one():
    for number in range(20):
        drawn = scanner((9.0, 9.0, 9.0), (2, 2, 2), number).tissues
        assert all(abs(drawn[tissue].hu - tissue.attenuation.hu) <= tissue.attenuation.spread_hu for tissue in Tissue)
        assert len({drawn[tissue].hu for tissue in Tissue if tissue.relaxation.flows}) == 1
