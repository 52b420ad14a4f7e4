import contextlib
import gzip
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from medgan.data import grid as grid_module
from medgan.data.nifti import read, read_grid, whole_type, write
from medgan.errors import DataError, GeometryError, MedganError

CT = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
QFORM = from_matvec([[0, -2, 0], [2, 0, 0], [0, 0, 2]], [1, 2, 3])
SFORM = from_matvec([[2, 0, 0], [0, 0, -2], [0, 2, 0]], [4, 5, 6])

GEOMETRY_BYTES = {"dim": (40, 56), "pixdim": (76, 108), "xyzt_units": (123, 124), "forms": (252, 328)}
"""Where NIfTI-1 stores them; between 252 and 328 lie codes, quaternion, offsets and rows."""


def geometry(content):
    return {name: content[start:end] for name, (start, end) in GEOMETRY_BYTES.items()}


def placement(path):
    image = sitk.ReadImage(path)
    return image.GetOrigin(), image.GetSpacing(), image.GetDirection()


@st.composite
def raw_geometries(draw):
    """Raw header fields as files have them: qform and sform of their own, any codes and units, leftover spacings."""
    turns = [Rotation.from_rotvec(draw(st.tuples(*[st.floats(-2, 2, width=32)] * 3))) for _ in "qs"]
    spacing = draw(st.tuples(*[st.floats(0.125, 10, width=32)] * 3))
    offsets = draw(st.tuples(*[st.floats(-900, 900, width=32)] * 6))
    quaternion = turns[0].as_quat(canonical=True)[:3]
    sform = turns[1].as_matrix() * spacing
    return {
        "pixdim": [draw(st.sampled_from([-1, 0, 1])), *spacing, *draw(st.tuples(*[st.floats(0, 9, width=32)] * 4))],
        "qform_code": draw(st.integers(0, 5)),
        "sform_code": draw(st.integers(0, 5)),
        "xyzt_units": draw(st.sampled_from([0, 2, 10, 18])),
        **{f"quatern_{name}": value for name, value in zip("bcd", quaternion, strict=True)},
        **{f"qoffset_{axis}": value for axis, value in zip("xyz", offsets[:3], strict=True)},
        **{f"srow_{axis}": [*row, at] for axis, row, at in zip("xyz", sform, offsets[3:], strict=True)},
    }


@given(
    raw_geometries(),
    st.sampled_from([(3, 4), (3, 4, 1), (3, 4, 5), (3, 4, 5, 1)]),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.sampled_from([".nii", ".nii.gz"]),
)
def test_an_output_lies_on_its_inputs_grid_to_the_bit(tmp_path_factory, write_nifti, raw, shape, dtype, suffix):
    folder = tmp_path_factory.mktemp("grid")
    stored = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    source, output = write_nifti(folder / f"in{suffix}", stored, **raw), folder / "out.nii"
    volume = read(source)
    write(volume.voxels, volume.grid, output, dtype)
    content = gzip.decompress(source.read_bytes()) if suffix == ".nii.gz" else source.read_bytes()
    assert geometry(output.read_bytes()) == geometry(content)
    assert output.read_bytes()[352:] == content[352:]
    assert placement(output) == placement(source)
    np.testing.assert_array_equal(nib.load(output).affine, nib.load(source).affine)


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_nifti_2_stays_nifti_2_since_its_fields_are_wider(tmp_path, write_nifti, endianness, kind):
    fine = np.diag([1 / 3, 1 / 7, 1 / 9, 1])
    rows = {f"srow_{axis}": row for axis, row in zip("xyz", SFORM, strict=False)}  # unlike the qform, which is kept
    source = write_nifti(tmp_path / "in.nii.gz", CT, fine, kind=kind, endianness=endianness, **rows)
    volume = read(source)
    write(volume.voxels, volume.grid, tmp_path / "out.nii.gz", np.int16)
    before, after = nib.load(source), nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(volume.grid.affine, before.affine)
    assert isinstance(after.header, nib.Nifti2Header) == (kind is nib.Nifti2Header)
    for name in volume.grid.fields:
        np.testing.assert_array_equal(before.header[name], after.header[name])
    np.testing.assert_array_equal(read(tmp_path / "out.nii.gz").voxels, CT)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (1.0, 0.5), (0.0, 7.0), (-1.0, 0.0)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int64])
def test_slope_and_intercept_are_applied_as_nibabel_does(tmp_path, write_nifti, slope, intercept, dtype):
    path = write_nifti(tmp_path / "study.nii", CT.astype(dtype), scl_slope=slope, scl_inter=intercept)
    voxels = read(path).voxels
    assert voxels.dtype == np.float32
    np.testing.assert_allclose(voxels, nib.load(path).get_fdata(), rtol=1e-6)


def test_voxels_beyond_float32_are_no_numbers(tmp_path, write_nifti):
    voxels = CT.astype(np.float64)
    voxels[1, 2, 3] = 1e300
    with pytest.raises(DataError, match=r"1 of 60 voxels are NaN or infinite"):
        read(write_nifti(tmp_path / "study.nii", voxels))


def test_a_damaged_gzip_stream_is_named(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii.gz", CT)
    whole = path.read_bytes()
    content = gzip.decompress(whole)
    damaged = {
        r"cannot be read \(Expected 120 bytes, got 100": gzip.compress(content[:-20]),  # ends well, but too early
        "truncated.*copy it again": whole[: int(0.999 * len(whole))],
        r"corrupt gzip \(CRC check failed": whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
        "corrupt gzip": gzip.compress(content[:400]) + b"<html>end of transfer</html>\n" + gzip.compress(content[400:]),
    }
    for message, stream in damaged.items():
        path.write_bytes(stream)
        with pytest.raises(DataError, match=rf"a\.nii\.gz: {message}"):
            read(path)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 355), st.integers(0, 255)), min_size=1, max_size=8))
def test_no_header_however_broken_ends_in_anything_but_a_volume_or_a_named_error(tmp_path_factory, write_nifti, damage):
    path = write_nifti(tmp_path_factory.mktemp("fuzz") / "study.nii", CT)
    content = bytearray(path.read_bytes())
    for at, value in damage:
        content[at] = value
    path.write_bytes(content)
    with contextlib.suppress(MedganError):
        assert np.isfinite(read(path).voxels).all()


def test_outputs_carry_no_text_no_scaling_and_no_extension(tmp_path, write_nifti):
    text = {"descrip": b"Jane Doe", **dict.fromkeys(("aux_file", "db_name", "intent_name"), b"jane")}
    text["intent_code"] = 1002
    source = write_nifti(tmp_path / "in.nii", CT, scl_slope=2.0, scl_inter=-5.0, **text)
    content = source.read_bytes()
    source.write_bytes(content[:348] + b"\1\0\0\0" + b"\x20\0\0\0\x06\0\0\0" + b"Jane Doe".ljust(24) + content[352:])
    content = source.read_bytes()
    source.write_bytes(content[:108] + np.float32(384).tobytes() + content[112:])  # where the voxels begin
    volume = read(source)
    write(volume.voxels, volume.grid, tmp_path / "out.nii", np.int16)
    header = nib.load(tmp_path / "out.nii").header
    assert nib.load(source).header.extensions
    assert not header.extensions
    assert b"ane" not in (tmp_path / "out.nii").read_bytes()
    raw = nib.Nifti1Header((tmp_path / "out.nii").read_bytes()[:348], check=False)
    assert (raw["scl_slope"], raw["scl_inter"], raw["intent_code"], raw["vox_offset"]) == (1, 0, 0, 352)
    np.testing.assert_array_equal(read(tmp_path / "out.nii").voxels, 2.0 * CT - 5)


@pytest.mark.parametrize(
    ("voxels", "dtype", "message"),
    [
        (np.full((3, 4, 5), 32768.0), np.int16, "int16 cannot hold 32768 to 32768"),
        (np.full((3, 4, 5), -1.0), np.uint8, "uint8 cannot hold -1 to -1"),
        (np.full((3, 4, 5), 1e39), np.float32, "float32 cannot hold"),
        (np.full((3, 4, 5), 0.5), np.int16, "int16 would cut off the fractions; round the intensities first"),
        (np.full((3, 4, 5), np.nan), np.float32, "NaN or infinite voxels would be written"),
        (np.zeros((3, 4)), np.int16, r"voxels \(3, 4\) do not fit a grid of \(3, 4, 5\)"),
    ],
)
def test_voxels_that_a_file_could_not_hold_are_refused(tmp_path, write_nifti, voxels, dtype, message):
    grid = read(write_nifti(tmp_path / "in.nii", CT)).grid
    with pytest.raises(DataError, match=rf"out\.nii\.gz: {message}"):
        write(voxels, grid, tmp_path / "out.nii.gz", dtype)
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, ">i2", np.float32, np.float64])
@pytest.mark.parametrize("slope", [None, (1, 0), (2, 0), (1, -1024)])
def test_the_whole_type_of_a_file_is_that_of_its_voxels_unless_they_are_scaled(tmp_path, dtype, slope):
    image = nib.Nifti1Image(CT.astype(dtype), np.eye(4), dtype=dtype)
    image.header.set_data_dtype(dtype)
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    order = ">" if image.header.endianness == ">" else "<"
    if slope:
        content[112:120] = np.array(slope, order + "f4").tobytes()  # scl_slope and scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    whole = np.dtype(dtype).kind in "iu" and slope in (None, (1, 0))
    found = whole_type(tmp_path / "a.nii")
    assert found == (np.dtype(dtype).newbyteorder("=") if whole else None)
    if whole:
        np.testing.assert_array_equal(read(tmp_path / "a.nii").voxels, CT.astype(found))


@pytest.mark.parametrize("name", ["study.nii", "study.nii.gz"])
def test_slabs_read_and_write_what_a_whole_file_holds_whatever_its_order_in_memory(
    tmp_path, write_nifti, name, monkeypatch
):
    monkeypatch.setattr(grid_module, "SLAB_VOXELS", 25)  # two slices of five
    path = write_nifti(tmp_path / name, CT, scl_slope=0.1, scl_inter=3)
    volume = read(path)
    np.testing.assert_array_equal(volume.voxels, nib.load(path).get_fdata(dtype=np.float32))
    for order in "CF":
        write(np.array(CT, order=order), volume.grid, tmp_path / order / name, np.int16)
        np.testing.assert_array_equal(nib.load(tmp_path / order / name).dataobj, CT)
    with pytest.raises(DataError, match=r"out\.mha: volumes are written as NIfTI"):
        write(CT, volume.grid, tmp_path / "out.mha", np.int16)


TILTED = from_matvec([[1, 0, 0], [0, 1, 0.2], [0, 0, 1]])

REFUSED = {
    "binary": ({"datatype": 1}, DataError, "voxels of type 1 are no numbers"),
    "one axis": ({"dim": [1, 60, 1, 1, 1, 1, 1, 1]}, DataError, "1 axes of lengths (60,)"),
    "negative spacing": ({"pixdim": [1, 1, -2, 1, 0, 0, 0, 0]}, GeometryError, "1 × -2 × 1 is not positive"),
    "endless spacing": ({"pixdim": [1, np.inf, 1, 1, 0, 0, 0, 0]}, GeometryError, "inf × 1 × 1 is not positive"),
    "endless sform": ({"srow_x": [1, 0, 0, np.inf]}, GeometryError, "the affine is not finite"),
    "no rotation": ({"sform_code": 0, "quatern_b": 3}, GeometryError, "the orientation cannot be read"),
    "sheared": ({"srow_y": TILTED[1]}, GeometryError, "the voxel axes are sheared, 11.31° off a right angle"),
}
"""More of them are rows of ``hostile.nifti_cases``."""


@pytest.mark.parametrize("name", ["study.nii", "study.nii.gz"])
@pytest.mark.parametrize(("raw", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_cannot_be_kept_is_refused_by_name(tmp_path, write_nifti, name, raw, kind, message):
    path = write_nifti(tmp_path / name, CT, **raw)
    for reader in (read, read_grid):
        with pytest.raises(kind, match=re.escape(message)) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(("name", "held"), [("bomb.nii.gz", "at most"), ("bomb.nii", "can hold")])
def test_a_header_that_promises_more_than_the_file_can_hold_is_refused_unread(tmp_path, write_nifti, name, held):
    path = write_nifti(tmp_path / name, CT, kind=nib.Nifti2Header, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    with pytest.raises(DataError, match=rf"promises 54,000,000,000,\d+ bytes.*{held}"):
        read(path)
    air = np.full((256, 256, 4), -1024, np.int16)  # is no bomb
    path = write_nifti(tmp_path / "air.nii.gz", air)
    assert air.nbytes / path.stat().st_size > 100
    assert (read(path).voxels == -1024).all()


def test_a_slice_needs_no_third_spacing_and_as_simpleitk_writes_it_lies_where_nibabel_has_it(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "slice.nii", CT[..., 0], affine_codes=(1, 0), pixdim=[1, 2, 3, 0, 0, 0, 0, 0])
    assert read_grid(path).spacing_mm == (2, 3, 1)
    image = sitk.GetImageFromArray(CT[0])
    image.SetSpacing((2, 3))
    image.SetDirection((0, 1, -1, 0))
    sitk.WriteImage(image, tmp_path / "slice.nii.gz")
    grid = read_grid(tmp_path / "slice.nii.gz")
    assert grid.shape == (5, 4)
    np.testing.assert_array_equal(grid.affine, nib.load(tmp_path / "slice.nii.gz").affine)


@pytest.mark.parametrize(("unit", "units_per_mm"), [(0, 1), (1, 1e-3), (2, 1), (3, 1e3), (10, 1)])
def test_the_affine_is_in_millimetres_whatever_the_unit(tmp_path, write_nifti, unit, units_per_mm):
    stored = np.diag([units_per_mm] * 3 + [1]) @ QFORM
    path = write_nifti(tmp_path / "study.nii", CT, stored, xyzt_units=unit)
    assert read_grid(path).spacing_mm == pytest.approx([2] * 3)
    assert sitk.ReadImage(path).GetSpacing() == pytest.approx([2] * 3)
