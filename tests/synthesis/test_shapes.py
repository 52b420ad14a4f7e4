import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.shapes import ShapeConfig, cut_piece, draw_map, lesions_of, marked_box, organ_of, reach_of

UNVARIED = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)
UNIT = np.array([1.0, 1.0, 2.0])


def rng(seed=0):
    return np.random.default_rng(seed)


def case_of(labels, affine=None):
    voxels = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    affine = np.diag([*UNIT, 1.0]) if affine is None else affine
    return Labelled("s", Prepared(voxels, affine, tuple((0, n) for n in labels.shape), (0.0, 100.0)), labels)


def test_lesions_that_touch_at_a_corner_are_one_and_others_apart():
    labels = np.zeros((8, 8, 2), dtype=np.uint8)
    labels[1, 1, 0] = labels[2, 2, 1] = 1
    labels[5, 5:7, 0] = 2
    first, second = lesions_of(case_of(labels))
    assert (first.voxels, second.voxels) == (2, 2)
    assert first.corner == (1, 1, 0)
    assert second.centre in {(5, 5, 0), (5, 6, 0)}


def test_a_lesions_box_holds_no_other_lesion():
    labels = np.zeros((9, 9, 1), dtype=np.uint8)
    labels[0:7, 0] = labels[6, 0:7] = 1  # an L, in whose box another lies
    labels[2, 4] = 1
    large, small = sorted(lesions_of(case_of(labels)), key=lambda lesion: -lesion.voxels)
    assert (large.voxels, small.voxels) == (13, 1)
    assert np.count_nonzero(large.labels) == 13


def test_the_centre_is_a_voxel_of_the_lesion_even_where_its_mean_is_not():
    labels = np.zeros((9, 9, 1), dtype=np.uint8)
    labels[1:8, 1] = labels[1:8, 7] = labels[1, 1:8] = 1
    (lesion,) = lesions_of(case_of(labels))
    assert labels[lesion.centre] == 1


def test_an_organ_is_all_that_is_marked():
    labels = np.zeros((9, 9, 3), dtype=np.uint8)
    assert organ_of(case_of(labels)) is None
    assert marked_box(labels) is None
    labels[2, 2, 0], labels[6, 7, 2] = 1, 2
    assert organ_of(case_of(labels)).voxels == 2
    assert [(part.start, part.stop) for part in marked_box(labels)] == [(2, 7), (2, 8), (0, 3)]


def test_an_unvaried_piece_is_the_source_to_the_bit(shape, with_lesions):
    (case,) = with_lesions(shape, 1)
    lesion = lesions_of(case)[0]
    half = (6, 6, 2 if shape[2] > 1 else 0)
    piece = cut_piece(case, lesion, np.eye(3), half, UNIT, UNVARIED, rng())
    around = tuple(slice(at - reach, at + reach + 1) for at, reach in zip(lesion.centre, half, strict=True))
    np.testing.assert_array_equal(piece.labels, case.labels[around])
    np.testing.assert_array_equal(piece.intensities(case.image.bounds), case.image.voxels[around])


def test_intensities_keep_their_place_in_the_window_of_another_scale():
    labels = np.zeros((3, 3, 1), dtype=np.uint8)
    labels[1, 1] = 1
    case = case_of(labels)  # voxel n has intensity n of 0 to 100
    piece = cut_piece(case, lesions_of(case)[0], np.eye(3), (1, 1, 0), UNIT, UNVARIED, rng())
    np.testing.assert_allclose(piece.intensities((500.0, 1500.0)), 500 + 10 * case.image.voxels, rtol=1e-5)


def test_a_quarter_turn_by_hand():
    labels = np.zeros((9, 9, 1), dtype=np.uint8)
    labels[2:7, 4], labels[6, 4] = 1, 2
    case = case_of(labels)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    piece = cut_piece(case, lesions_of(case)[0], turn, (4, 4, 0), UNIT, UNVARIED, rng())
    expected = np.zeros((9, 9, 1), dtype=np.uint8)
    for x, y, _ in np.argwhere(labels):  # what lay to the right lies in front, about the centre (4, 4)
        expected[4 - (y - 4), 4 + (x - 4)] = labels[x, y]
    np.testing.assert_array_equal(piece.labels, expected)


def test_another_spacing_keeps_the_size_in_millimetres():
    labels = np.zeros((30, 30, 1), dtype=np.uint8)
    labels[10:20, 10:20] = 1
    case = case_of(labels)
    piece = cut_piece(case, lesions_of(case)[0], np.eye(3), (14, 14, 0), np.array([0.5, 0.5, 2.0]), UNVARIED, rng())
    assert np.count_nonzero(piece.labels) * 0.25 == pytest.approx(100, rel=0.1)


def test_drawn_maps_keep_the_median_size_and_the_thickness_of_a_slice():
    config = ShapeConfig(scaling=0.2)
    random = rng(1)
    areas = [np.linalg.det(draw_map(config, random, flat=True)) for _ in range(400)]
    assert np.median(np.abs(areas)) == pytest.approx(1, abs=0.05)
    assert np.abs(areas).max() <= 1.2**2
    assert 0.35 < np.mean(np.array(areas) < 0) < 0.65  # mirrored
    deep = draw_map(config, random, flat=False)
    assert abs(np.linalg.det(deep)) == pytest.approx(abs(deep[2, 2]) ** 3)
    assert draw_map(config, random, flat=True)[2, 2] == 1


def test_no_voxel_is_lost_whatever_the_deformation():
    labels = np.zeros((15, 15, 5), dtype=np.uint8)
    labels[7, 7, 2] = 2
    case = case_of(labels)
    for seed in range(20):
        config = ShapeConfig(deformation_mm=3, scaling=0.5)
        random = rng(seed)
        matrix = draw_map(config, random, flat=False)
        piece = cut_piece(case, lesions_of(case)[0], matrix, (5, 5, 2), UNIT, config, random)
        assert piece.labels[5, 5, 2] == 2


def test_a_piece_reaches_as_far_as_its_lesion(shape, with_lesions):
    (case,) = with_lesions(shape, 1, radii=(4,))
    (lesion,) = lesions_of(case)
    random = rng(3)
    for _ in range(5):
        matrix = draw_map(ShapeConfig(scaling=0.3), random, flat=shape[2] == 1)
        half = reach_of(case, lesion, matrix, UNIT)
        wider = tuple(extent + 3 * (extent > 0) for extent in half)
        inner = cut_piece(case, lesion, matrix, half, UNIT, UNVARIED, rng())
        outer = cut_piece(case, lesion, matrix, wider, UNIT, UNVARIED, rng())
        assert np.count_nonzero(outer.labels) == np.count_nonzero(inner.labels) > 0


def test_parts_of_an_organ_stay_neighbours(shape, with_organ):
    (case,) = with_organ(shape, 1)
    random = rng(2)
    config = ShapeConfig(rotation_degrees=20)
    organ = organ_of(case)
    matrix = draw_map(config, random, flat=shape[2] == 1)
    half = tuple(extent + 2 * (extent > 0) for extent in reach_of(case, organ, matrix, UNIT))
    piece = cut_piece(case, organ, matrix, half, UNIT, config, random)
    assert set(np.unique(piece.labels)) == {0, 1, 2}
    whole = lesions_of(Labelled("s", case.image, piece.labels))
    assert max(lesion.voxels for lesion in whole) > 0.98 * np.count_nonzero(piece.labels)
