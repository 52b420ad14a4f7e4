"""What killed processes leave unfinished is removed by the next that writes there; nothing else is."""

import os
import subprocess
import sys

import psutil
import pytest

from medgan.data import leftovers
from medgan.data.leftovers import sweep, sweep_once, unfinished, unfinished_folder
from medgan.data.streams import write_text

DAY_S = 24 * 3600


def dead_process():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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
    sweep_once.cache_clear()
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


def test_a_number_that_another_process_got_later_is_no_owner(left, tmp_path):
    path = left(f".a.{mark(os.getpid())}.part", age_s=30 * DAY_S)
    sweep(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("name", [f".a.{mark(1, 'feedbeef')}.part", ".a.csv.12ab34cd.part", ".unfinished-x1y2z3/"])
def test_where_nobody_can_be_asked_a_day_decides(left, tmp_path, name):
    path = left(name, age_s=DAY_S / 2)
    sweep(tmp_path)
    assert path.exists()
    path = left(name.replace(".a", ".b").replace("x1", "x2"), age_s=2 * DAY_S)
    sweep(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.nii.gz",
        "a.part",
        ".part",
        ".a.part",
        f"a.{mark(1, 'feedbeef')}.part",
        ".git/",
        ".lock",
        "unfinished-x/",
    ],
)
def test_what_is_not_ours_stays_for_ever(left, tmp_path, name):
    path = left(name, age_s=1000 * DAY_S)
    sweep(tmp_path)
    assert path.exists()


def test_a_link_is_not_followed(left, tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "a").touch()
    (tmp_path / f".unfinished-{mark(dead_process())}").symlink_to(target)
    sweep(tmp_path)
    assert (target / "a").exists()


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
