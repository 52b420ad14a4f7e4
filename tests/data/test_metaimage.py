import numpy as np
import pytest

from medgan.data.metaimage import read, read_grid
from medgan.errors import DataError, GeometryError

HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "1 1 2",
    "DimSize": "2 2 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
VOXELS = np.arange(8, dtype="<i2")
STORED = VOXELS.tobytes()
LPS = np.diag([-1.0, -1, 2, 1]) + [[0, 0, 0, x] for x in (-1, -2, 3, 0)]


@pytest.fixture
def write(tmp_path):
    """Write a file from its fields, ``None`` for one that is left out: ``write(NDims="2")``."""

    def save(content=STORED, **changes):
        fields = {**HEADER, **changes}
        fields["ElementDataFile"] = fields.pop("ElementDataFile")  # the last
        text = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
        path = tmp_path / "a.mha"
        path.write_bytes(text.encode() + content)
        return path

    return save


def test_big_endian_voxels_are_turned(write):
    volume = read(write(VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True"))
    np.testing.assert_array_equal(volume.voxels, VOXELS.reshape((2, 2, 2), order="F"))


def test_a_header_that_says_how_many_bytes_to_skip_is_obeyed(write, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"12345" + VOXELS.tobytes())
    for skip in ("5", "-1"):
        volume = read(write(b"", HeaderSize=skip, ElementDataFile="a.raw"))
        np.testing.assert_array_equal(volume.voxels.ravel(order="F"), VOXELS)


@pytest.mark.parametrize(("word", "modality"), [("MET_MOD_CT", "CT"), ("MET_MOD_MR", "MR"), ("MET_MOD_OTHER", None)])
def test_a_header_may_say_its_modality(write, word, modality):
    assert read(write(Modality=word)).modality == modality


def test_a_file_without_orientation_is_taken_along_the_axes_and_noted(write):
    volume = read(write(TransformMatrix=None))
    assert volume.notes == ("its header does not say how it lies in the patient",)
    np.testing.assert_array_equal(volume.grid.affine, LPS)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"ElementSpacing": None}, GeometryError, "no voxel spacing"),
        ({"ElementSpacing": "1 -1 2"}, GeometryError, "not positive"),
        ({"ElementSpacing": "1 nan 2"}, GeometryError, "not positive"),
        ({"ElementSpacing": "1 inf 2"}, GeometryError, "not positive"),
        ({"ElementSpacing": "1 2"}, DataError, "3 numbers were expected"),
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
def test_a_header_that_cannot_be_trusted_is_refused(write, fields, error, message):
    with pytest.raises(error, match=rf"a\.mha: .*{message}"):
        read_grid(write(**fields))
