import numpy as np
import pytest

from medgan.pictures.panels import panel, shown_slices
from medgan.pictures.tiles import Row, Tile
from medgan.pictures.views import view
from medgan.pictures.windows import SOFT_TISSUE


@pytest.mark.parametrize(
    ("depth", "slice_mm", "slices"),
    [
        (1, 5.0, [("axial", 0)]),
        (8, 5.0, [("axial", 6), ("axial", 2)]),  # 40 mm of 100: a stripe
        (60, 1.0, [("axial", 45), ("axial", 15), ("coronal", 60)]),
    ],
)
def test_a_volume_shows_several_slices_from_above_and_a_slice_itself(depth, slice_mm, slices):
    body = ((10, 120), (20, 100), (0, depth))
    assert shown_slices(body, np.diag([1.0, 1.0, slice_mm, 1.0])) == slices


def test_a_panels_caption_names_its_columns_and_its_picture_has_their_tiles():
    shown = view(np.zeros((8, 8, 1), np.float32))
    drawn = panel([Row([Tile(shown, SOFT_TISSUE, title) for title in ("source", "target")])] * 2, "contrast to plain")
    assert drawn.caption == "contrast to plain: source, target; the patient's right is on the left"
    assert drawn.picture("epoch 1").caption == drawn.caption
    assert min(drawn.picture().image.size) > 2 * 256
