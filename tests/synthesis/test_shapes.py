from functools import cache

import numpy as np
import pytest
from scipy import ndimage

import labelled_cases
from medgan.errors import DataError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis import shapes
from medgan.synthesis.shapes import (
    ShapeConfig,
    ShapeModel,
    _draw_map,
    _radius_mm,
    cut_piece,
    lesions_of,
    organ_of,
    reach_of,
)

UNIT = np.array([1.0, 1.0, 2.0])


def rng(seed=0):
    return np.random.default_rng(seed)


def case_of(labels):
    """Voxel n has intensity n of 0 to 100."""
    voxels = np.arange(labels.size).reshape(labels.shape)
    return labelled_cases.case_of(labels, voxels, affine=np.diag([*UNIT, 1.0]), bounds=(0.0, 100.0))


def test_lesions_that_touch_at_a_corner_are_one_and_others_in_their_box_are_left_out():
    labels = np.zeros((9, 9, 2), dtype=np.uint8)
    labels[0:7, 0, 0] = labels[6, 0:7, 0] = labels[7, 7, 1] = 1  # an L and a voxel at its corner; in its box another
    labels[2, 4, 0] = 2
    large, small = sorted(lesions_of(case_of(labels)), key=lambda lesion: -lesion.voxels)
    assert (large.voxels, small.voxels) == (14, 1)
    assert np.count_nonzero(large.labels) == 14
    assert (large.corner, small.corner, small.centre) == ((0, 0, 0), (2, 4, 0), (2, 4, 0))


def test_the_centre_is_a_voxel_of_the_lesion_even_where_its_mean_is_not_and_an_organ_is_all_that_is_marked():
    labels = np.zeros((9, 9, 1), dtype=np.uint8)
    labels[1:8, 1] = labels[1:8, 7] = labels[1, 1:8] = 1
    (lesion,) = lesions_of(case_of(labels))
    assert labels[lesion.centre] == 1
    labels = np.zeros((9, 9, 3), dtype=np.uint8)
    with pytest.raises(InsertionError, match="s has no label that could be replaced"):
        organ_of(case_of(labels))
    labels[2, 2, 0], labels[6, 7, 2] = 1, 2
    organ = organ_of(case_of(labels))
    assert (organ.voxels, organ.corner, organ.labels.shape) == (2, (2, 2, 0), (5, 6, 3))


def test_an_unvaried_piece_is_the_source_to_the_bit(shape, with_lesions):
    (case,) = with_lesions(shape, 1)
    lesion = lesions_of(case)[0]
    half = (6, 6, 2 if shape[2] > 1 else 0)
    piece = cut_piece(case, lesion, UNIT, rng(), least=half)
    around = tuple(slice(at - reach, at + reach + 1) for at, reach in zip(lesion.centre, half, strict=True))
    np.testing.assert_array_equal(piece.labels, case.labels[around])
    np.testing.assert_array_equal(piece.intensities(case.image.bounds), case.image.voxels[around])


def test_a_piece_reaches_as_far_as_its_lesion_and_has_room_around_it_but_none_above_a_slice(shape, with_lesions):
    (case,) = with_lesions(shape, 1, radii=(4,))
    (lesion,) = lesions_of(case)
    narrow, wide = (cut_piece(case, lesion, UNIT, rng(), room_mm=room_mm) for room_mm in (0, 3.5))
    thick = shape[2] > 1
    assert np.subtract(wide.half, narrow.half).tolist() == [4, 4, 2 * thick]
    assert narrow.half == reach_of(case, lesion, UNIT)
    rigid = ShapeConfig(scaling=0.3, deformation_mm=0)
    for seed in range(5):
        inner, outer = (cut_piece(case, lesion, UNIT, rng(seed), variation=rigid, room_mm=room) for room in (0, 4))
        assert np.count_nonzero(outer.labels) == np.count_nonzero(inner.labels) > 0


def test_intensities_keep_their_place_in_the_window_of_another_scale():
    labels = np.zeros((3, 3, 1), dtype=np.uint8)
    labels[1, 1] = 1
    case = case_of(labels)
    piece = cut_piece(case, lesions_of(case)[0], UNIT, rng(), least=(1, 1, 0))
    np.testing.assert_allclose(piece.intensities((500.0, 1500.0)), 500 + 10 * case.image.voxels, rtol=1e-5)


def test_a_quarter_turn_by_hand(monkeypatch):
    labels = np.zeros((9, 9, 1), dtype=np.uint8)
    labels[2:7, 4], labels[6, 4] = 1, 2
    case = case_of(labels)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    monkeypatch.setattr(shapes, "_draw_map", lambda *_, **__: turn)
    piece = cut_piece(case, lesions_of(case)[0], UNIT, rng(), variation=ShapeConfig(deformation_mm=0), least=(4, 4, 0))
    expected = np.zeros((9, 9, 1), dtype=np.uint8)
    for x, y, _ in np.argwhere(labels):  # what lay to the right lies in front, about the centre (4, 4)
        expected[4 - (y - 4), 4 + (x - 4)] = labels[x, y]
    np.testing.assert_array_equal(piece.labels, expected)


def test_another_spacing_keeps_the_size_in_millimetres():
    labels = np.zeros((30, 30, 1), dtype=np.uint8)
    labels[10:20, 10:20] = 1
    case = case_of(labels)
    piece = cut_piece(case, lesions_of(case)[0], np.array([0.5, 0.5, 2.0]), rng(), room_mm=2)
    assert np.count_nonzero(piece.labels) * 0.25 == pytest.approx(100, rel=0.1)


def test_drawn_maps_keep_the_median_size_and_the_thickness_of_a_slice():
    config = ShapeConfig(scaling=0.2)
    random = rng(1)
    areas = [np.linalg.det(_draw_map(config, random, flat=True)) for _ in range(400)]
    assert np.median(np.abs(areas)) == pytest.approx(1, abs=0.05)
    assert np.abs(areas).max() <= 1.2**2
    assert 0.35 < np.mean(np.array(areas) < 0) < 0.65  # mirrored
    deep = _draw_map(config, random, flat=False)
    assert abs(np.linalg.det(deep)) == pytest.approx(abs(deep[2, 2]) ** 3)
    assert _draw_map(config, random, flat=True)[2, 2] == 1


def test_no_voxel_is_lost_whatever_the_deformation():
    labels = np.zeros((15, 15, 5), dtype=np.uint8)
    labels[7, 7, 2] = 2
    case = case_of(labels)
    (lesion,), variation = lesions_of(case), ShapeConfig(deformation_mm=3, scaling=0.5)
    for seed in range(20):
        piece = cut_piece(case, lesion, UNIT, rng(seed), variation=variation)
        assert piece.labels[piece.half] == 2


def test_parts_of_an_organ_stay_neighbours(shape, with_organ):
    (case,) = with_organ(shape, 1)
    piece = cut_piece(case, organ_of(case), UNIT, rng(2), variation=ShapeConfig(rotation_degrees=20))
    assert set(np.unique(piece.labels)) == {0, 1, 2}
    whole = lesions_of(Labelled("s", case.image, piece.labels))
    assert max(lesion.voxels for lesion in whole) > 0.98 * np.count_nonzero(piece.labels)


# New masks look like the real ones, are none of them, and keep what goes together.

BOTH = pytest.mark.parametrize("flat", [True, False], ids=["2d", "3d"])
ONE = (1.0, 1.0, 1.0)


def blob(radii, flat, names=1):
    """An ellipsoid; with two names its lower half along y is the second."""
    x, y, z = (np.arange(-12, 13) for _ in range(3))
    z = z[12:13] if flat else z
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
    return np.where(inside, 1 + (names == 2) * (y < 0), 0).astype(np.uint8)


def cohort(flat, names=1, count=8):
    """Ellipsoids that are the longer the larger they are."""
    rng = np.random.default_rng(0)
    sizes = np.linspace(3, 6, count)
    return [blob(size * np.array([(size / 4) ** 0.8, 1.0, rng.uniform(0.8, 1.1)]), flat, names) for size in sizes]


@cache
def fitted(flat, names=1, **variance):
    masks = cohort(flat, names)
    return masks, ShapeModel.fit([(mask, ONE) for mask in masks], names, **variance)


def dice(one, other):
    """Of two masks laid centre on centre in a box that holds both."""
    box = np.zeros((2, 41, 41, 41), dtype=bool)
    for canvas, mask in zip(box, (one, other), strict=True):
        voxels = np.argwhere(mask)
        canvas[tuple((voxels - np.rint(voxels.mean(axis=0)).astype(int) + 20).T)] = True
    return 2 * (box[0] & box[1]).sum() / box.sum()


@BOTH
def test_the_radius_is_that_of_an_equally_large_ball_or_disc(flat):
    mask = blob((6, 6, 6), flat)
    assert _radius_mm(mask, ONE, flat) == pytest.approx(6, rel=0.03)
    assert _radius_mm(mask, (2.0, 2.0, 2.0), flat) == pytest.approx(12, rel=0.03)


def drawn_of(model, count, **novelty):
    random = rng()
    return [model.draw(ONE, random, **novelty) for _ in range(count)]


@BOTH
def test_without_novelty_the_real_masks_come_back(flat):
    masks, model = fitted(flat, variance_kept=1.0)
    assert min(max(dice(drawn, mask) for mask in masks) for drawn in drawn_of(model, 8, novelty=0.0)) > 0.9


@BOTH
def test_new_masks_are_none_of_the_real_ones_as_large_and_keep_what_goes_together(flat):
    masks, model = fitted(flat)
    drawn = drawn_of(model, 60)
    assert min(max(dice(mask, real) for real in masks) for mask in drawn[:20]) < 0.93
    sizes, real = (np.array([_radius_mm(mask, ONE, flat) for mask in some]) for some in (drawn, masks))
    assert abs(np.log(sizes).mean() - np.log(real).mean()) < 0.15
    assert 0.5 * real.min() < sizes.min() < sizes.max() < 1.5 * real.max()
    assert sizes.std() > 0.4 * real.std()
    # Large ones are long in this cohort; independent draws of size and shape would lose it.
    lengths = [np.ptp(voxels[:, 0]) / np.ptp(voxels[:, 1]) for voxels in map(np.argwhere, drawn)]
    assert np.corrcoef([np.count_nonzero(mask) for mask in drawn], lengths)[0, 1] > 0.4


@BOTH
def test_mixtures_of_long_shapes_that_point_different_ways_are_no_smaller(flat):
    masks = [blob(radii, flat) for radii in ((9, 3, 4), (3, 9, 4))] * 4
    model = ShapeModel.fit([(mask, ONE) for mask in masks], 1)
    sizes = [_radius_mm(mask, ONE, flat) for mask in drawn_of(model, 30, novelty=1.0)]
    assert np.median(sizes) == pytest.approx(_radius_mm(masks[0], ONE, flat), rel=0.06)


@BOTH
def test_every_mask_is_one_thing_in_an_odd_box_around_its_middle_and_names_keep_their_sides(flat):
    masks, model = fitted(flat, names=2)
    share = np.mean([np.mean(mask[mask > 0] == 2) for mask in masks])
    for drawn in drawn_of(model, 15):
        assert drawn.dtype == np.uint8
        assert all(size % 2 for size in drawn.shape)
        assert (drawn.shape[2] == 1) is flat
        assert ndimage.label(drawn, np.ones((3, 3, 3)))[1] == 1
        middle = np.argwhere(drawn).mean(axis=0)
        assert np.abs(middle - np.array(drawn.shape) // 2).max() < 1.5
        assert np.argwhere(drawn == 2)[:, 1].mean() < np.argwhere(drawn == 1)[:, 1].mean()
        assert np.mean(drawn[drawn > 0] == 2) == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize(("flat", "spacing", "times"), [(True, (0.5, 0.5, 1.0), 4), (False, (0.5, 1.0, 0.5), 4)])
def test_a_mask_has_its_size_in_millimetres_whatever_the_grid(flat, spacing, times):
    _, model = fitted(flat)
    coarse, fine = (model.draw(step, rng(3)) for step in (ONE, spacing))
    assert np.count_nonzero(fine) == pytest.approx(times * np.count_nonzero(coarse), rel=0.1)


def test_masks_of_other_spacings_are_learnt_in_millimetres():
    masks = [mask[:, :, ::2] for mask in cohort(flat=False)]
    model = ShapeModel.fit([(mask, (1.0, 1.0, 2.0)) for mask in masks], 1)
    drawn = model.draw(ONE, np.random.default_rng(0), novelty=0.0)
    extent = np.ptp(np.argwhere(drawn), axis=0)
    assert extent[2] == pytest.approx(extent[1], abs=3)


@BOTH
def test_equal_chance_gives_equal_masks(flat):
    _, model = fitted(flat)
    one, same, other = (model.draw(ONE, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_tiny_mask_is_one_voxel_at_least_and_too_few_masks_are_refused_with_what_to_do():
    _, model = fitted(flat=False)
    assert np.count_nonzero(model.draw((30.0, 30.0, 30.0), rng())) == 1
    mask, speck = blob((4, 4, 4), flat=False), np.ones((1, 1, 1), dtype=np.uint8)
    with pytest.raises(DataError, match=r"1 of 2 masks have 6 voxels or more; .*vary the real ones instead"):
        ShapeModel.fit([(mask, ONE), (speck, ONE)], 1)
