import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from medgan import cli
from medgan.errors import DataError, InUseError
from medgan.training.folder_lock import LOCK, alone_in

QUIET = Console(quiet=True)
HOLDER = """
import os, sys, time
from pathlib import Path
from rich.console import Console
from medgan.training.folder_lock import alone_in

with alone_in(Path(sys.argv[1]), Console()):
    if "forked" in sys.argv and os.fork() == 0:
        print(os.getpid(), flush=True)
    elif "forked" not in sys.argv:
        print("in", flush=True)
    time.sleep(600)
"""


def names(folder):
    return [path.name for path in folder.iterdir()]


def refused(folder, error, message, file=None):
    with pytest.raises(error, match=message), alone_in(folder, QUIET, file):
        pytest.fail("two are in the folder")


@pytest.fixture
def holding(tmp_path):
    """Begin a process that is alone in a folder: ``holding(folder)`` gives it, and the line that it printed."""
    begun = []

    def begin(folder, *how):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, folder, *how], stdout=subprocess.PIPE, text=True)
        begun.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_who_is_in_the_folder_but_not_kept_from_those_beside_it(tmp_path, holding):
    process, _ = holding(tmp_path / "study" / "arm,seed=0")
    told = rf"seed=0 is in use by process {process.pid} on {platform.node()} \(since 20.* or choose another folder"
    refused(tmp_path / "study" / "arm,seed=0", InUseError, told)
    assert process.poll() is None
    with alone_in(tmp_path / "study", QUIET), alone_in(tmp_path / "study" / "arm,seed=1", QUIET):
        assert {path.parent.name for path in tmp_path.rglob(LOCK)} == {"study", "arm,seed=0", "arm,seed=1"}


@pytest.mark.parametrize("how", ["killed", "forked"])
def test_a_process_that_was_killed_keeps_nobody_out_nor_does_a_reader_that_outlives_it(tmp_path, holding, how):
    process, printed = holding(tmp_path / "run", how)
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK).exists()
    if how == "forked":
        os.kill(int(printed), 0)
    try:
        with alone_in(tmp_path / "run", QUIET):
            (tmp_path / "run" / "config.yaml").touch()
        assert names(tmp_path / "run") == ["config.yaml"]
    finally:
        if how == "forked":
            os.kill(int(printed), signal.SIGKILL)


def test_two_files_of_one_folder_are_locked_apart(tmp_path):
    with alone_in(tmp_path / "out", QUIET, "a.nii.gz"), alone_in(tmp_path / "out", QUIET, "b.nii.gz"):
        told = rf"out/a\.nii\.gz is in use by process {os.getpid()} on"
        refused(tmp_path / "out", InUseError, told, "a.nii.gz")
        assert len(names(tmp_path / "out")) == 2
    assert not (tmp_path / "out").exists()


def test_the_folder_is_free_after_an_error_and_gone_if_it_was_made_and_nothing_begun(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), alone_in(tmp_path / "runs" / "ct_contrast" / "one", QUIET):
            _ = 1 / 0
        assert names(tmp_path) == []
    with alone_in(tmp_path, QUIET):
        assert names(tmp_path) == [LOCK]
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_with_a_warning(tmp_path, monkeypatch, capsys, code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone_in(tmp_path / "run", Console(width=400)):
        (tmp_path / "run" / "config.yaml").touch()
    assert f"run: this file system has no locks ({os.strerror(code)}); see that nobody" in capsys.readouterr().out
    assert names(tmp_path / "run") == ["config.yaml"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "run").touch()
    refused(tmp_path / "run", DataError, r"run: cannot be written to \(File exists\)")


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"pid": 3}'])
def test_a_holder_that_did_not_say_who_it_is_still_holds(tmp_path, content):
    with alone_in(tmp_path, QUIET):
        (tmp_path / LOCK).write_text(content)
        refused(tmp_path, InUseError, "is in use by another process, and")


WRITERS = {
    "train": "train -p ct_contrast --name one",
    "segment-train": "segment-train --data {cohort} --domain contrast:CT labels.any=1 --name one",
    "sweep": "sweep fit.epochs=1,2 -p ct_contrast --name one",
    "ablation": "study ablation -p ct_contrast --name one",
    "misalignment": "study misalignment -p mr_to_ct --name one",
    "arms": "benefit -p ct_contrast --name one",
    "augmentation": "benefit -p lesion_augmentation --study augmentation --name one --jobs 2",
    "routes": "benefit -p mr_to_ct --study routes --name one --data {cohort}",
    "lesion-prevalence": "benefit -p ct_contrast --study lesion-prevalence --name one",
    "augment": "augment {cohort} runs/cohort/one --method copy-paste --domain contrast",
}


@pytest.mark.parametrize("command", WRITERS.values(), ids=WRITERS)
def test_a_command_that_writes_to_a_folder_in_use_ends_at_once_and_touches_nothing(
    tmp_path, monkeypatch, unpaired, command
):
    monkeypatch.chdir(tmp_path)
    words = command.format(cohort=unpaired).split()
    kind = words[words.index("-p") + 1] if "-p" in words else {"augment": "cohort"}.get(words[0], "segmenter")
    with alone_in(Path("runs") / kind / "one", QUIET):
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == 2, result.output
        assert f"runs/{kind}/one is in use by process {os.getpid()} on " in result.stderr
        assert [path.name for path in Path("runs").rglob("*") if path.is_file()] == [LOCK]
