import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.body import body_mask
from medgan.data.domains import domain_named
from medgan.data.grid import LPS_TO_RAS, Volume, made_up_grid
from medgan.data.itk import matrix_lps, voxels_of
from medgan.data.registration import RegistrationConfig, centred, register, side
from medgan.errors import DataError

CORNERS = np.array([[x, y, z, 1] for x in (-25, 25) for y in (-20, 20) for z in (-35, 35)], dtype=float).T


def error_mm(transform, truth):
    """The mean distance between where both take the corners of the body; the truth is in RAS+ mm."""
    found = LPS_TO_RAS @ matrix_lps(transform) @ LPS_TO_RAS
    return np.linalg.norm(((found - truth) @ CORNERS)[:3], axis=0).mean()


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("CT", "MR"), ("CT", "CT")])
def test_a_known_motion_is_recovered_across_modalities(scan, sides, rigid, quick, fixed, moving):
    truth = rigid((4, -3, 8), (6, -5, 3))
    pair = sides((scan(fixed), fixed), (scan(moving, truth, seed=1), moving))
    assert error_mm(sitk.Euler3DTransform(), truth) > 5
    assert error_mm(register(*pair, quick.rigid), truth) < 1.25  # half a voxel


@pytest.mark.parametrize(("fixed", "moving"), [("MR", "CT"), ("CT", "MR")])
def test_what_lies_beyond_a_scan_that_ends_early_is_not_made_up(scan, sides, rigid, quick, fixed, moving):
    """With the edges repeated at the finest levels, too, both are off by 1.4 mm."""
    truth = rigid((2, -2, 3), (2, -2, 2))
    whole = scan(moving, truth, seed=1)
    affine = whole.grid.affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 10], [0, 0, 0, 1]]
    voxels = whole.voxels[:, :, 10:]
    ends_early = Volume(voxels, made_up_grid(voxels.shape, affine), whole.path)
    pair = sides((scan(fixed), fixed), (ends_early, moving))
    assert error_mm(register(*pair, quick.rigid), truth) < 1.25


@pytest.mark.parametrize(("half_width", "deep"), [(16, True), (3, False)])
def test_a_body_that_is_all_surface_is_looked_at_whole(tmp_path, half_width, deep):
    volume = Volume(np.full((40, 40, 8), -1000, np.float32), made_up_grid((40, 40, 8), np.diag([2, 2, 5, 1])), tmp_path)
    body = np.zeros((40, 40, 8), bool)
    body[20 - half_width : 20 + half_width, 20 - half_width : 20 + half_width] = True
    ready = side(volume, body, domain_named("ct"), RegistrationConfig())
    inside, near = (voxels_of(mask) > 0 for mask in (ready.inside, ready.near))
    assert np.array_equal(inside, near) != deep
    assert not deep or (inside.any() and not (inside & ~body).any())


def test_an_aligned_pair_stays(scan, sides, quick):
    found = register(*sides((scan("MR"), "MR"), (scan("CT"), "CT")), quick.rigid)
    assert error_mm(found, np.eye(4)) < 0.8  # a third of a voxel


@pytest.mark.parametrize(("inside_mm", "bones_meet"), [(0.0, False), (8.0, True)])
def test_skin_that_lies_differently_does_not_draw_the_bones_along(scan, rigid, quick, inside_mm, bones_meet):
    fixed, moving = scan("MR"), scan("CT")
    x_mm, y_mm = (
        moving.grid.affine[a, a] * np.arange(moving.voxels.shape[a]) + moving.grid.affine[a, 3] for a in (0, 1)
    )
    deep = (x_mm[:, None] / 22) ** 2 + (y_mm[None] / 16) ** 2 < 1
    moving.voxels[~deep] = scan("CT", rigid(shift_mm=(0, 7, 0))).voxels[~deep]
    config = quick.rigid.model_copy(update={"inside_mm": inside_mm})
    domains = [domain_named("mr"), domain_named("ct")]
    pair = [side(v, body_mask(v.voxels, d), d, config) for v, d in zip((fixed, moving), domains, strict=True)]
    assert bool(error_mm(register(*pair, config), np.eye(4)) < 1.25) == bones_meet


def test_equal_seeds_give_equal_transforms(scan, sides, rigid, quick):
    pair = sides((scan("MR"), "MR"), (scan("CT", rigid((0, 0, 5), (3, 0, 0))), "CT"))
    config = quick.rigid.model_copy(update={"samples": 2000})
    one, again = (register(*pair, config).GetParameters() for _ in range(2))
    other = register(*pair, config.model_copy(update={"seed": 1})).GetParameters()
    assert one == again
    assert one != other


def test_turned_starts_reach_further_than_the_bodies_centres_alone(scan, sides, rigid, quick):
    truth = rigid((0, 0, 40))
    pair = sides((scan("CT"), "CT"), (scan("CT", truth, seed=1), "CT"))
    config = quick.rigid.model_copy(update={"start_rotation_degrees": 35.0, "kept_starts": 2})
    assert error_mm(register(*pair, config), truth) < 1.25


def test_bodies_are_centred_by_their_masks_not_by_their_intensities(scan, sides, rigid):
    fixed, moving = sides((scan("MR"), "MR"), (scan("CT", rigid(shift_mm=(6, -4, 0))), "CT"))
    np.testing.assert_allclose(centred(fixed, moving).GetTranslation(), (-6, 4, 0), atol=0.5)  # LPS


def test_the_table_under_a_ct_is_taken_away(scan, sides):
    volume = scan("CT")
    volume.voxels[:, 0, :] = 300
    (ready,) = sides((volume, "CT"))
    assert voxels_of(ready.image)[:, 0, :].max() == -250


@pytest.mark.parametrize(("shape", "problem"), [((20, 20, 3), "too thin"), ((20, 20, 20), "no body")])
def test_what_cannot_be_registered_is_refused_by_name(tmp_path, shape, problem):
    volume = Volume(np.full(shape, -1000, np.float32), made_up_grid(shape, np.eye(4)), tmp_path / "ct.nii.gz")
    with pytest.raises(DataError, match=problem) as refused:
        side(volume, np.zeros(shape, bool), domain_named("ct"), RegistrationConfig())
    assert str(volume.path) in str(refused.value)
