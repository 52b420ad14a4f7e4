from medgan.phantom.tissues import LESIONS, VESSELS, Tissue


def test_label_values_fit_a_byte_and_air_is_zero():
    assert Tissue.AIR == 0
    assert sorted(Tissue) == list(range(len(Tissue)))
    assert max(Tissue) < 256


def test_no_vessel_is_a_lesion():
    assert not set(LESIONS) & set(VESSELS)
