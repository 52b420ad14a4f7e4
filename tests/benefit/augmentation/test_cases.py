import numpy as np
import pytest

from medgan.benefit.augmentation.cases import read_cases, read_record, shuffled, write_cases
from medgan.data.preparation import Prepared
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Synthetic


def case(subject, number, shape=(4, 5, 3)):
    random = np.random.default_rng(number)
    image = Prepared(
        random.normal(size=shape).astype(np.float32), np.diag([1.0, 2.0, 3.0, 1.0]), ((0, 4), (1, 5), (0, 3)), (0.1, 7)
    )
    return Labelled(subject, image, random.integers(3, size=shape).astype(np.uint8))


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 1)], ids=["3d", "2d"])
def test_a_case_is_read_as_it_was_made(tmp_path, shape):
    made = case("s1", 0, shape)
    write_cases(tmp_path, [Synthetic(made, ("s1", "s2"), {"size": 3})], {"method": "copy-paste"})
    (read,) = read_cases(tmp_path)
    assert read.subject == "s1"
    np.testing.assert_array_equal(read.image.voxels, made.image.voxels)
    np.testing.assert_array_equal(read.image.affine, made.image.affine)
    np.testing.assert_array_equal(read.labels, made.labels)
    assert (read.image.body, read.image.bounds) == (made.image.body, made.image.bounds)
    assert (read.image.voxels.dtype, read.labels.dtype) == (np.float32, np.uint8)


def test_the_record_says_whom_each_was_made_of_and_tells_other_voxels_apart(tmp_path):
    one = write_cases(tmp_path / "a", [Synthetic(case("s1", 0), ("s1", "s2"), {"size": 3})], {"method": "copy-paste"})
    assert read_record(tmp_path / "a") == one
    assert one["cases"] == [{"subject": "s1", "parents": ["s1", "s2"], "how": {"size": 3}}]
    assert one["method"] == "copy-paste"
    hashes = {write_cases(tmp_path / str(n), [Synthetic(case("s1", n), ("s1",), {})], {})["sha256"] for n in (0, 0, 1)}
    assert len(hashes) == 2
    assert one["sha256"] in hashes


def test_cases_that_were_not_all_made_are_not_there(tmp_path):
    def broken():
        yield Synthetic(case("s1", 0), ("s1",), {})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cases(tmp_path, broken(), {})
    assert read_record(tmp_path) == {}
    with pytest.raises(DataError, match="holds no synthetic cases"):
        read_cases(tmp_path)


def test_a_damaged_case_is_named(tmp_path):
    write_cases(tmp_path, [Synthetic(case("s1", 0), ("s1",), {})], {})
    (tmp_path / "0000.npz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"0000.npz: cannot be read"):
        read_cases(tmp_path)


def test_no_case_keeps_its_own_labels_nor_those_of_its_own_anatomy():
    cases = [case("s1", 0), case("s1", 1), case("s2", 2, (6, 5, 3))]
    mixed = shuffled(cases, ["s1", "s1", "s2"])
    for before, after in zip(cases, mixed, strict=True):
        np.testing.assert_array_equal(after.image.voxels, before.image.voxels)
        assert after.labels.shape == before.image.voxels.shape
    np.testing.assert_array_equal(mixed[2].labels[[0, 2, 3, 5]], cases[0].labels[[0, 1, 2, 3]])
    np.testing.assert_array_equal(mixed[0].labels, cases[2].labels[[0, 2, 3, 5]])
    np.testing.assert_array_equal(mixed[1].labels, mixed[0].labels)


def test_of_one_anatomy_the_next_cases_labels_serve():
    cases = [case("s1", 0), case("s1", 1)]
    np.testing.assert_array_equal(shuffled(cases, ["s1", "s1"])[0].labels, cases[1].labels)
    with pytest.raises(DataError, match="cannot be exchanged"):
        shuffled(cases[:1], ["s1"])
