import contextlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medgan.data.images import read, read_grid
from medgan.errors import DataError, MedganError

GREY = np.arange(20).reshape(5, 4)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["slice.png", "slice.tif", "slice.TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_columns_run_along_x_and_rows_along_y_as_in_itk(tmp_path, name, dtype):
    volume = read(save(tmp_path / name, (GREY * (12 if dtype == np.uint8 else 3000)).astype(dtype), dpi=(300, 300)))
    image = sitk.ReadImage(tmp_path / name)
    np.testing.assert_array_equal(volume.voxels[..., 0], sitk.GetArrayFromImage(image).T)
    assert volume.voxels.shape == volume.grid.shape == (4, 5, 1)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.grid.affine, np.diag([-1, -1, 1, 1]))
    assert volume.grid.spacing_mm == (1, 1, 1)
    assert read_grid(tmp_path / name).shape == volume.grid.shape


@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">u2"])
def test_signed_and_big_endian_tiffs_keep_their_values(tmp_path, dtype):
    image = sitk.GetImageFromArray((GREY * 100).astype(np.uint16))
    sitk.WriteImage(image, tmp_path / "slice.tif")
    pixels = (GREY * 100 - (1000 if dtype[1] == "i" else 0)).astype(dtype)
    (tmp_path / "slice.tif").write_bytes(tiff(pixels))
    np.testing.assert_array_equal(read(tmp_path / "slice.tif").voxels[..., 0].T, pixels)


def tiff(pixels):
    """The bytes of a TIFF with one strip, in the pixels' own byte order and sign."""
    order = pixels.dtype.str[0]
    rows, columns = pixels.shape
    signed = 2 if pixels.dtype.kind == "i" else 1
    tags = {
        256: columns,
        257: rows,
        258: 16,
        259: 1,
        262: 1,
        273: 200,
        277: 1,
        278: rows,
        279: pixels.nbytes,
        339: signed,
    }
    directory = np.array([len(tags)], f"{order}u2").tobytes()
    for tag, value in tags.items():
        directory += np.array([tag, 4], f"{order}u2").tobytes() + np.array([1, value], f"{order}u4").tobytes()
    start = (b"II" if order == "<" else b"MM") + np.array([42], f"{order}u2").tobytes()
    content = start + np.array([8], f"{order}u4").tobytes() + directory + bytes(4)
    return content.ljust(200, b"\0") + pixels.tobytes()


REFUSED = {
    "rgb": (Image.new("RGB", (4, 5)), "png", r"a colour picture \(mode RGB\).*save it grey"),
    "rgba": (Image.new("RGBA", (4, 5)), "png", r"a colour picture \(mode RGBA\)"),
    "palette": (Image.new("P", (4, 5)), "png", r"a colour picture \(mode P\)"),
    "rgb tiff": (Image.new("RGB", (4, 5)), "tif", r"a colour picture \(mode RGB\)"),
    "one bit": (Image.new("1", (4, 5)), "png", r"pixels of mode 1, not 8 or 16 bit"),
    "float": (Image.new("F", (4, 5)), "tif", r"pixels of mode F, not 8 or 16 bit"),
    "32 bit": (Image.new("I", (4, 5)), "tif", r"pixels of mode I, not 8 or 16 bit"),
}


@pytest.mark.parametrize(("picture", "suffix", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_grey_of_8_or_16_bit_is_refused_by_name(tmp_path, picture, suffix, message):
    path = tmp_path / f"slice.{suffix}"
    picture.save(path)
    for reader in (read, read_grid):
        with pytest.raises(DataError, match=rf"slice\.{suffix}: {message}"):
            reader(path)


def test_pages_are_refused_by_name(tmp_path):
    page = Image.new("L", (4, 5))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(DataError, match=r"pages\.tif: several pages"):
        read(tmp_path / "pages.tif")


def test_other_pictures_and_text_are_refused_whatever_their_name(tmp_path):
    Image.new("L", (4, 5)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").rename(tmp_path / "photo.png")
    (tmp_path / "text.tif").write_text("hello")
    for name in ("photo.png", "text.tif"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read as PNG or TIFF"):
            read(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it mends
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["png", "tif"]), st.floats(0, 1), st.binary(min_size=0, max_size=6), st.booleans())
def test_no_broken_picture_ends_in_anything_but_a_volume_or_a_named_error(tmp_path_factory, suffix, at, damage, cut):
    path = save(tmp_path_factory.mktemp("fuzz") / f"slice.{suffix}", (GREY * 3000).astype(np.uint16))
    content = bytearray(path.read_bytes())
    start = int(at * len(content))
    content[start : None if cut else start + len(damage)] = damage
    path.write_bytes(content)
    with contextlib.suppress(MedganError):
        assert read(path).voxels.shape[2] == 1
