import numpy as np
import pytest
from PIL import Image

from medgan.errors import DataError
from medgan.evaluation.synthesis.memorisation import nearest
from medgan.evaluation.synthesis.sheet import COLOURS, SUSPECT, contact_sheet

SIDE = 16 * 6


@pytest.fixture
def drawn(shape, make_lesions, tmp_path):
    def draw(order, suspects=()):
        samples, training = make_lesions(8, shape), make_lesions(9, shape, seed=1)
        marked = np.isin(np.arange(8), suspects)
        found = nearest(samples, training, real=False)
        contact_sheet(samples, training, found, marked, order, tmp_path / "sheet.png")
        return np.asarray(Image.open(tmp_path / "sheet.png"))

    return draw


def test_pairs_lie_in_rows_of_five(drawn):
    assert drawn([3]).shape == (SIDE + 6, 2 * SIDE + 6, 3)
    assert drawn(list(range(7))).shape == (2 * (SIDE + 6), 5 * (2 * SIDE + 6), 3)


def test_labels_are_outlined_on_both_sides_and_suspects_framed(drawn):
    picture = drawn([3], suspects=[3])
    assert (picture[0, 0] == SUSPECT).all()
    for half in (picture[:, : SIDE + 3], picture[:, SIDE + 3 :]):
        outline = (half == COLOURS[0]).all(axis=2)
        assert outline.any()
    assert not (drawn([3])[0, 0]).any()


def test_a_patch_is_shown_upright_from_the_feet(make_lesions, tmp_path):
    """As training panels: x, towards the patient's right, runs to the picture's left, and y, to the front, up."""
    samples = make_lesions(1, (16, 16))
    samples.images[:] = -1
    samples.labels[:] = 0
    samples.images[0, 15, 15] = 1
    found = nearest(samples, make_lesions(2, (16, 16), seed=1), real=False)
    contact_sheet(samples, make_lesions(2, (16, 16), seed=1), found, np.array([False]), [0], tmp_path / "s.png")
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert (picture[3:9, 3:9] == 255).all()


def test_a_sheet_that_cannot_be_written_is_said(make_lesions, tmp_path):
    samples = make_lesions(2, (16, 16))
    found = nearest(samples, samples, real=False)
    (tmp_path / "nowhere").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        contact_sheet(samples, samples, found, np.array([False, False]), [0], tmp_path / "nowhere" / "s.png")
