import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import from_matvec

from medgan.data.nifti import read, read_grid
from medgan.errors import DataError, GeometryError

CT = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
TILTED = from_matvec([[1, 0, 0], [0, 1, 0.2], [0, 0, 1]])
FLAT = from_matvec(np.diag([1, 1, 0]))
COLOURS = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))

REFUSED = {
    "4d": (CT.reshape(3, 4, 1, 5), {}, DataError, "4D with shape (3, 4, 1, 5); split it into 3D volumes first"),
    "rgb": (COLOURS, {}, DataError, "the voxels are RGB colours"),
    "complex": (CT.astype(np.complex64), {}, DataError, "the voxels are complex numbers"),
    "binary": (CT, {"datatype": 1}, DataError, "voxels of type 1 are no numbers"),
    "unknown type": (CT, {"datatype": 999}, DataError, "unknown voxel type 999"),
    "one axis": (CT, {"dim": [1, 60, 1, 1, 1, 1, 1, 1]}, DataError, "1 axes of lengths (60,)"),
    "empty axis": (CT, {"dim": [3, 3, 0, 5, 1, 1, 1, 1]}, DataError, "3 axes of lengths (3, 0, 5)"),
    "negative axis": (CT, {"dim": [3, -3, 4, 5, 1, 1, 1, 1]}, DataError, "3 axes of lengths (-3, 4, 5)"),
    "voxels in the header": (CT, {"vox_offset": 100}, DataError, "start at byte 100, inside the header"),
    "no offset": (CT, {"vox_offset": np.nan}, DataError, "start at byte nan"),
    "pair": (CT, {"magic": b"ni1"}, DataError, "header of a .hdr/.img pair; convert the pair to one .nii.gz first"),
    "zero spacing": (CT, {"pixdim": [1, 1, 1, 0, 0, 0, 0, 0]}, GeometryError, "a voxel spacing of 1 × 1 × 0 is not"),
    "negative spacing": (CT, {"pixdim": [1, 1, -2, 1, 0, 0, 0, 0]}, GeometryError, "1 × -2 × 1 is not positive"),
    "no spacing": (CT, {"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]}, GeometryError, "nan × 1 × 1 is not positive"),
    "endless spacing": (CT, {"pixdim": [1, np.inf, 1, 1, 0, 0, 0, 0]}, GeometryError, "inf × 1 × 1 is not positive"),
    "endless sform": (CT, {"srow_x": [1, 0, 0, np.inf]}, GeometryError, "the affine is not finite"),
    "no rotation": (CT, {"sform_code": 0, "quatern_b": 3}, GeometryError, "the orientation cannot be read"),
    "flat": (CT, {"srow_z": [0, 0, 0, 0]}, GeometryError, "1 × 1 × 0 mm is not positive"),
    "sheared": (CT, {"srow_y": TILTED[1]}, GeometryError, "the voxel axes are sheared, 11.31° off a right angle"),
}


@pytest.mark.parametrize("name", ["study.nii", "study.nii.gz"])
@pytest.mark.parametrize(("voxels", "raw", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_cannot_be_kept_is_refused_by_name(tmp_path, write_nifti, name, voxels, raw, kind, message):
    path = write_nifti(tmp_path / name, voxels, **raw)
    for reader in (read, read_grid):
        with pytest.raises(kind, match=re.escape(message)) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize(("name", "held"), [("bomb.nii.gz", "at most"), ("bomb.nii", "can hold")])
def test_a_header_that_promises_more_than_the_file_can_hold_is_refused_unread(tmp_path, write_nifti, kind, name, held):
    path = write_nifti(tmp_path / name, CT, kind=kind, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    with pytest.raises(DataError, match=rf"promises 54,000,000,000,\d+ bytes.*{held}"):
        read(path)


def test_a_volume_of_nothing_but_air_is_no_bomb(tmp_path, write_nifti):
    air = np.full((256, 256, 20), -1024, np.int16)
    path = write_nifti(tmp_path / "air.nii.gz", air)
    assert air.nbytes / path.stat().st_size > 100
    assert (read(path).voxels == -1024).all()


@pytest.mark.parametrize("content", [b"subject,domain\n" * 100, b"x", bytes(1000)])
def test_what_is_no_nifti_is_refused_by_name(tmp_path, content):
    path = tmp_path / "table.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"table\.nii\.gz: not a NIfTI file \(it starts with .*check what was saved"):
        read(path)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 5), (3, 4, 5, 1), (3, 4, 1, 1, 1)])
def test_the_shape_is_kept_as_stored_and_the_voxels_have_three_axes(tmp_path, write_nifti, shape):
    path = write_nifti(tmp_path / "study.nii", np.zeros(shape, np.int16))
    volume = read(path)
    assert volume.grid.shape == nib.load(path).shape == shape
    assert volume.voxels.shape == volume.grid.size == (*shape, 1)[:3]


def test_a_slice_without_a_third_axis_needs_no_third_spacing(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "slice.nii", CT[..., 0], affine_codes=(1, 0), pixdim=[1, 2, 3, 0, 0, 0, 0, 0])
    assert read_grid(path).spacing_mm == (2, 3, 1)


def test_a_slice_written_by_simpleitk_lies_where_nibabel_has_it(tmp_path):
    image = sitk.GetImageFromArray(CT[0])
    image.SetSpacing((2, 3))
    image.SetDirection((0, 1, -1, 0))
    sitk.WriteImage(image, tmp_path / "slice.nii.gz")
    grid = read_grid(tmp_path / "slice.nii.gz")
    assert grid.shape == (5, 4)
    np.testing.assert_array_equal(grid.affine, nib.load(tmp_path / "slice.nii.gz").affine)


QFORM = from_matvec([[0, -2, 0], [2, 0, 0], [0, 0, 2]], [1, 2, 3])
SFORM = from_matvec([[2, 0, 0], [0, 0, -2], [0, 2, 0]], [4, 5, 6])


@pytest.mark.parametrize("qform_code", [0, 1, 3])
@pytest.mark.parametrize("sform_code", [0, 2, 4])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_the_affine_is_nibabels_and_the_fields_keep_both(
    tmp_path, write_nifti, qform_code, sform_code, endianness, kind
):
    rows = {f"srow_{axis}": row for axis, row in zip("xyz", SFORM, strict=False)}
    codes = {"qform_code": qform_code, "sform_code": sform_code}
    path = write_nifti(tmp_path / "study.nii", CT, QFORM, kind=kind, endianness=endianness, **rows, **codes)
    volume = read(path)
    np.testing.assert_array_equal(volume.grid.affine, nib.load(path).affine)
    np.testing.assert_array_equal(volume.voxels, CT)
    assert volume.grid.fields["qform_code"] == qform_code
    np.testing.assert_array_equal(volume.grid.fields["srow_y"], SFORM[1])
    assert volume.grid.fields["qoffset_y"] == 2


@pytest.mark.parametrize("handedness", [0, 1, -1])
def test_a_missing_handedness_is_taken_for_right_as_nibabel_does(tmp_path, write_nifti, handedness):
    codes = {"qform_code": 1, "sform_code": 0}
    path = write_nifti(tmp_path / "study.nii", CT, QFORM, pixdim=[handedness, 2, 2, 2, 0, 0, 0, 0], **codes)
    grid = read_grid(path)
    np.testing.assert_array_equal(grid.affine, nib.load(path).affine)
    assert grid.fields["pixdim"][0] == handedness


@pytest.mark.parametrize(("unit", "units_per_mm"), [(0, 1), (1, 1e-3), (2, 1), (3, 1e3), (10, 1)])
def test_the_affine_is_in_millimetres_whatever_the_unit(tmp_path, write_nifti, unit, units_per_mm):
    stored = np.diag([units_per_mm] * 3 + [1]) @ QFORM
    path = write_nifti(tmp_path / "study.nii", CT, stored, xyzt_units=unit)
    assert read_grid(path).spacing_mm == pytest.approx([2] * 3)
    assert sitk.ReadImage(path).GetSpacing() == pytest.approx([2] * 3)


@pytest.mark.parametrize(("unit", "field"), [(1, "6000 × 8000 × 10000"), (3, "0.006 × 0.008 × 0.01")])
def test_a_unit_that_makes_no_scan_of_a_patient_is_refused(tmp_path, write_nifti, unit, field):
    path = write_nifti(tmp_path / "study.nii", CT, QFORM, xyzt_units=unit)
    with pytest.raises(GeometryError, match=f"field of view of {field}.* unit of length"):
        read_grid(path)
