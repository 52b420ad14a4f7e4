import numpy as np
import pytest

from medgan.phantom.tissues import Tissue
from medgan.phantom.trunk import draw_trunk
from medgan.phantom.vessels import vessel_layers


def test_the_aorta_lies_left_of_the_vena_cava_and_both_before_the_spine(centre):
    assert centre(Tissue.AORTA)[0] < centre(Tissue.VENA_CAVA)[0]
    for vessel in (Tissue.AORTA, Tissue.VENA_CAVA):
        assert centre(vessel)[1] > centre(Tissue.DISC)[1]


@pytest.mark.parametrize("vessel", [Tissue.AORTA, Tissue.VENA_CAVA])
def test_the_great_vessels_pass_every_slice(subject, vessel):
    assert (subject["labels"] == vessel).any(axis=(0, 1)).all()


def test_the_portal_vein_leads_to_the_liver_on_the_right(subject, centre):
    x = np.argwhere(subject["labels"] == Tissue.PORTAL_VEIN)[:, 0]
    assert x.max() > centre(Tissue.VENA_CAVA)[0]


def test_the_aorta_is_about_two_centimetres_wide(subject):
    area_mm2 = (subject["labels"] == Tissue.AORTA).sum(axis=(0, 1)) * (365 / 96) ** 2
    assert 14 < 2 * np.sqrt(np.median(area_mm2) / np.pi) < 27


def test_every_vessel_of_the_phantom_is_laid():
    rng = np.random.default_rng(2)
    assert {layer.tissue for layer in vessel_layers(rng, draw_trunk(rng))} - {Tissue.VISCERAL_FAT} == {
        *(Tissue.AORTA, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.RENAL_VEIN, Tissue.ARTERY),
    }
