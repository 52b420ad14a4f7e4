import numpy as np
import pytest

from medgan.phantom.materials import MATERIALS, RENAL_RETURN, materials_of_subject
from medgan.phantom.tissues import VESSELS, Tissue

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
