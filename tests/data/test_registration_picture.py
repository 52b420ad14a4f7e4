import numpy as np
from PIL import Image

from medgan.data.domains import domain_named
from medgan.data.registration_picture import FIELDS, checkerboard, draw_pair


def test_the_fields_of_a_board_take_turns():
    board = checkerboard(np.zeros((16, 24)), np.ones((16, 24)))
    edge = 16 // FIELDS
    assert board[:edge, :edge].max() == 0
    assert board[edge : 2 * edge, :edge].min() == 1
    assert board[edge : 2 * edge, edge : 2 * edge].max() == 0
    assert board.mean() == 0.5


def test_planes_smaller_than_the_board_are_drawn_voxel_by_voxel():
    np.testing.assert_array_equal(checkerboard(np.zeros((2, 3)), np.ones((2, 3))), [[0, 1, 0], [1, 0, 1]])


def test_a_picture_is_a_png_with_light_and_dark(scan, tmp_path):
    fixed, moved = scan("MR"), scan("CT")
    domains = (domain_named("mr"), domain_named("ct"))
    draw_pair(fixed.voxels, moved.voxels, domains, fixed.grid.spacing_mm, tmp_path / "a" / "s1.png", "s1: accepted")
    with Image.open(tmp_path / "a" / "s1.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 30
