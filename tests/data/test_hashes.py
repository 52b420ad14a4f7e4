import hashlib
import os

import numpy as np
import pytest

from medgan.data import hashes as module
from medgan.data.hashes import _memoised, default_folder, file_hash, image_hash, known_by
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import DataError

CT = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """What is known of a file of this test; ``ask.reads`` counts how often it was looked into."""
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED_NS", 0)  # the test's files need not grow old first

    def answer(path, **options):
        def read():
            answer.reads += 1
            return path.read_text()

        return _memoised("text 1", path, read, **options)

    answer.reads = 0
    return answer


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_text("one")
    return tmp_path / "file"


def entries():
    return list((default_folder() / "remembered").glob("*"))


def test_a_file_is_looked_into_once_and_again_when_it_changes_though_with_its_old_time_and_size(ask, path, tmp_path):
    assert [ask(path), ask(path), ask.reads] == ["one", "one", 1]
    path.write_text("three")
    assert [ask(path), ask.reads] == ["three", 2]
    for text in ("seven", "eight"):
        path.write_text(text)
        os.utime(path, ns=(0, 0))
        assert ask(path) == text
    assert not (tmp_path / "cache").exists()


def test_what_is_kept_on_disk_serves_the_next_process_unless_it_is_damaged(ask, path, monkeypatch):
    assert ask(path, on_disk=True) == "one"
    monkeypatch.setattr(module, "_answers", {})
    assert [ask(path, on_disk=True), ask.reads] == ["one", 1]
    (entry,) = entries()
    entry.write_text(entry.read_text().replace("one", "two"))
    monkeypatch.setattr(module, "_answers", {})
    assert [ask(path, on_disk=True), ask.reads] == ["one", 2]


def test_a_file_that_was_just_written_is_not_remembered(ask, path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", 10**12)
    assert [ask(path, on_disk=True), ask(path, on_disk=True), ask.reads] == ["one", "one", 2]
    assert not entries()


def test_without_a_place_to_keep_it_the_answer_is_given_all_the_same(ask, path, tmp_path):
    (tmp_path / "cache").write_text("a file in the folder's place")
    assert ask(path, on_disk=True) == "one"


def test_a_folder_changes_with_the_files_in_it(ask, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for name, names in (("one", "one"), ("two", "one two")):
        (folder / name).touch()
        for place in (folder, folder / "no_file"):
            listed = " ".join(sorted(path.name for path in folder.iterdir()))
            assert _memoised("names 1", place, lambda listed=listed: listed) == names


def test_voxels_beside_their_header_are_looked_into_again_when_they_change(ask, path, tmp_path):
    voxels = tmp_path / "a.raw"
    voxels.write_text("one")
    assert [ask(path, beside=voxels), ask(path, beside=voxels), ask.reads] == ["one", "one", 1]
    voxels.write_text("three")
    assert [ask(path, beside=voxels), ask.reads] == ["one", 2]


def test_the_hash_of_a_file_is_its_sha256_and_what_cannot_be_hashed_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert file_hash(tmp_path / "a.txt") == hashlib.sha256(b"text").hexdigest()
    for place, message in ((tmp_path / "gone", "gone: cannot be read"), (tmp_path, "a folder without DICOM files")):
        with pytest.raises(DataError, match=message):
            file_hash(place)


def test_the_hash_of_a_series_tells_its_content_not_its_names(tmp_path, write_series):
    folder = write_series(tmp_path / "series", [0, 2, 4])
    before = file_hash(folder)
    (folder / "97.dcm").rename(folder / "CT.1.2")
    (folder / "notes.txt").write_text("looked at")
    assert file_hash(folder) == before
    (folder / "99.dcm").write_bytes((folder / "99.dcm").read_bytes() + b"\0")
    assert file_hash(folder) != before


def test_an_image_has_one_hash_however_it_is_stored_and_another_one_another(write_nifti, tmp_path):
    affine = np.diag([-0.7, 0.7, 2.5, 1.0])
    moved, flipped, turned = affine.copy(), affine.copy(), affine[:, [2, 0, 1, 3]]
    moved[:3, 3] = 9, -8, 7
    flipped[:, 0] *= -1
    first = write_nifti(tmp_path / "first.nii.gz", CT, affine)
    others = [
        write_nifti(tmp_path / "plain.nii", CT, affine, descrip=b"another export"),
        write_nifti(tmp_path / "float.nii.gz", CT.astype(np.float64), affine, endianness=">"),
        write_nifti(tmp_path / "scaled.nii.gz", CT * 2 - 20, affine, scl_slope=0.5, scl_inter=10),
        write_nifti(tmp_path / "moved.nii", CT, moved),
        write_nifti(tmp_path / "flipped.nii", CT[::-1], flipped),
        write_nifti(tmp_path / "turned.nii", CT.transpose(2, 0, 1), turned),
    ]
    assert {image_hash(path) for path in others} == {image_hash(first)}
    assert len({file_hash(path) for path in (first, *others)}) == 7
    changed = CT.copy()
    changed[1, 1, 1] += 1
    strangers = [
        write_nifti(tmp_path / "changed.nii", changed, affine),
        write_nifti(tmp_path / "mirrored.nii", CT[::-1], affine),
        write_nifti(tmp_path / "spaced.nii", CT, affine @ np.diag([1, 1, 1.01, 1])),
    ]
    assert len({image_hash(path) for path in (first, *strangers)}) == 4


def test_a_series_and_the_volume_made_of_it_are_one_image(write_series, tmp_path):
    series = read_volume(write_series(tmp_path / "series", [4, 0, 2]))
    write_volume(series.voxels, series.grid, tmp_path / "made.nii.gz", np.int16)
    assert image_hash(tmp_path / "made.nii.gz") == image_hash(tmp_path / "series")


def test_what_cannot_be_read_or_shows_nothing_is_known_by_its_bytes_alone(write_nifti, tmp_path):
    blank = write_nifti(tmp_path / "blank.nii", np.full((3, 4, 5), -1000, np.int16))
    broken = tmp_path / "broken.nii.gz"
    broken.write_text("no image")
    assert image_hash(blank) is image_hash(broken) is None
    assert known_by(blank) == (file_hash(blank),)
    assert known_by(broken) == (file_hash(broken),)
    assert known_by(tmp_path / "gone.nii") == ()
