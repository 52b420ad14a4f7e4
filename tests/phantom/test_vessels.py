import numpy as np
import pytest

from medgan.phantom.shapes import Ellipsoid
from medgan.phantom.tissues import HeadTissue, Tissue
from medgan.phantom.trunk import draw_trunk
from medgan.phantom.vessels import head_vessel_layers, vessel_layers


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


SKULL = Ellipsoid((0.0, -8.0, -20.0), (66.0, 84.0, 72.0))


def test_every_vessel_is_laid():
    laid = {layer.tissue for layer in head_vessel_layers(np.random.default_rng(0), SKULL)}
    vessels = {HeadTissue.VENOUS_SINUS, HeadTissue.VEIN, HeadTissue.ARTERY}
    assert laid == vessels | {HeadTissue.DURA, HeadTissue.PITUITARY}


def test_the_sagittal_sinus_follows_the_vault_in_the_midline(head):
    x, y, z = np.argwhere(head["labels"] == HeadTissue.VENOUS_SINUS).T
    high = z > 16
    assert np.abs(x[high] - 47.5).max() < 6
    assert len(np.unique(z[high])) > 6
    assert y[high].min() < 30
    assert y[high].max() > 80


def test_the_transverse_sinuses_lie_behind_on_both_sides(head):
    x, y, _ = np.argwhere(head["labels"] == HeadTissue.VENOUS_SINUS).T
    behind = y < 45
    assert (x[behind] < 38).sum() > 5
    assert (x[behind] > 57).sum() > 5


def test_arteries_lie_below_the_brains_middle_in_the_main(head_centre):
    assert head_centre(HeadTissue.ARTERY)[2] < -15
    assert abs(head_centre(HeadTissue.ARTERY)[0]) < 8


def test_the_pituitary_lies_in_the_midline_between_the_cavernous_sinuses(head_centre):
    x, y, z = head_centre(HeadTissue.PITUITARY)
    assert abs(x) < 5
    assert y > head_centre(HeadTissue.BRAINSTEM)[1]
    assert z < -40
