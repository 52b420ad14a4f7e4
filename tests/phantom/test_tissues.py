import numpy as np
import pytest

from medgan.phantom.tissues import (
    LESIONS,
    R1_PER_MMOL_S,
    R2_PER_MMOL_S,
    RENAL_RETURN,
    HeadTissue,
    Relaxation,
    Tissue,
)

WITHOUT_BLOOD = (
    *(Tissue.AIR, Tissue.SUBCUTANEOUS_FAT, Tissue.VISCERAL_FAT, Tissue.CORTICAL_BONE, Tissue.RIB, Tissue.SPINAL_CANAL),
    *(Tissue.GAS, Tissue.LUNG, Tissue.CONTENT, Tissue.GALLBLADDER, Tissue.URINE, Tissue.TABLE),
)
WITHOUT_GADOLINIUM = (
    *(HeadTissue.GREY_MATTER, HeadTissue.WHITE_MATTER, HeadTissue.DEEP_GREY, HeadTissue.BRAINSTEM),
    *(HeadTissue.CSF, HeadTissue.VENTRICLE, HeadTissue.VITREOUS, HeadTissue.LESION, HeadTissue.GAS, HeadTissue.AIR),
)


@pytest.mark.parametrize("tissues", [Tissue, HeadTissue])
def test_label_values_fit_a_byte_air_is_zero_and_transverse_relaxation_is_the_faster_one(tissues):
    assert tissues.AIR == 0
    assert sorted(tissues) == list(range(len(tissues)))
    assert len(tissues) < 256
    for tissue in tissues:
        assert 0 < tissue.relaxation.t2_ms < tissue.relaxation.t1_ms
        assert 0 <= tissue.relaxation.density <= 1
    assert not any(lesion.relaxation.flows for lesion in LESIONS)


def test_iodine_only_adds_and_what_has_no_blood_supply_takes_up_none():
    for phase in np.linspace(0, 1, 5):
        assert all(tissue.attenuation.gain_hu(phase) >= 0 for tissue in Tissue)
        assert all(tissue.attenuation.gain_hu(phase) == 0 for tissue in WITHOUT_BLOOD)


def test_uptake_follows_the_bolus_and_lesions_stand_out_from_the_liver_in_their_phase():
    arterial, portal = ({tissue: tissue.attenuation.gain_hu(phase) for tissue in Tissue} for phase in (0.0, 1.0))
    for early in (Tissue.AORTA, Tissue.ARTERY, Tissue.HYPER_LESION, Tissue.PANCREAS):
        assert arterial[early] > portal[early]
    for late in (Tissue.LIVER, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.KIDNEY_MEDULLA):
        assert portal[late] > arterial[late]
    assert arterial[Tissue.AORTA] > arterial[Tissue.PORTAL_VEIN] > arterial[Tissue.HEPATIC_VEIN]
    assert arterial[Tissue.KIDNEY_CORTEX] > 3 * arterial[Tissue.KIDNEY_MEDULLA]
    assert RENAL_RETURN.gain_hu(0.0) > arterial[Tissue.VENA_CAVA]
    liver, hypo, hyper = (tissue.attenuation.hu for tissue in (Tissue.LIVER, *LESIONS))
    assert hypo + portal[Tissue.HYPO_LESION] < liver + portal[Tissue.LIVER] - 30
    assert hyper + arterial[Tissue.HYPER_LESION] > liver + arterial[Tissue.LIVER] + 30


@pytest.mark.parametrize("mmol", [0.1, 0.5, 2.0])
def test_gadolinium_adds_to_both_rates_in_proportion_to_its_concentration(mmol):
    after = Relaxation(1000.0, 100.0, 1.0, uptake_mmol=mmol).enhanced()
    assert 1000 / after.t1_ms - 1 == pytest.approx(R1_PER_MMOL_S * mmol)
    assert 1000 / after.t2_ms - 10 == pytest.approx(R2_PER_MMOL_S * mmol)


def test_what_lies_behind_the_blood_brain_barrier_takes_up_nothing():
    assert not any(tissue.relaxation.uptake_mmol for tissue in WITHOUT_GADOLINIUM)
