"""The cache of prepared studies: by content, whole or not at all, shared by processes."""

import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from medgan.data.cache import Cache, _bytes, default_folder
from medgan.data.domains import Domain, Window
from medgan.data.grid import made_up_grid
from medgan.data.preparation import GridConfig, prepare, scan_of
from medgan.data.studies import Study
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import DataError

CT = Domain(name="ct", modality="CT", unit="HU", air=-1024, window=Window(lower=-300, upper=700))
COARSE = GridConfig(spacing_mm=(1.5, 1.5, None))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(params=[1, 5], ids=["slice", "3d"])
def study(request, tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 24, request.param))
    return written(tmp_path / "a.nii.gz", hu)


def written(path, hu):
    write_volume(hu, made_up_grid(hu.shape, np.diag([0.8, 0.9, 3.0, 1.0])), path, np.int16)
    return study_of(path)


def study_of(path):
    return Study("s", "ct", path)


def entries(cache):
    return sorted(path.name for path in cache.folder.iterdir())


def assert_same(one, other):
    assert np.array_equal(one.voxels, other.voxels)
    assert np.array_equal(one.affine, other.affine)
    assert (one.body, one.bounds) == (other.body, other.bounds)


def test_both_reads_are_what_preparing_gives_to_the_bit_and_the_second_comes_from_the_disk(cache, study):
    expected = prepare(read_volume(study.image), CT, COARSE)
    assert_same(cache.prepared(study, CT, COARSE), expected)
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.folder.iterdir()]
    second = cache.prepared(study, CT, COARSE)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.folder.iterdir()] == before
    assert_same(second, expected)
    assert isinstance(second.voxels, np.memmap)
    assert not second.voxels.flags.writeable


def opened():
    return [file for file in psutil.Process().open_files() if file.path.endswith(".npy")]


def test_an_entry_goes_to_another_process_as_a_path_and_its_file_is_not_held_open(cache, study):
    prepared = cache.prepared(study, CT, COARSE)
    many = [pickle.loads(pickle.dumps(prepared)) for _ in range(3)]
    assert len(pickle.dumps(prepared)) < 1500
    assert not opened()
    for each in (*many, replace(prepared, bounds=(0.0, 1.0))):
        assert np.array_equal(each.voxels, prepared.voxels)
    assert len(opened()) == 1
    assert np.array_equal(replace(prepared, voxels=prepared.voxels[2:]).voxels, prepared.voxels[2:])


def test_an_entry_that_is_gone_when_it_is_looked_at_is_told(cache, study):
    prepared = cache.prepared(study, CT, COARSE)
    (entry,) = cache.folder.glob("*.npy")
    entry.unlink()
    with pytest.raises(DataError, match=f"{entry.name}: a prepared study is gone"):
        _ = prepared.voxels


def test_an_entry_is_named_by_content_wherever_the_study_lies_and_one_that_changes_is_prepared_anew(
    cache, study, tmp_path
):
    before = cache.prepared(study, CT, COARSE)
    (tmp_path / "elsewhere").mkdir()
    cache.prepared(study_of(Path(shutil.copy(study.image, tmp_path / "elsewhere" / "b.nii.gz"))), CT, COARSE)
    assert len(entries(cache)) == 2
    written(study.image, np.random.default_rng(1).integers(-1000, 7, (20, 24, before.voxels.shape[2])))
    assert cache.prepared(study, CT, COARSE).voxels.max() < 7 < before.voxels.max()


def test_other_settings_make_another_entry(cache, study):
    window, air = {"window": Window(lower=-300, upper=701)}, {"air": -500.0}
    others = [(CT.model_copy(update=change), COARSE) for change in ({}, window, air)]
    for count, (domain, grid) in enumerate([*others, (CT, GridConfig(spacing_mm=(2.0, 1.5, None)))], start=1):
        assert_same(cache.prepared(study, domain, grid), prepare(read_volume(study.image), domain, grid))
        assert len(entries(cache)) == 2 * count


@pytest.mark.parametrize(
    "damage", ["no facts", "no voxels", "half the voxels", "empty voxels", "half the facts", "list"]
)
def test_a_damaged_entry_is_made_anew(cache, study, damage):
    expected = prepare(read_volume(study.image), CT, COARSE)
    cache.prepared(study, CT, COARSE)
    (voxels,), (facts,) = cache.folder.glob("*.npy"), cache.folder.glob("*.json")
    whole = {path: path.read_bytes() for path in (voxels, facts)}
    damaged = facts if damage in ("no facts", "half the facts", "list") else voxels
    half = whole[damaged][: len(whole[damaged]) // 2]
    damaged.unlink()
    if not damage.startswith("no "):
        damaged.write_bytes({"list": b"[]", "empty voxels": b""}.get(damage, half))
    assert_same(cache.prepared(study, CT, COARSE), expected)
    assert {path: path.read_bytes() for path in (voxels, facts)} == whole
    assert entries(cache) == sorted([voxels.name, facts.name])


@pytest.mark.parametrize("part", ["*.npy", "*.json"])
def test_a_changed_byte_is_noticed_and_said(cache, study, part, caplog):
    cache.prepared(study, CT, COARSE)
    (path,) = cache.folder.glob(part)
    whole = path.read_bytes()
    place = whole.find(b"-") if part == "*.json" else len(whole) - 2  # of a voxel, or of the affine or bounds
    assert place > 0
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 13]) + whole[place + 1 :])
    os.utime(path, ns=(1, 1))
    caplog.clear()
    assert_same(cache.prepared(study, CT, COARSE), prepare(read_volume(study.image), CT, COARSE))
    assert path.read_bytes() == whole
    (record,) = caplog.records
    assert "is damaged (its checksum differs) is made anew of" in record.getMessage()


def test_an_entry_tells_how_its_study_was_scanned(cache, study):
    expected = scan_of(read_volume(study.image))
    assert expected.spacing_mm == pytest.approx((0.8, 0.9, 3.0))
    for _ in range(2):
        scan = cache.prepared(study, CT, COARSE).scan
        assert (*scan.spacing_mm, *scan.field_mm) == (*expected.spacing_mm, *expected.field_mm)
        assert (scan.slices, scan.modality) == (expected.slices, None)


def test_a_study_that_cannot_be_read_or_of_its_domain_leaves_no_entry(cache, tmp_path):
    unit = written(tmp_path / "unit.nii.gz", np.random.default_rng(0).integers(-1, 2, (20, 24, 5)))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"unit\.nii\.gz: cannot be a CT of domain 'ct'.*`medgan data check`"):
        cache.prepared(unit, CT, COARSE)
    with pytest.raises(DataError, match=r"broken\.nii\.gz"):
        cache.prepared(study_of(tmp_path / "broken.nii.gz"), CT, COARSE)
    assert not cache.folder.exists() or entries(cache) == []


def test_studies_are_prepared_side_by_side_and_a_bad_one_is_told_to_who_asks_for_it(cache, tmp_path):
    random = np.random.default_rng(0)
    studies = [written(tmp_path / f"{n}.nii.gz", random.integers(-1000, 1000, (20, 24, 3))) for n in range(10)]
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    broken = study_of(tmp_path / "broken.nii.gz")
    cache.fill(((study, CT) for study in [broken, *studies, study_of(tmp_path / "missing.nii.gz")]), COARSE)
    before = entries(cache)
    assert len(before) == 2 * len(studies)
    for study in studies:
        assert_same(cache.prepared(study, CT, COARSE), prepare(read_volume(study.image), CT, COARSE))
    assert entries(cache) == before
    with pytest.raises(DataError, match=r"broken\.nii\.gz"):
        cache.prepared(broken, CT, COARSE)


def test_what_a_study_takes_on_the_disk_is_known_of_files_folders_and_series(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"12345")
    taken = {name: _bytes(tmp_path / name) for name in (".", "series_1", "a.dcm")}
    assert taken == {".": 10, "series_1": 10, "a.dcm": 5}


def test_those_that_prepare_the_same_study_at_once_agree(cache, study):
    expected, begun = prepare(read_volume(study.image), CT, COARSE), threading.Barrier(3)

    def prepared(_):
        begun.wait(60)
        return cache.prepared(study, CT, COARSE)

    with ThreadPoolExecutor(3) as several:  # a file's name while it is written is unique in a process, too
        for found in several.map(prepared, range(3)):
            assert_same(found, expected)
    assert len(entries(cache)) == 2


def test_the_folder_is_the_users_to_choose(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine"
    monkeypatch.delenv("MEDGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "medgan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "medgan"
