from dataclasses import replace

import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.errors import InsertionError
from medgan.synthesis.placement import LesionSites, body_coordinates, voxel_at
from medgan.synthesis.shapes import lesions_of


def disc(radius):
    x, y = np.meshgrid(*[np.arange(-radius, radius + 1)] * 2, indexing="ij")
    return (np.hypot(x, y) <= radius)[..., None]


def prepared(shape, body):
    return Prepared(np.zeros(shape, np.float32), np.eye(4), body, (0.0, 1.0))


def test_tissue_is_what_lies_around_real_lesions(shape, with_lesions):
    sites = LesionSites.of(with_lesions(shape, 3), 80.0)
    # The brain is 100 of 0 to 200, so 0 of -1 to 1; lesions of 160 and air of 0 are other tissue.
    assert -0.05 < sites.tissue[0] < 0 < sites.tissue[1] < 0.05
    assert sites.density.sum() == pytest.approx(1)


def test_what_lesions_touch_besides_is_no_tissue(shape, with_lesions):
    """A quarter of what lies around them is brighter, as cortex is on T2: percentiles at both ends would let it in."""
    cases = []
    for case in with_lesions(shape, 3):
        voxels = case.image.voxels.copy()
        for lesion in lesions_of(case):
            x, y, _ = np.indices(voxels.shape) - np.array(lesion.centre)[:, None, None, None]
            voxels[(x > 0) & (y > 0) & (np.hypot(x, y) < 7) & (case.labels == 0)] = 140
        cases.append(replace(case, image=replace(case.image, voxels=voxels)))
    lower, upper = LesionSites.of(cases, 70.0).tissue
    assert -0.05 < lower < 0 < upper < 0.1
    assert LesionSites.of(cases, 100.0).tissue[1] > 0.3  # 140 of 0 to 200


def test_allowed_is_inside_the_body_like_the_tissue_and_away_from_labels(shape, domain, with_lesions):
    (case,) = with_lesions(shape, 1)
    dark = case.image.voxels.copy()
    dark[20:26, 12:16] = 60  # fluid
    case = replace(case, image=replace(case.image, voxels=dark))
    sites = LesionSites.of(with_lesions(shape, 3), 98.0)
    allowed = sites.allowed(case, domain, rim_mm=3.0, gap_mm=2.5)
    assert allowed.mean() > 0.2
    assert not allowed[case.image.voxels < 50].any()
    assert not allowed[20:26, 12:16].any()
    grid = np.argwhere(allowed) * [1, 1, 2]
    for voxels, least in ((np.argwhere(case.labels), 2.5), (np.argwhere(dark == 0), 3.0)):
        nearest = min(np.linalg.norm(grid - voxel * [1, 1, 2], axis=1).min() for voxel in voxels)
        assert nearest > least


def test_a_place_holds_all_of_a_lesion_within_the_image_and_none_is_found_where_it_does_not_fit():
    def places(allowed, radius, draws=1):
        anywhere, random = LesionSites((0.0, 1.0), np.full((32, 32, 32), 32.0**-3)), np.random.default_rng(0)
        image = prepared(allowed.shape, tuple((0, size) for size in allowed.shape))
        return {anywhere.find_place(allowed, disc(radius), image, 500, random) for _ in range(draws)}

    allowed = np.zeros((30, 30, 1), dtype=bool)
    allowed[3:12, 3:12] = allowed[20:24, 20:24] = True
    assert places(allowed, 3, 60) == {(x, y, 0) for x, y in np.argwhere(np.ones((3, 3))) + 6}
    assert places(allowed, 5) == places(np.zeros_like(allowed), 1) == {None}
    assert places(np.ones((6, 6, 1), dtype=bool), 2, 40) == {(x, y, 0) for x in (2, 3) for y in (2, 3)}


def test_places_follow_the_density_of_real_lesions(shape, with_lesions):
    cases = with_lesions(shape, 8, radii=(1.5,))  # all near one place
    sites = LesionSites.of(cases, 1.0)
    image = cases[0].image
    real = np.array([body_coordinates(image, lesion.centre) for case in cases for lesion in lesions_of(case)])
    random = np.random.default_rng(0)
    everywhere, speck = np.ones(shape, bool), np.ones((1, 1, 1), bool)
    found = [sites.find_place(everywhere, speck, image, 10, random) for _ in range(80)]
    drawn = body_coordinates(image, np.array(found))
    np.testing.assert_allclose(drawn.mean(axis=0), real.mean(axis=0), atol=0.15)


def test_without_lesions_nothing_is_known(shape, with_lesions):
    with pytest.raises(InsertionError, match="no donor has a lesion"):
        LesionSites.of(with_lesions(shape, 2, radii=()), 2.0)


VOLUME = prepared((20, 30, 5), ((4, 16), (0, 30), (0, 5)))
SLICE = prepared((20, 30, 1), ((4, 16), (0, 30), (0, 1)))


@pytest.mark.parametrize(("image", "heights"), [(VOLUME, (0, 4, 2)), (SLICE, (0,))], ids=["3d", "one slice"])
def test_places_in_the_body_and_back(image, heights):
    for height in heights:
        for voxel in ((4, 0, height), (15, 29, height), (9, 3, height)):
            place = body_coordinates(image, voxel)
            assert np.abs(place).max() < 1
            assert voxel_at(image, place) == voxel


def test_the_ends_are_the_bodys_faces_the_middle_is_0_and_what_lies_beside_the_body_is_beyond():
    voxels = np.array([[4, 0, 2], [3.5, 29.5, 2.0], [0, 15, 2]])
    both = body_coordinates(VOLUME, voxels)
    np.testing.assert_allclose(both[:2], [[-1 + 1 / 12, -1 + 1 / 30, 0], [-1, 1, 0]], atol=1e-12)
    np.testing.assert_array_equal(both, [body_coordinates(VOLUME, tuple(voxel)) for voxel in voxels])
    assert both[2, 0] < -1
    assert body_coordinates(SLICE, (9.5, 14.5, 0)).tolist() == [0, 0, 0]
