import numpy as np

from medgan.phantom.head_vessels import head_vessel_layers
from medgan.phantom.shapes import Ellipsoid
from medgan.phantom.tissues import HeadTissue

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
