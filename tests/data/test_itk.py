import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.grid import LPS_TO_RAS
from medgan.data.itk import matrix_lps, to_itk, voxels_of
from medgan.data.volumes import read_volume


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
