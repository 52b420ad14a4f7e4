from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from scipy.spatial.transform import Rotation

from medgan.data.grid import GEOMETRY_FIELDS, Grid, affine_from_lps, check_affine, check_finite, made_up_grid
from medgan.errors import DataError, GeometryError

HERE = Path("study.nii.gz")


@st.composite
def upright_affines(draw):
    """Affines with right angles: any rotation and flip, spacings of 0.1 to 10 mm, offsets of up to 1 m."""
    rotation = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3, 3)] * 3))).as_matrix()
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * draw(st.sampled_from([(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)]))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return affine, spacing


@pytest.mark.parametrize(
    ("shape", "size"), [((4, 5), (4, 5, 1)), ((4, 5, 1), (4, 5, 1)), ((4, 5, 6), (4, 5, 6)), ((4, 5, 6, 1), (4, 5, 6))]
)
def test_voxels_have_three_axes_whatever_the_file_stores(shape, size):
    assert Grid(shape, np.eye(4), {}).size == size


@given(upright_affines())
def test_right_angles_pass_and_their_spacing_is_told(case):
    affine, spacing = case
    check_affine(HERE, affine)
    assert Grid((2, 2, 2), affine, {}).spacing_mm == pytest.approx(spacing)


@given(upright_affines(), st.floats(0.01, 1), st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 0)]))
def test_a_shear_is_refused_whatever_the_orientation(case, slope, axes):
    affine, _ = case
    shear = np.eye(4)
    shear[axes] = slope
    unit = affine / np.array([*np.linalg.norm(affine[:3, :3], axis=0), 1])
    with pytest.raises(GeometryError, match=r"study\.nii\.gz: the voxel axes are sheared.*resample"):
        check_affine(HERE, unit @ shear)


def test_the_tilt_of_a_gantry_is_told_in_degrees():
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(15))
    with pytest.raises(GeometryError, match=r"15\.00°"):
        check_affine(HERE, affine)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "1 × 0 × 1 mm is not positive")]
)
def test_an_affine_that_places_nothing_is_refused(value, message):
    affine = np.eye(4)
    affine[1, 1] = value
    with pytest.raises(GeometryError, match=message):
        check_affine(HERE, affine)


@given(upright_affines())
def test_made_up_fields_say_what_the_affine_says(case):
    affine, spacing = case
    grid = made_up_grid((4, 5, 6), affine)
    header = Nifti1Header()
    for name, value in grid.fields.items():
        header[name] = value
    assert set(grid.fields) == set(GEOMETRY_FIELDS)
    assert header.get_data_shape() == grid.shape == (4, 5, 6)
    assert header.get_xyzt_units()[0] == "mm"
    for (stored, code), radians in ((header.get_sform(coded=True), 1e-6), (header.get_qform(coded=True), 3e-3)):
        assert code == 1
        np.testing.assert_allclose(stored, affine, rtol=1e-6, atol=radians * max(spacing))


@given(upright_affines())
def test_affines_from_lps_place_voxels_where_simpleitk_does(case):
    affine, spacing = case
    image = sitk.Image((4, 5, 6), sitk.sitkUInt8)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(spacing)
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    ours = affine_from_lps(affine[:3, 3], affine[:3, :3] / spacing, np.array(spacing))
    x, y, z = image.TransformContinuousIndexToPhysicalPoint((3.0, 1.5, 4.0))
    np.testing.assert_allclose(ours @ [3, 1.5, 4, 1], [-x, -y, z, 1], atol=1e-9)


def test_voxels_that_are_no_numbers_are_counted():
    voxels = np.zeros((2, 3, 4), np.float32)
    check_finite(HERE, voxels)
    voxels[0, 0, :2] = np.nan, -np.inf
    with pytest.raises(DataError, match=r"study\.nii\.gz: 2 of 24 voxels are NaN or infinite"):
        check_finite(HERE, voxels)
