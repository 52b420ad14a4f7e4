import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.domains import domain_named
from medgan.data.grid import LPS_TO_RAS, Volume, made_up_grid
from medgan.data.volumes import read_volume
from medgan.registration import side as side_module
from medgan.registration.side import (
    RegistrationConfig,
    in_frame,
    look,
    matrix_lps,
    on,
    own_frame,
    side,
    to_itk,
    voxels_of,
)


@pytest.mark.parametrize(("half_width", "deep"), [(16, True), (3, False)])
def test_a_body_that_is_all_surface_is_looked_at_whole(tmp_path, half_width, deep):
    volume = Volume(np.full((40, 40, 8), -1000, np.float32), made_up_grid((40, 40, 8), np.diag([2, 2, 5, 1])), tmp_path)
    body = np.zeros((40, 40, 8), bool)
    body[20 - half_width : 20 + half_width, 20 - half_width : 20 + half_width] = True
    ready = side(volume, body, domain_named("ct"), RegistrationConfig())
    inside, near = (voxels_of(mask) > 0 for mask in (ready.inside, ready.near))
    assert np.array_equal(inside, near) != deep
    assert not deep or (inside.any() and not (inside & ~body).any())


@pytest.mark.parametrize(("share", "least"), [(0.8, 20_000), (0.9, 20_000), (0.9, 60_000), (0.5, 20_000)])
def test_the_metric_looks_around_bones_first_and_at_the_rest_thinly(scan, sides, quick, monkeypatch, share, least):
    monkeypatch.setattr(side_module, "LEAST_LOOKED_AT", least)
    (ready,) = sides((scan("CT", shape=(80, 70, 60), spacing=(1.0, 1.0, 1.5)), "CT"))
    bone, inside = (on(ready.image, mask) for mask in (ready.bone, ready.inside))
    config = quick.rigid.model_copy(update={"bone_share": share})
    looked_at = on(ready.image, look(ready, ready.image, ready.inside, config))
    assert bone.any()
    assert looked_at[bone].all()
    assert not looked_at[~bone & ~inside].any()
    wanted = max(least, bone.sum() / share)
    assert looked_at.sum() == pytest.approx(min(wanted, (bone | inside).sum()), rel=0.02)


def test_specks_of_bone_do_not_count_and_mr_has_none(scan, sides):
    volume = scan("CT")
    volume.voxels[volume.voxels > 200] = 40
    volume.voxels[15:17, 15:17, 10:12] = 900
    assert [ready.bone for ready in sides((volume, "CT"), (scan("MR"), "MR"))] == [None, None]


@pytest.mark.parametrize("mirrored", [False, True])
def test_in_its_own_frame_a_scan_has_its_axes_along_the_worlds_and_its_middle_at_zero(scan, sides, rigid, mirrored):
    volume = scan("CT")
    affine = rigid((70, -30, 110), (200, -80, 40)) @ np.diag([-1.0 if mirrored else 1.0, 1, 1, 1]) @ volume.grid.affine
    (ready,) = sides((Volume(volume.voxels, made_up_grid(volume.voxels.shape, affine), volume.path), "CT"))
    frame = own_frame(ready.image)
    placed = in_frame(ready, frame)
    assert np.linalg.det(frame) == pytest.approx(1)
    for before, after in zip(vars(ready).values(), vars(placed).values(), strict=True):
        np.testing.assert_allclose(np.abs(after.GetDirection()), np.eye(3).ravel(), atol=1e-6)
        ends = np.array([after.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), (33, 29, 23))])
        np.testing.assert_allclose(ends.sum(axis=0), 0, atol=1e-3)
        there = [*before.TransformIndexToPhysicalPoint((3, 7, 11)), 1.0]
        np.testing.assert_allclose((frame @ there)[:3], after.TransformIndexToPhysicalPoint((3, 7, 11)), atol=1e-3)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (10, -20, 35)], ids=["straight", "oblique"])
def test_an_image_is_what_simpleitk_reads_from_the_same_file(tmp_path, rigid, degrees):
    affine = rigid(degrees, (-12.5, 40, 7)) @ np.diag([-0.9, 1.1, 3.3, 1.0])
    voxels = np.random.default_rng(0).normal(0, 100, (5, 4, 3)).astype(np.float32)
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "scan.nii.gz")
    theirs = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    volume = read_volume(tmp_path / "scan.nii.gz")
    ours = to_itk(volume.voxels, volume.grid.affine)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    for index in [(0, 0, 0), (4, 0, 0), (0, 3, 0), (4, 3, 2)]:
        point = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(ours.TransformIndexToPhysicalPoint(index), point, atol=1e-4)
    np.testing.assert_array_equal(voxels_of(ours), voxels)


def test_a_mask_becomes_zeros_and_ones():
    mask = np.arange(24).reshape(2, 3, 4) % 3 == 0
    np.testing.assert_array_equal(voxels_of(to_itk(mask, np.eye(4))), mask.astype(np.uint8))


def test_the_matrix_of_a_transform_takes_points_where_the_transform_does():
    transform = sitk.Euler3DTransform((3.0, -4.0, 5.0), 0.2, -0.1, 0.3, (7.0, 8.0, 9.0))
    point = np.array([11.0, -2.0, 6.0])
    moved = (matrix_lps(transform) @ [*point, 1])[:3]
    np.testing.assert_allclose(moved, transform.TransformPoint(point.tolist()), atol=1e-9)
    assert np.linalg.det(matrix_lps(transform)) == pytest.approx(np.linalg.det(LPS_TO_RAS))
