import errno
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from medgan.commands import common
from medgan.errors import DataError


def failing(error):
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail(debug: bool = False):
        with common.explained(debug):
            raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.nii: empty; copy it again."), 2, "medgan: a.nii: empty; copy it again."),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/a.csv"),
            2,
            "medgan: out/a.csv: No space left on device; make room, then give the same command again.",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "out/a.csv"),
            2,
            "medgan: out/a.csv: Permission denied; check the disk and its access, then give the same command again.",
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),  # no disk is to blame
            3,
            "medgan: unexpected ConnectionRefusedError: [Errno 111] Connection refused; see it whole with --debug.",
        ),
        (
            MemoryError(),
            2,
            "medgan: out of memory; do less at once (--jobs 1, fit.batch_size, patch.size_voxels), or take a larger "
            "machine.",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            2,
            "medgan: out of memory; do less at once (--jobs 1, fit.batch_size, patch.size_voxels), or take a larger "
            "machine.",
        ),
        (KeyboardInterrupt(), 130, "medgan: stopped"),
        (ZeroDivisionError("of mine"), 3, "medgan: unexpected ZeroDivisionError: of mine; see it whole with --debug."),
        (typer.Exit(1), 1, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_a_code_of_its_own(error, code, line):
    result = CliRunner().invoke(failing(error), [])
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (code, "", line)


@pytest.mark.parametrize("error", [DataError("empty"), ZeroDivisionError("of mine")])
def test_debug_shows_the_traceback(error):
    result = CliRunner().invoke(failing(error), ["--debug"])
    assert result.exception is error
    assert result.exc_info[2] is not None


def test_a_group_of_options_is_spelled_out_and_comes_back_as_one_object():
    app, given = typer.Typer(), []

    @app.command()
    @common.command
    def show(source: common.Input, *, reading: common.Reading, machine: common.Machine, quiet: common.Quiet = False):
        given.append((source, reading, machine, machine.first(quiet)))

    asked = ["a.nii", "--bids", "run=1", "--device", "cpu,cpu"]
    result = CliRunner().invoke(app, asked)
    machine = common.Machine(device="cpu,cpu")
    assert (result.exit_code, given) == (0, [(Path("a.nii"), common.Reading(bids="run=1"), machine, "cpu")])
    assert "computing on cpu alone" in result.stderr
    assert CliRunner().invoke(app, [*asked, "--quiet"]).stderr == ""
