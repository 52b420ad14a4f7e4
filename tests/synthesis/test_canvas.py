import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Canvas
from medgan.synthesis.shapes import Piece


@pytest.fixture
def canvas():
    labels = np.zeros((10, 10, 3), dtype=np.uint8)
    labels[7, 7, 1] = 2
    image = Prepared(np.zeros((10, 10, 3), np.float32), np.eye(4), ((0, 10), (0, 10), (0, 3)), (0.0, 100.0))
    return Canvas(Labelled("s", image, labels))


def piece(label=1):
    labels = np.zeros((5, 5, 1), dtype=np.uint8)
    labels[1:4, 1:4] = label
    return Piece("d", labels, np.full((5, 5, 1), 0.5, np.float32), (-1.0, 1.0))


def test_a_piece_is_placed_by_its_middle_and_other_labels_in_its_box_stay(canvas):
    site = canvas.site(piece(), (6, 5, 1), 0.0)
    canvas.insert(site, site.inserted, "d")
    assert {tuple(at) for at in np.argwhere(canvas.labels == 1)} == {(x, y, 1) for x in (5, 6, 7) for y in (4, 5, 6)}
    assert canvas.labels[7, 7, 1] == 2
    np.testing.assert_array_equal(canvas.image[canvas.labels == 1], 75)
    assert np.count_nonzero(canvas.image) == 9
    synthetic = canvas.result({"method": "m"})
    assert synthetic.parents == ("s", "d")
    assert synthetic.how == {
        "method": "m", "lesions": [{"source": "d", "voxels": 9, "place": [6, 5, 1]}], "refused": 0
    }  # fmt: skip


def test_a_region_may_take_away_labels(canvas):
    region = np.ones((5, 5, 1), dtype=bool)
    assert np.count_nonzero(canvas.under(piece(), (6, 6, 1))) == 1
    site = canvas.site(piece(), (6, 9, 1), 0.0, region)
    canvas.insert(site, site.inserted, "")
    assert canvas.labels[7, 7, 1] == 0
    assert canvas.result({}).parents == ("s",)


def test_a_piece_over_the_edge_is_cut_and_known_not_to_be_held(canvas):
    assert canvas.holds(piece(), (1, 1, 0))
    assert not canvas.holds(piece(), (0, 1, 0))
    assert not canvas.holds(piece(0), (5, 5, 1))
    site = canvas.site(piece(), (0, 0, 2), 0.0)
    assert site.labels.shape == site.before.shape == (3, 3, 1)
    assert not canvas.site(piece(), (30, 30, 9), 0.0).hidden.any()


def test_the_recipient_stays_as_it_is(canvas):
    site = canvas.site(piece(), (5, 5, 1), 2.0)
    canvas.insert(site, site.inserted, "d")
    assert not canvas.recipient.image.voxels.any()
    assert np.count_nonzero(canvas.recipient.labels) == 1
