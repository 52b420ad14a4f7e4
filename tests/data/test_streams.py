import gzip
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import psutil
import pytest

from medgan.data import streams as leftovers
from medgan.data.streams import (
    _sweep,
    as_it_was,
    opened,
    replacing,
    unfinished,
    unfinished_folder,
    write_csv,
    write_text,
)
from medgan.errors import DataError

CONTENT = np.random.default_rng(0).bytes(100_000)


def read(path):
    with opened(path) as stream:
        return stream.read()


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_what_is_written_is_read_and_its_folders_are_made(tmp_path, name):
    path = tmp_path / "new" / "deep" / name
    with replacing(path) as stream:
        stream.write(CONTENT)
    assert read(path) == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_gzip_is_told_by_the_content_not_the_name_and_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a.gz", "b.gz"):
        with replacing(tmp_path / name) as stream:
            stream.write(CONTENT)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    (tmp_path / "a.gz").rename(tmp_path / "packed.nii")
    (tmp_path / "plain.nii.gz").write_bytes(CONTENT)
    assert read(tmp_path / "packed.nii") == read(tmp_path / "plain.nii.gz") == CONTENT


def interrupt(path):
    with replacing(path) as stream:
        stream.write(CONTENT)
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
@pytest.mark.parametrize("before", [None, b"the result of an earlier run"])
def test_an_interrupted_write_leaves_everything_as_it_was(tmp_path, name, before):
    path = tmp_path / name
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, name, full_disk):
    full_disk(len(CONTENT) // 2)
    with (
        pytest.raises(DataError, match=rf"{name}: cannot be written \(File too large\); make room"),
        replacing(tmp_path / name) as stream,
    ):
        stream.write(CONTENT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written"), replacing(tmp_path / "taken" / "a.bin") as stream:
        stream.write(CONTENT)


def test_broken_gzip_and_a_missing_file_are_named(tmp_path):
    packed = gzip.compress(CONTENT)
    (tmp_path / "half").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "junk").write_bytes(packed[:10] + b"x" * 99)
    reasons = {"half": "truncated.*copy it again", "junk": "corrupt gzip", "gone": r"cannot be read \(No such file"}
    for name, reason in reasons.items():
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=cmd()", "'=cmd()"), ("+1+1", "'+1+1"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1+1", "'\t=1+1"),
        ("-5", "-5"), ("+.5e3", "+.5e3"), ("-", "-"), ("", ""), ("s1", "s1"), ("'s1", "'s1"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_a_spreadsheet_computes_no_cell_of_ours(tmp_path, text, written):
    table = pd.DataFrame({"subject": [text], text or "x": [-1.5]})
    read = pd.read_csv(write_csv(tmp_path / "a.csv", table), dtype=str, keep_default_na=False)
    assert list(read.columns) == ["subject", written or "x"]
    assert read.iloc[0].tolist() == [written, "-1.5"]
    assert as_it_was(written) == text


DAY_S = 24 * 3600


def dead_process():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def sweep(folder):
    _sweep.cache_clear()
    _sweep(folder, os.getpid())


def mark(pid, machine=None):
    return f"{machine or leftovers._machine()}-{pid}-0123abcd"


@pytest.fixture
def left(tmp_path):
    """An entry of a name that was last changed some time ago; a name that ends in / is a folder with a file in it."""

    def leave(name, age_s=0.0):
        path = tmp_path / name
        if name.endswith("/"):
            path.mkdir()
            (path / "half.nii.gz").write_bytes(b"half")
        else:
            path.write_bytes(b"half")
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
        return path

    return leave


@pytest.mark.parametrize("name", [".a.nii.gz.{}.part", ".unfinished-{}/", ".x.tfm.{}.part.tfm", ".odd\nname.{}.part"])
def test_what_a_dead_process_left_is_removed_at_the_next_writing(left, tmp_path, name):
    path = left(name.format(mark(dead_process())))
    _sweep.cache_clear()
    write_text(tmp_path / "table.csv", "a")
    assert not path.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("name", [".a.nii.gz.{}.part", ".unfinished-{}/"])
def test_what_a_living_process_writes_is_left_alone_however_old(left, tmp_path, name):
    started = psutil.Process().create_time()
    path = left(name.format(mark(os.getpid())))
    os.utime(path, (started + 10, started + 10))
    sweep(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("days", [0.5, 2])
def test_where_nobody_can_be_asked_a_day_decides_and_who_got_a_number_later_is_no_owner(left, tmp_path, days):
    reused = left(f".b.{mark(os.getpid())}.part", age_s=30 * DAY_S)
    names = (f".a.{mark(1, 'feedbeef')}.part", ".a.csv.12ab34cd.part", ".unfinished-x1y2z3/")
    paths = [left(name, age_s=days * DAY_S) for name in names]
    sweep(tmp_path)
    assert [path.exists() for path in paths] == [days < 1] * 3
    assert not reused.exists()


def test_what_is_not_ours_stays_for_ever_and_a_link_is_not_followed(left, tmp_path):
    names = (".hidden.nii.gz", "a.part", ".part", ".a.part", ".git/", ".lock", "unfinished-x/")
    paths = [left(name, age_s=1000 * DAY_S) for name in (*names, f"a.{mark(1, 'feedbeef')}.part")]
    (tmp_path / f".unfinished-{mark(dead_process())}").symlink_to(tmp_path / "unfinished-x")
    sweep(tmp_path)
    assert all(path.exists() for path in (*paths, tmp_path / "unfinished-x" / "half.nii.gz"))


def test_a_killed_process_marks_what_it_leaves(tmp_path):
    program = (
        "import os, sys, pathlib; from medgan.data.streams import replacing;"
        "stream = replacing(pathlib.Path(sys.argv[1])); stream.__enter__().write(b'half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.csv")], check=False)
    (left_there,) = tmp_path.iterdir()
    assert leftovers.MARKED.fullmatch(left_there.name)
    sweep(tmp_path)
    assert not left_there.exists()


def test_names_are_short_and_folders_are_gone_in_the_end(tmp_path):
    part = unfinished(tmp_path / ("x" * 250))
    part.touch()
    assert leftovers.MARKED.fullmatch(part.name)
    with unfinished_folder(tmp_path) as folder:
        assert leftovers.MARKED.fullmatch(folder.name)
        (folder / "a").touch()
    assert not folder.exists()
