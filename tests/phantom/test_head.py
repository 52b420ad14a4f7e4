import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.head import _sinuses, _Skull, _vessels
from medgan.phantom.shapes import Ellipsoid
from medgan.phantom.space import Space
from medgan.phantom.tissues import HeadTissue

SPACE = Space.regular((49, 57, 16), (4.0, 4.0, 7.5))
BRAIN = (HeadTissue.GREY_MATTER, HeadTissue.WHITE_MATTER)


def inside(shape):
    return shape.distance(SPACE) < 0


@pytest.mark.parametrize("seed", range(3))
def test_the_surfaces_lie_within_each_other_and_within_the_field_of_view(seed):
    skull = _Skull.draw(np.random.default_rng(seed))
    scalp, outer, inner = map(inside, (skull.scalp, skull.outer, skull.inner))
    assert inner.any()
    assert not (inner & ~outer).any()
    assert not (outer & ~scalp).any()
    assert not scalp[[0, -1]].any()
    assert not scalp[:, [0, -1]].any()


def test_from_outside_the_vault_is_skin_fat_bone_marrow_bone_grey_and_white_matter_and_bone_closes_the_brain_in(head):
    labels = head["labels"][:, 45:65, 18:22]
    order = (
        *(HeadTissue.SKIN, HeadTissue.FAT, HeadTissue.OUTER_TABLE, HeadTissue.DIPLOE, HeadTissue.INNER_TABLE),
        *(HeadTissue.GREY_MATTER, HeadTissue.WHITE_MATTER),
    )
    from_middle = np.broadcast_to(np.abs(np.arange(96) - 47.5)[:, None, None], labels.shape)
    distances = [from_middle[labels == tissue].mean() for tissue in order]
    assert distances == sorted(set(distances), reverse=True)
    # The brain is closed in by bone above the base.
    labels = head["labels"][:, :, 12:26]
    brain = ndimage.binary_dilation(np.isin(labels, BRAIN), iterations=2)
    skin = np.isin(labels, (HeadTissue.SKIN, HeadTissue.FAT, HeadTissue.AIR))
    assert not (brain & skin).any()


def test_eyes_lie_in_front_below_the_brain_on_both_sides(head, head_centre):
    x, y, z = head_centre(HeadTissue.VITREOUS)
    assert abs(x) < 8
    assert y > head_centre(*BRAIN)[1] + 40
    assert z < head_centre(*BRAIN)[2] - 20
    assert 3 < (head["labels"] == HeadTissue.VITREOUS).sum() * 2 * 2 * 4 / 1000 / 2 < 8  # ml each


def test_all_vessels_are_laid_and_the_sinuses_follow_the_vault_and_lie_behind_on_both_sides(head):
    skull, rng = Ellipsoid((0.0, -8.0, -20.0), (66.0, 84.0, 72.0)), np.random.default_rng(0)
    assert {layer.tissue for layer in _sinuses(rng, skull)} == {HeadTissue.VENOUS_SINUS, HeadTissue.DURA}
    vessels = {HeadTissue.VENOUS_SINUS, HeadTissue.VEIN, HeadTissue.ARTERY}
    assert {layer.tissue for layer in _vessels(rng, skull)} == vessels | {HeadTissue.PITUITARY}
    x, y, z = np.argwhere(head["labels"] == HeadTissue.VENOUS_SINUS).T
    high, behind = z > 16, y < 45
    assert np.abs(x[high] - 47.5).max() < 6
    assert len(np.unique(z[high])) > 6
    assert y[high].min() < 30
    assert y[high].max() > 80
    assert (x[behind] < 38).sum() > 5
    assert (x[behind] > 57).sum() > 5


def test_arteries_and_the_pituitary_lie_low_in_the_midline(head_centre):
    for tissue, below, aside in ((HeadTissue.ARTERY, -15, 8), (HeadTissue.PITUITARY, -40, 5)):
        assert head_centre(tissue)[2] < below
        assert abs(head_centre(tissue)[0]) < aside
    assert head_centre(HeadTissue.PITUITARY)[1] > head_centre(HeadTissue.BRAINSTEM)[1]


def test_scalp_and_skull_have_the_thickness_of_real_ones(head):
    profile = head["labels"][:, 56, 20]
    bone = np.isin(profile, (HeadTissue.OUTER_TABLE, HeadTissue.DIPLOE, HeadTissue.INNER_TABLE)).sum() / 2 * 2
    scalp = np.isin(profile, (HeadTissue.SKIN, HeadTissue.FAT, HeadTissue.MUSCLE)).sum() / 2 * 2
    assert 3 <= bone <= 11
    assert 3 <= scalp <= 12
