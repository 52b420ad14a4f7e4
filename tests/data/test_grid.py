from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from scipy.spatial.transform import Rotation

from medgan.data.grid import (
    GEOMETRY_FIELDS,
    SAME_VOXELS,
    Grid,
    Volume,
    affine_from_lps,
    apart,
    check_affine,
    drift_voxels,
    made_up_grid,
    same_grid,
    upright,
)
from medgan.errors import GeometryError

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


@given(upright_affines(), st.sampled_from([(4, 5), (4, 5, 1), (4, 5, 6), (4, 5, 6, 1)]))
def test_right_angles_pass_and_the_spacing_and_size_along_three_axes_are_told(case, shape):
    affine, spacing = case
    check_affine(HERE, affine, (4, 5, 6))
    assert Grid(shape, affine, {}).spacing_mm == pytest.approx(spacing)
    assert Grid(shape, affine, {}).size == (*shape, 1)[:3]


@given(upright_affines(), st.floats(0.01, 1), st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 0)]))
def test_a_shear_is_refused_whatever_the_orientation(case, slope, axes):
    affine, _ = case
    shear = np.eye(4)
    shear[axes] = slope
    unit = affine / np.array([*np.linalg.norm(affine[:3, :3], axis=0), 1])
    with pytest.raises(GeometryError, match=r"study\.nii\.gz: the voxel axes are sheared.*resample"):
        check_affine(HERE, unit @ shear, (4, 5, 6))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        ((1, 1), np.nan, "not finite"),
        ((1, 1), np.inf, "not finite"),
        ((1, 1), 0.0, "1 × 0 × 1 mm is not positive"),
        ((1, 2), np.tan(np.radians(15)), r"15\.00°"),  # a tilted gantry
    ],
)
def test_an_affine_that_places_nothing_or_is_tilted_is_refused(at, value, message):
    affine = np.eye(4)
    affine[at] = value
    with pytest.raises(GeometryError, match=message):
        check_affine(HERE, affine, (4, 5, 6))


@pytest.mark.parametrize(
    ("spacing", "size", "told"),
    [
        ((1e308, 1e308, 1), (8, 8, 8), "inf × inf × 8 mm"),
        ((0.0009, 0.0009, 0.003), (512, 512, 40), "0.4608 × 0.4608 × 0.12 mm"),
        ((1, 1, 1e-30), (8, 8, 1), "8 × 8 × 1e-30 mm"),
        ((1.4, 1.4, 5), (512, 512, 400), None),  # a whole body
        ((0.1, 0.1, 0.1), (64, 64, 4), None),  # a finger
        ((8, 8, 8), (64, 64, 250), None),  # SPECT
        ((1, 1, 60), (9, 9, 3), None),  # a localizer
    ],
)
def test_voxels_in_another_unit_are_refused_with_their_field_of_view_and_what_scanners_make_is_not(spacing, size, told):
    refusal = rf"study\.nii\.gz: voxels of .* field of view of {told}.*unit"
    with pytest.raises(GeometryError, match=refusal) if told else nullcontext():
        check_affine(HERE, np.diag([*spacing, 1.0]), size)


@given(upright_affines())
def test_upright_is_nibabels_closest_canonical_without_a_copy(case):
    affine, _ = case
    voxels = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    volume = Volume(voxels, made_up_grid((4, 5, 6), affine), HERE)
    standing, expected = upright(volume), nib.as_closest_canonical(nib.Nifti1Image(volume.voxels, affine))
    np.testing.assert_array_equal(standing.voxels, expected.dataobj)
    np.testing.assert_allclose(standing.grid.affine, expected.affine, atol=1e-9)
    assert np.shares_memory(standing.voxels, volume.voxels)


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


SIZES = pytest.mark.parametrize("size", [(512, 384), (512, 384, 1), (320, 512, 200)], ids=["2d", "a slice", "3d"])


def moved(affine: np.ndarray, **change: np.ndarray | float) -> np.ndarray:
    """An affine whose columns or whose place are another's."""
    result = affine.copy()
    result[:3, :3] = change.get("rotation", np.eye(3)) @ affine[:3, :3] * change.get("scale", 1.0)
    result[:3, 3] += change.get("shift", 0.0)
    return result


@SIZES
@given(case=upright_affines())
def test_a_grid_is_the_same_by_the_share_of_a_voxel_that_it_was_shifted_by(size, case):
    affine, _ = case
    for axis in range(2):  # a slice has these two, whatever else it has
        for share in (0.02, SAME_VOXELS * 0.9, SAME_VOXELS * 1.1, 0.5):
            other = Grid(size, moved(affine, shift=share * affine[:3, axis]), {})
            assert drift_voxels(Grid(size, affine, {}), other) == pytest.approx(share)
            assert same_grid(Grid(size, affine, {}), other) == same_grid(other, Grid(size, affine, {}))
            assert same_grid(Grid(size, affine, {}), other) == (share < SAME_VOXELS)


@SIZES
@given(case=upright_affines())
def test_errors_of_scale_and_small_turns_count_at_the_far_corner_where_they_have_grown(size, case):
    affine, spacing = case
    one = Grid(size, affine, {})
    steps = np.subtract(one.size, 1)
    arm_mm = np.hypot(*np.multiply(steps, spacing)[:2])
    for share, same in ((0.05, True), (0.5, False)):  # in the wider voxel at least half, in the narrower at most all
        scaled = Grid(size, moved(affine, scale=1 + share / np.linalg.norm(steps)), {})
        assert drift_voxels(one, scaled) == pytest.approx(share)
        assert same_grid(one, scaled) is same
        angle = share * (min if same else max)(spacing[:2]) / arm_mm
        turn = Rotation.from_rotvec(affine[:3, 2] / spacing[2] * angle).as_matrix()
        assert same_grid(one, Grid(size, moved(affine, rotation=turn), {})) is same


def test_mirrored_axes_and_other_numbers_of_voxels_are_no_same_grid():
    one = Grid((8, 8, 4), np.eye(4), {})
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 7  # covers the same place
    assert not same_grid(one, Grid((8, 8, 4), flipped, {}))
    assert not same_grid(one, Grid((8, 8, 5), np.eye(4), {}))
    # The thickness of a single slice moves none of its voxels.
    assert same_grid(Grid((8, 8), np.diag([1.0, 1, 1, 1]), {}), Grid((8, 8, 1), np.diag([1.0, 1, 5, 1]), {}))
    assert apart(one, Grid((8, 8, 5), np.eye(4), {})) == "(8, 8, 4) and (8, 8, 5) voxels"
    half_off = Grid((8, 8, 4), moved(np.eye(4), shift=np.array([0.5, 0, 0])), {})
    assert apart(one, half_off) == "0.5 voxels apart at a corner"
