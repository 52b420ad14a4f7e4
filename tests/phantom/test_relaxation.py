import numpy as np
import pytest

from medgan.phantom.relaxation import (
    ABDOMEN,
    BLOOD,
    HEAD,
    R1_PER_MMOL_S,
    R2_PER_MMOL_S,
    Relaxation,
    relaxation_of_subject,
)
from medgan.phantom.tissues import HeadTissue, Tissue

WITHOUT_GADOLINIUM = (
    *(HeadTissue.GREY_MATTER, HeadTissue.WHITE_MATTER, HeadTissue.DEEP_GREY, HeadTissue.BRAINSTEM),
    *(HeadTissue.CSF, HeadTissue.VENTRICLE, HeadTissue.VITREOUS, HeadTissue.LESION, HeadTissue.GAS, HeadTissue.AIR),
)


def test_every_tissue_has_its_times():
    assert set(ABDOMEN) == set(Tissue)
    assert set(HEAD) == set(HeadTissue)


@pytest.mark.parametrize("table", [ABDOMEN, HEAD], ids=["abdomen", "head"])
def test_transverse_relaxation_is_the_faster_one(table):
    for tissue in table.values():
        assert 0 < tissue.t2_ms < tissue.t1_ms
        assert 0 <= tissue.density <= 1


def test_gadolinium_adds_to_both_rates_in_proportion_to_its_concentration():
    for mmol in (0.1, 0.5, 2.0):
        before = Relaxation(1000.0, 100.0, 1.0, uptake_mmol=mmol)
        after = before.enhanced()
        assert 1000 / after.t1_ms - 1000 / before.t1_ms == pytest.approx(R1_PER_MMOL_S * mmol)
        assert 1000 / after.t2_ms - 1000 / before.t2_ms == pytest.approx(R2_PER_MMOL_S * mmol)
    assert Relaxation(1000.0, 100.0, 1.0, uptake_mmol=1.0).enhanced().t1_ms == pytest.approx(1 / (1e-3 + 4.78e-3))


@pytest.mark.parametrize("tissue", WITHOUT_GADOLINIUM)
def test_what_lies_behind_the_blood_brain_barrier_takes_up_nothing(tissue):
    assert HEAD[tissue].enhanced().t1_ms == pytest.approx(HEAD[tissue].t1_ms)


def test_a_subjects_times_lie_within_the_spread_and_its_blood_is_one():
    rng = np.random.default_rng(2)
    for _ in range(20):
        drawn = relaxation_of_subject(rng, HEAD)
        for tissue, mean in HEAD.items():
            assert abs(drawn[tissue].t1_ms / mean.t1_ms - 1) <= mean.spread + 1e-12
            assert abs(drawn[tissue].t2_ms / mean.t2_ms - 1) <= mean.spread + 1e-12
        assert len({drawn[tissue].t1_ms for tissue, mean in HEAD.items() if mean is BLOOD}) == 1


def test_the_dose_reaches_all_tissues_in_proportion():
    drawn = relaxation_of_subject(np.random.default_rng(3), HEAD)
    doses = [drawn[tissue].uptake_mmol / mean.uptake_mmol for tissue, mean in HEAD.items() if mean.uptake_mmol]
    assert np.allclose(doses, doses[0])
    assert 0.8 <= doses[0] <= 1.2
