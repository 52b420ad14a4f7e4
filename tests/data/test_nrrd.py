import numpy as np
import pytest

from medgan.data.nrrd import read, read_grid
from medgan.errors import DataError, GeometryError

HEADER = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 2 2",
    "space directions": "(1,0,0) (0,1,0) (0,0,2)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}
VOXELS = np.arange(8, dtype="<i2")
STORED = VOXELS.tobytes()
LPS = np.diag([-1.0, -1, 2, 1]) + [[0, 0, 0, x] for x in (-1, -2, 3, 0)]


@pytest.fixture
def write(tmp_path):
    """Write a file from its fields, ``None`` for one that is left out: ``write(endian="big")``."""

    def save(changes, content=STORED, line="\n"):
        lines = [f"{name}: {value}" for name, value in (HEADER | changes).items() if value is not None]
        path = tmp_path / "a.nrrd"
        path.write_bytes(line.join(["NRRD0005", "# made up", "who:=nobody", *lines, "", ""]).encode() + content)
        return path

    return save


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_header_may_end_its_lines_in_either_way(write, line):
    volume = read(write({}, line=line))
    np.testing.assert_array_equal(volume.voxels, VOXELS.reshape((2, 2, 2), order="F"))
    np.testing.assert_array_equal(volume.grid.affine, LPS)


def test_big_endian_voxels_are_turned(write):
    volume = read(write({"endian": "big"}, VOXELS.astype(">i2").tobytes()))
    np.testing.assert_array_equal(volume.voxels.ravel(order="F"), VOXELS)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))],
)
def test_every_known_space_is_turned_to_ras(write, space, signs):
    affine = read(write({"space": space})).grid.affine
    np.testing.assert_array_equal(affine[:3], (np.diag([1.0, 1, 2, 1]) + [[0, 0, 0, x] for x in (1, 2, 3, 0)])[:3]
                                  * np.array(signs)[:, None])  # fmt: skip


def test_a_slice_in_space_is_one_millimetre_thick_along_its_normal(write):
    changes = {"dimension": "2", "sizes": "4 2", "space directions": "(0,2,0) (0,0,3)", "kinds": None}
    volume = read(write(changes))
    assert volume.grid.size == (4, 2, 1)
    np.testing.assert_array_equal(volume.grid.affine[:3, :3], [[0, 0, -1], [-2, 0, 0], [0, 3, 0]])


@pytest.mark.parametrize("changes", [{"space": None}, {"space": None, "space directions": None, "spacings": "1 1 2"}])
def test_a_file_without_a_space_is_taken_along_the_axes_and_noted(write, changes):
    volume = read(write(changes))
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
        ({"space origin": "(1,2)"}, GeometryError, "has another dimension"),
        ({"space units": '"m" "m" "m"'}, GeometryError, "lengths in m; save it in mm"),
        ({"kinds": "domain domain list"}, DataError, "several values a voxel"),
        ({"dimension": "4", "sizes": "2 2 2 1"}, DataError, "4D with shape"),
        ({"type": "block"}, DataError, "type block are no intensities"),
        ({"encoding": "bzip2"}, DataError, "NRRD in bzip2 is not read"),
        ({"encoding": "ascii"}, DataError, "NRRD in ascii is not read"),
        ({"endian": None}, DataError, "the order of bytes"),
        ({"old min": "-1000"}, DataError, "quantised"),
        ({"line skip": "2"}, DataError, "lines are to be skipped"),
        ({"byte skip": "2"}, DataError, "bytes are to be skipped"),
        ({"sizes": "2 2 two"}, DataError, "a whole number was expected"),
        ({"sizes": None}, DataError, "has no sizes"),
    ],
)
def test_a_header_that_cannot_be_trusted_is_refused(write, changes, error, message):
    with pytest.raises(error, match=rf"a\.nrrd: .*{message}"):
        read_grid(write(changes))
