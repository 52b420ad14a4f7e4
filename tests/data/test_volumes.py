import contextlib
import os
from itertools import product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.cohorts import image
from medgan.data.hashes import file_hash
from medgan.data.volumes import read_grid, read_volume, stored_type, write_volume
from medgan.errors import DataError, MedganError

CT = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def placement(image):
    return image.GetOrigin(), image.GetSpacing(), image.GetDirection()


@pytest.mark.parametrize("kind", ["volume", "flat", "slice", "series", "picture"])
def test_every_kind_is_read_and_its_output_lies_on_its_grid(studies, tmp_path, kind):
    volume, alone = read_volume(studies[kind]), read_grid(studies[kind])
    assert (volume.path, volume.voxels.shape) == (studies[kind], volume.grid.size)
    assert alone.shape == volume.grid.shape
    np.testing.assert_array_equal(alone.affine, volume.grid.affine)
    output = tmp_path / "out" / f"{kind}.nii.gz"
    write_volume(volume.voxels, volume.grid, output, np.int16)
    again = read_volume(output)
    assert again.grid.shape == volume.grid.shape == nib.load(output).shape
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    np.testing.assert_allclose(again.grid.affine, volume.grid.affine, rtol=1e-6)
    for name, value in volume.grid.fields.items():
        np.testing.assert_array_equal(again.grid.fields[name], value)


@pytest.mark.parametrize("reader", [read_volume, read_grid])
def test_what_is_no_image_is_refused_by_name(tmp_path, reader):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "folder").mkdir()
    messages = {
        "gone.nii.gz": r"cannot be read \(No such file or directory\); check the path",
        "empty.nii.gz": "an empty file; copy or export it again",
        "notes.txt": "not an image that medgan reads; give NIfTI, DICOM, MetaImage, NRRD, PNG or TIFF",
        "folder": "a folder without DICOM files",
        "notes.txt/inside.nii": r"cannot be read \(Not a directory\)",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=rf"{name}: {message}"):
            reader(tmp_path / name)


def test_what_may_not_be_read_is_refused_by_name(shared_folder, bound_by_permissions, write_nifti):
    closed = shared_folder / "closed"
    closed.mkdir()
    for path in (write_nifti(shared_folder / "ct.nii", CT), closed):
        path.chmod(0)
    for path, reader in product((shared_folder / "ct.nii", closed, closed / "ct.nii"), (read_volume, file_hash)):
        with bound_by_permissions(), pytest.raises(DataError, match=rf"{path}: cannot be .* \(Permission denied\)"):
            reader(path)


def test_only_whole_numbers_in_nifti_keep_their_type(tmp_path, studies):
    assert stored_type(image(tmp_path / "mask.nii.gz", np.zeros((2, 2, 2), np.uint8))) == np.uint8
    others = (image(tmp_path / "image.nii.gz", np.zeros((2, 2, 2))), studies["picture"], studies["series"])
    assert {stored_type(path) for path in others} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["abdomen_ct/CRLM-CT-1004/ct.nii.gz", "torso_ct/dicom_series"])
def test_outputs_for_real_volumes_overlay_their_inputs_in_nibabel_and_simpleitk(medgan_data, tmp_path, name):
    source, output = medgan_data / name, tmp_path / "out.nii.gz"
    volume = read_volume(source)
    write_volume(volume.voxels, volume.grid, output, np.int16)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source)) if source.is_dir() else source
    before, after = sitk.ReadImage(files), sitk.ReadImage(output)
    assert placement(after) == placement(before)
    assert after.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(after), sitk.GetArrayViewFromImage(before))
    np.testing.assert_array_equal(nib.load(output).affine, volume.grid.affine)
    if not source.is_dir():
        np.testing.assert_array_equal(nib.load(output).affine, nib.load(source).affine)


@pytest.mark.parametrize("suffix", [".nii.gz", ".png", ".mha", ".dcm", ""])
def test_a_pipe_is_refused_and_never_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"a{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(f"a{suffix}")
    for name, reader in product(("a", "link"), (read_volume, read_grid, file_hash)):
        with pytest.raises(DataError, match=rf"{name}{suffix}: a named pipe, not a file; remove it"):
            reader(tmp_path / f"{name}{suffix}")


GREY = np.arange(20, dtype=np.uint8).reshape(5, 4)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(("name", "pixels"), [("a.png", np.uint8(12) * GREY), ("a.TIFF", np.uint16(3000) * GREY)])
def test_columns_run_along_x_and_rows_along_y_as_in_itk(tmp_path, name, pixels):
    volume = read_volume(save(tmp_path / name, pixels, dpi=(300, 300)))
    np.testing.assert_array_equal(volume.voxels[..., 0], sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / name)).T)
    assert volume.voxels.shape == volume.grid.shape == (4, 5, 1)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.grid.affine, np.diag([-1, -1, 1, 1]))
    assert volume.grid.spacing_mm == (1, 1, 1)
    assert read_grid(tmp_path / name).shape == volume.grid.shape


@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">u2"])
def test_signed_and_big_endian_tiffs_keep_their_values(tmp_path, dtype):
    pixels = (GREY * np.int32(100) - (1000 if dtype[1] == "i" else 0)).astype(dtype)
    save(tmp_path / "slice.tif", pixels.view(dtype.replace("i", "u")), tiffinfo={339: 2 if dtype[1] == "i" else 1})
    np.testing.assert_array_equal(read_volume(tmp_path / "slice.tif").voxels[..., 0].T, pixels)


REFUSED = {
    "RGB": ("png", r"a colour picture \(mode RGB\).*save it grey"),
    "RGBA": ("tif", r"a colour picture \(mode RGBA\)"),
    "P": ("png", r"a colour picture \(mode P\)"),
    "1": ("png", r"pixels of mode 1, not 8 or 16 bit"),
    "F": ("tif", r"pixels of mode F, not 8 or 16 bit"),
    "I": ("tif", r"pixels of mode I, not 8 or 16 bit"),
}


@pytest.mark.parametrize("mode", REFUSED)
def test_what_is_no_grey_of_8_or_16_bit_is_refused_by_name(tmp_path, mode):
    suffix, message = REFUSED[mode]
    Image.new(mode, (4, 5)).save(tmp_path / f"slice.{suffix}")
    for reader in (read_volume, read_grid):
        with pytest.raises(DataError, match=rf"slice\.{suffix}: {message}"):
            reader(tmp_path / f"slice.{suffix}")


def test_pages_other_pictures_and_text_are_refused_whatever_their_name(tmp_path):
    page = Image.new("L", (4, 5))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").rename(tmp_path / "photo.png")
    (tmp_path / "text.tif").write_text("hello")
    unread = "cannot be read as PNG or TIFF"
    for name, message in {"pages.tif": "several pages", "photo.png": unread, "text.tif": unread}.items():
        with pytest.raises(DataError, match=rf"{name}: {message}"):
            read_volume(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
@settings(max_examples=100)
@given(st.sampled_from(["png", "tif"]), st.floats(0, 1), st.binary(min_size=0, max_size=6), st.booleans())
def test_no_broken_picture_ends_in_anything_but_a_volume_or_a_named_error(tmp_path_factory, suffix, at, damage, cut):
    path = save(tmp_path_factory.mktemp("fuzz") / f"slice.{suffix}", np.uint16(3000) * GREY)
    content = bytearray(path.read_bytes())
    start = int(at * len(content))
    content[start : None if cut else start + len(damage)] = damage
    path.write_bytes(content)
    with contextlib.suppress(MedganError):
        assert read_volume(path).voxels.shape[2] == 1
