import numpy as np

from medgan.phantom.shapes import Ellipsoid
from medgan.phantom.tissues import HeadTissue, Tissue
from medgan.phantom.trunk import Trunk
from medgan.phantom.vessels import head_vessel_layers, vessel_layers


def test_the_great_vessels_lie_before_the_spine_and_pass_every_slice(subject, centre):
    assert centre(Tissue.AORTA)[0] < centre(Tissue.VENA_CAVA)[0]
    for vessel in (Tissue.AORTA, Tissue.VENA_CAVA):
        assert centre(vessel)[1] > centre(Tissue.DISC)[1]
        assert (subject["labels"] == vessel).any(axis=(0, 1)).all()
    area_mm2 = (subject["labels"] == Tissue.AORTA).sum(axis=(0, 1)) * (365 / 96) ** 2
    assert 14 < 2 * np.sqrt(np.median(area_mm2) / np.pi) < 27  # about two centimetres wide
    # The portal vein leads to the liver on the right.
    assert np.argwhere(subject["labels"] == Tissue.PORTAL_VEIN)[:, 0].max() > centre(Tissue.VENA_CAVA)[0]


def test_every_vessel_of_the_abdomen_is_laid():
    rng = np.random.default_rng(2)
    assert {layer.tissue for layer in vessel_layers(rng, Trunk.draw(rng))} - {Tissue.VISCERAL_FAT} == {
        *(Tissue.AORTA, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.RENAL_VEIN, Tissue.ARTERY),
    }


def test_every_vessel_of_the_head_is_laid():
    skull = Ellipsoid((0.0, -8.0, -20.0), (66.0, 84.0, 72.0))
    laid = {layer.tissue for layer in head_vessel_layers(np.random.default_rng(0), skull)}
    vessels = {HeadTissue.VENOUS_SINUS, HeadTissue.VEIN, HeadTissue.ARTERY}
    assert laid == vessels | {HeadTissue.DURA, HeadTissue.PITUITARY}


def test_the_sagittal_sinus_follows_the_vault_and_the_transverse_ones_lie_behind_on_both_sides(head):
    x, y, z = np.argwhere(head["labels"] == HeadTissue.VENOUS_SINUS).T
    high, behind = z > 16, y < 45
    assert np.abs(x[high] - 47.5).max() < 6
    assert len(np.unique(z[high])) > 6
    assert y[high].min() < 30
    assert y[high].max() > 80
    assert (x[behind] < 38).sum() > 5
    assert (x[behind] > 57).sum() > 5


def test_arteries_and_the_pituitary_lie_low_in_the_midline(head_centre):
    for tissue, below in ((HeadTissue.ARTERY, -15), (HeadTissue.PITUITARY, -40)):
        assert head_centre(tissue)[2] < below
        assert abs(head_centre(tissue)[0]) < 8
    assert abs(head_centre(HeadTissue.PITUITARY)[0]) < 5
    assert head_centre(HeadTissue.PITUITARY)[1] > head_centre(HeadTissue.BRAINSTEM)[1]
