import numpy as np

from medgan.training.panel import panel


def test_a_panel_shows_a_case_a_row_seen_from_the_feet_at_a_fixed_window():
    image = np.zeros((4, 6, 3), dtype=np.float32)
    image[0, 5, 1] = 100.0  # left and in front, since x grows to the patient's right and y to the front
    other = np.full((2, 3, 1), 50.0, dtype=np.float32)
    picture = panel([[image, other], [other, image]], 0.0, 100.0)
    assert picture.shape == (2 * 6, 2 * 4)
    assert picture.dtype == np.uint8
    # The front is above, and the patient's left is on the right.
    assert picture[0, 3] == 255
    assert picture[6, 7] == 255
    assert (picture[0:3, 4:6] == 128).all()
    assert (picture[3:6, 4:8] == 0).all()


def test_a_panel_clips_what_lies_beyond_its_window():
    image = np.array([-1000.0, 0.0, 3000.0], dtype=np.float32).reshape(3, 1, 1)
    assert panel([[image]], -100.0, 100.0).tolist() == [[255, 128, 0]]
