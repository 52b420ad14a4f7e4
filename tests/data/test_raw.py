"""Both formats of voxels behind a text header: SimpleITK writes them, and its affine and voxels are the oracle."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.data.grid import LPS_TO_RAS
from medgan.data.hashes import file_hash, image_hash
from medgan.data.listing import find_images
from medgan.data.volumes import read_grid, read_volume
from medgan.errors import DataError, GeometryError

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
TURNED = (0.8, 0.6, 0.0, 0.0, 0.0, 1.0, 0.6, -0.8, 0.0)


def voxels(shape=(5, 4, 3), dtype=np.int16):
    numbers = np.arange(np.prod(shape)).reshape(shape) * 7 - (200 if np.dtype(dtype).kind in "if" else 0)
    return (numbers % 100 if np.dtype(dtype).itemsize == 1 else numbers).astype(dtype)


@pytest.fixture
def write(tmp_path):
    """Write an image of SimpleITK: ``write(".mha", voxels, compressed=True)``; its path."""

    def save(suffix, array=None, *, direction=TURNED, compressed=False):
        image = sitk.GetImageFromArray(voxels() if array is None else array)
        if image.GetDimension() == 3:
            image.SetDirection(direction)
        image.SetSpacing((0.5, 0.75, 2.5)[: image.GetDimension()])
        image.SetOrigin((10, -20, 30.5)[: image.GetDimension()])
        path = tmp_path / f"image{suffix}"
        sitk.WriteImage(image, path, compressed)
        return path

    return save


def changed(path, old, new):
    content = path.read_bytes()
    assert old in content, content[:500]
    path.write_bytes(content.replace(old, new))
    return path


def oracle(path):
    image = sitk.ReadImage(path)
    affine, axes = np.eye(4), image.GetDimension()
    affine[:axes, :axes] = np.array(image.GetDirection()).reshape(axes, axes) * image.GetSpacing()
    affine[:axes, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T.reshape((*image.GetSize(), 1)[:3]), LPS_TO_RAS @ affine


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)], ids=["2d", "3d"])
def test_voxels_and_affine_are_those_that_simpleitk_reads_whatever_their_type(write, suffix, compressed, shape):
    whole = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
    for dtype in (*whole, np.float32, np.float64):
        path = write(suffix, voxels(shape, dtype), compressed=compressed)
        volume = read_volume(path)
        expected, affine = oracle(path)
        np.testing.assert_array_equal(volume.voxels, expected)
        np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-6)
        assert volume.notes == () or len(shape) == 2  # NRRD has no space of two axes
    np.testing.assert_array_equal(read_grid(path).affine, volume.grid.affine)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_file_is_named(write, suffix, compressed, tmp_path):
    path = write(suffix, compressed=compressed)
    (data,) = (file for file in tmp_path.iterdir() if file != path)
    data.write_bytes(data.read_bytes()[:-7])
    message = {
        True: f"/{data.name}: truncated, its compressed voxels end too early; copy it again",
        False: f"/{path.name}: the header promises 120 bytes .* but {data.name} can hold 113: it is truncated",
    }
    with pytest.raises(DataError, match=message[compressed]):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_damaged_compressed_voxels_are_named(write, suffix):
    path = write(suffix, compressed=True)
    content = bytearray(path.read_bytes())
    content[-3] ^= 255  # within the checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"image\{suffix}: corrupt compressed voxels"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_bytes_that_the_header_does_not_tell_of_are_noted_and_voxels_that_are_no_numbers_refused(write, suffix):
    path = write(suffix)
    path.write_bytes(path.read_bytes() + b"more")
    volume = read_volume(path)
    assert volume.notes == ("its file holds more than its header tells of",)
    np.testing.assert_array_equal(volume.voxels, voxels().T)
    with pytest.raises(DataError, match="1 of 60 voxels are NaN"):
        read_volume(write(suffix, np.where(voxels() == voxels().max(), np.nan, 0).astype(np.float32)))


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("name", ["sub/image.raw", "LIST", "image%03d.raw 1 5 1", ""])
def test_voxels_are_one_file_beside_their_header(write, suffix, name):
    path = changed(write(suffix), b"image.raw", name.encode())
    with pytest.raises(DataError, match=r"not in its own folder|in several files|names no file of voxels"):
        read_volume(path)
    assert image_hash(path) is None


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_that_are_no_file_are_named(write, suffix, tmp_path):
    path = write(suffix)
    (tmp_path / "image.raw").unlink()
    (tmp_path / "image.raw").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"image\.raw: a device, not a file"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_and_its_voxels_are_one_image(write, suffix, tmp_path):
    path = write(suffix, compressed=True)
    listing = find_images(tmp_path)
    assert (listing.images, listing.passed_over) == ((path,), {})
    before = {file_hash(path), image_hash(path)}
    write(suffix, voxels() + np.int16(1), compressed=True)
    assert not before & {file_hash(path), image_hash(path)}


def test_one_image_has_one_hash_in_every_format(write):
    assert len({image_hash(write(suffix)) for suffix in (*SUFFIXES, ".nii.gz")}) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_such_file_is_refused_by_name(tmp_path, suffix):
    for content in (b"", b"text", bytes(2000), b"NRRD0004\ntype: short\n\n", b"ObjectType = Image\n"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\{suffix}: (not a|an empty file|its NRRD header has no)"):
            read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("colours", [False, True])
def test_four_axes_and_colours_are_refused(write, suffix, tmp_path, colours):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 5, 4, 3), np.int16), isVector=colours), tmp_path / f"a{suffix}")
    with pytest.raises(DataError, match=r"4D with shape|several values a voxel|are no grid"):
        read_volume(tmp_path / f"a{suffix}")


METAIMAGE = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "ElementSpacing": "1 1 2",
    "DimSize": "2 2 2", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip
VOXELS = np.arange(8, dtype="<i2")
CUBE, STORED = VOXELS.reshape((2, 2, 2), order="F"), VOXELS.tobytes()
LPS = np.diag([-1.0, -1, 2, 1]) + [[0, 0, 0, x] for x in (-1, -2, 3, 0)]


@pytest.fixture
def metaimage(tmp_path):
    """Write a file from its fields, ``None`` for one that is left out: ``metaimage(NDims="2")``."""

    def save(content=STORED, **changes):
        fields = {**METAIMAGE, **changes}
        fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last
        text = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
        path = tmp_path / "a.mha"
        path.write_bytes(text.encode() + content)
        return path

    return save


def test_a_header_that_says_how_many_bytes_to_skip_is_obeyed(metaimage, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"12345" + VOXELS.tobytes())
    for skip in ("5", "-1"):
        path = metaimage(b"", HeaderSize=skip, ElementDataFile="a.raw")
        np.testing.assert_array_equal(read_volume(path).voxels, CUBE)


def test_a_header_may_say_its_modality_and_without_orientation_is_taken_along_the_axes(metaimage):
    for word, modality in {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_OTHER": None}.items():
        assert read_volume(metaimage(Modality=word)).modality == modality
    np.testing.assert_array_equal(read_grid(metaimage(TransformMatrix=None)).affine, LPS)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"ElementSpacing": "1 nan 2"}, GeometryError, "not positive"),
        ({"ElementSpacing": "1 inf 2"}, GeometryError, "not positive"),
        ({"ElementSpacing": "1 2"}, DataError, "3 numbers were expected"),
        ({"Offset": "1 nan 3"}, GeometryError, "not finite"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0"}, DataError, "9 numbers were expected"),
        ({"NDims": "three"}, DataError, "a whole number was expected"),
        ({"DimSize": "2 2 0"}, DataError, "no image or volume"),
        ({"DimSize": "2 2 -2"}, DataError, "no image or volume"),
        ({"NDims": "4", "DimSize": "2 2 2 1"}, DataError, "4D with shape"),
        ({"ElementType": "MET_OTHER"}, DataError, "type MET_OTHER are no intensities"),
        ({"ElementNumberOfChannels": "3"}, DataError, "several values a voxel"),
        ({"BinaryData": "False"}, DataError, "its voxels are text"),
        ({"ElementToIntensityFunctionSlope": "2"}, DataError, "its voxels are scaled"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, DataError, "where its compressed voxels begin"),
    ],
)
def test_a_metaimage_header_that_cannot_be_trusted_is_refused(metaimage, fields, error, message):
    with pytest.raises(error, match=rf"a\.mha: .*{message}"):
        read_grid(metaimage(**fields))


NRRD = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "2 2 2",
    "space directions": "(1,0,0) (0,1,0) (0,0,2)", "kinds": "domain domain domain", "endian": "little",
    "encoding": "raw", "space origin": "(1,2,3)",
}  # fmt: skip


@pytest.fixture
def nrrd(tmp_path):
    """Write a file from its fields, ``None`` for one that is left out: ``nrrd(endian="big")``."""

    def save(changes, content=STORED, line="\n"):
        lines = [f"{name}: {value}" for name, value in (NRRD | changes).items() if value is not None]
        path = tmp_path / "a.nrrd"
        path.write_bytes(line.join(["NRRD0005", "# made up", "who:=nobody", *lines, "", ""]).encode() + content)
        return path

    return save


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_header_may_end_its_lines_in_either_way(nrrd, line):
    volume = read_volume(nrrd({}, line=line))
    np.testing.assert_array_equal(volume.voxels, CUBE)
    np.testing.assert_array_equal(volume.grid.affine, LPS)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))],
)
def test_every_known_space_is_turned_to_ras(nrrd, space, signs):
    affine = read_volume(nrrd({"space": space})).grid.affine
    np.testing.assert_array_equal(affine[:3], (np.diag([1.0, 1, 2, 1]) + [[0, 0, 0, x] for x in (1, 2, 3, 0)])[:3]
                                  * np.array(signs)[:, None])  # fmt: skip


def test_a_slice_in_space_is_one_millimetre_thick_along_its_normal(nrrd):
    changes = {"dimension": "2", "sizes": "4 2", "space directions": "(0,2,0) (0,0,3)", "kinds": None}
    volume = read_volume(nrrd(changes))
    assert volume.grid.size == (4, 2, 1)
    np.testing.assert_array_equal(volume.grid.affine[:3, :3], [[0, 0, -1], [-2, 0, 0], [0, 3, 0]])


@pytest.mark.parametrize("changes", [{"space": None}, {"space": None, "space directions": None, "spacings": "1 1 2"}])
def test_a_file_without_a_space_is_taken_along_the_axes_and_noted(nrrd, changes):
    volume = read_volume(nrrd(changes))
    assert volume.notes == ("its header does not say how it lies in the patient",)
    np.testing.assert_array_equal(volume.grid.spacing_mm, (1, 1, 2))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"space directions": None}, GeometryError, "no voxel spacing"),
        ({"space directions": None, "spacings": "1 nan 2"}, GeometryError, "not positive"),
        ({"space directions": "(1,0,0) (0,1,0)"}, GeometryError, "are no grid"),
        ({"space directions": "none (0,1,0) (0,0,2)"}, GeometryError, "are no grid"),
        ({"space directions": "(1,0,0) (0,x,0) (0,0,2)"}, DataError, "3 numbers were expected"),
        ({"space": "scanner-xyz"}, GeometryError, "the space scanner-xyz is not known"),
        ({"space directions": "(1,0,0) (0,0,0) (0,0,2)"}, GeometryError, "not positive"),
        ({"space origin": "(1,nan,3)"}, GeometryError, "not finite"),
        ({"space origin": "(1,2)"}, GeometryError, "has no 3 axes"),
        ({"kinds": "domain domain list"}, DataError, "several values a voxel"),
        ({"dimension": "4", "sizes": "2 2 2 1"}, DataError, "4D with shape"),
        ({"type": "block"}, DataError, "type block are no intensities"),
        ({"encoding": "ascii"}, DataError, "NRRD in ascii is not read"),
        ({"endian": None}, DataError, "the order of bytes"),
        ({"old min": "-1000"}, DataError, "quantised"),
        ({"line skip": "2"}, DataError, "lines are to be skipped"),
        ({"byte skip": "2"}, DataError, "bytes are to be skipped"),
        ({"sizes": "2 2 two"}, DataError, "a whole number was expected"),
        ({"sizes": None}, DataError, "has no sizes"),
    ],
)
def test_a_nrrd_header_that_cannot_be_trusted_is_refused(nrrd, changes, error, message):
    with pytest.raises(error, match=rf"a\.nrrd: .*{message}"):
        read_grid(nrrd(changes))


def test_big_endian_voxels_are_turned(metaimage, nrrd):
    turned = VOXELS.astype(">i2").tobytes()
    for path in (metaimage(turned, BinaryDataByteOrderMSB="True"), nrrd({"endian": "big"}, turned)):
        np.testing.assert_array_equal(read_volume(path).voxels, CUBE)
