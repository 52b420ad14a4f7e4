import numpy as np
import pytest
from scipy import ndimage

from medgan.phantom.brain import Brain, _Furrows, brain_layers
from medgan.phantom.shapes import Ellipsoid
from medgan.phantom.space import Space, Waves
from medgan.phantom.tissues import HEAD_LESIONS, HeadTissue

SPACE = Space.regular((50, 58, 24), (3.0, 3.0, 5.0))
SKULL = Ellipsoid((0.0, -8.0, -20.0), (66.0, 84.0, 72.0))
VOXEL_ML = 2 * 2 * 4 / 1000


def test_furrows_lie_where_the_field_vanishes_at_the_distance_their_slope_says_and_run_towards_the_centre():
    wave = Waves(np.array([[2 * np.pi / 40, 0.0, 0.0]]), np.array([0.0]), 1.0)  # zero at x = 10, 30, ...
    furrows = _Furrows(wave, (0.0, 0.0, 0.0), (1e6, 1e6, 1e6), 0.5)
    furrows.radial = 0.0
    at = Space.regular((81, 3, 3), (1.0, 1.0, 1.0))
    away = np.abs(np.abs(at.x) - 10)
    assert np.allclose(furrows.distance(at)[away < 3], away[away < 3] - 0.5, atol=0.4)
    # They run towards the centre.
    furrows = _Furrows(Waves.draw(np.random.default_rng(0), 1.0, (20, 30), 8), (0, 0, 0), (70, 70, 70), 0.5)
    furrows.radial = 1.0
    directions = np.random.default_rng(1).normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    angles = []
    for radius in (40, 68):
        x, y, z = (directions * radius).T[:, :, None, None]
        angles.append((furrows.distance(Space(x, y, z, (1, 1, 1))) + furrows.half_mm) / radius)
    assert np.allclose(*angles)
    assert angles[0].min() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_cortex_is_a_ribbon_of_three_millimetres_and_up_to_ten_lesions_lie_in_the_white_matter(seed):
    rng = np.random.default_rng(seed)
    brain = Brain.draw(rng, SKULL)
    white, hull = brain.white.distance(SPACE) < 0, brain.hull.distance(SPACE)
    assert not (white & (hull >= 0)).any()
    assert not (white & (np.abs(hull + 1.5) < 1)).any()
    assert brain.furrows.distance(SPACE)[white].min() > 2
    lesions = [layer for layer in brain_layers(rng, brain, lesions=True) if layer.tissue in HEAD_LESIONS]
    enhancing = [layer for layer in lesions if layer.tissue == HeadTissue.ENHANCING_LESION]
    assert 1 <= len(enhancing) <= len(lesions) <= 20  # of ten, each that enhances may be a ring of two
    for lesion in lesions:
        assert white[lesion.shape.grown(-2.0).distance(SPACE) < 0].all()


def test_the_boundary_of_grey_and_white_matter_is_folded(head):
    cortex = head["labels"] == HeadTissue.GREY_MATTER
    white = head["labels"] == HeadTissue.WHITE_MATTER
    white, cortex = white[:, :, 18], cortex[:, :, 18]
    border = (ndimage.binary_dilation(white) & cortex).sum()
    round_border = 2 * np.pi * np.sqrt((white | cortex).sum() / np.pi)
    assert border > 1.5 * round_border


@pytest.mark.parametrize(
    ("tissues", "least_ml", "most_ml"),
    [
        ((HeadTissue.GREY_MATTER,), 350, 800),
        ((HeadTissue.WHITE_MATTER,), 350, 700),
        ((HeadTissue.VENTRICLE,), 8, 50),
        ((HeadTissue.DEEP_GREY, HeadTissue.PALLIDUM), 20, 70),
        (HEAD_LESIONS, 0.3, 20),
    ],
)
def test_parts_have_the_volume_of_real_ones(head, tissues, least_ml, most_ml):
    assert least_ml < np.isin(head["labels"], tissues).sum() * VOXEL_ML < most_ml


def test_ventricles_lie_within_and_the_cerebellum_behind_and_below(head_centre):
    white, ventricles = head_centre(HeadTissue.WHITE_MATTER), head_centre(HeadTissue.VENTRICLE)
    assert np.abs(np.subtract(white, ventricles)).max() < 30
    cerebellum = head_centre(HeadTissue.CEREBELLAR_CORTEX, HeadTissue.CEREBELLAR_WHITE)
    assert cerebellum[1] < white[1] - 20
    assert cerebellum[2] < white[2] - 20
    assert head_centre(HeadTissue.BRAINSTEM)[1] > cerebellum[1] + 10
