"""What commands share: options, how errors end them, and where they speak."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.errors import MedganError
from medgan.text import printable

if TYPE_CHECKING:
    from rich.console import Console

PipelineName = Annotated[str, typer.Option("--pipeline", "-p", help="What to train; `medgan pipelines` lists them.")]
Input = Annotated[Path, typer.Argument(metavar="INPUT", help="Image, DICOM series, folder or cohort.")]
Data = Annotated[Path | None, typer.Option(help="Cohort: CSV, folders, BIDS or nnU-Net raw; else a phantom.")]
Out = Annotated[Path, typer.Option(help="Where runs are kept.")]
RunName = Annotated[str | None, typer.Option("--name", help="The run's name; else the time.")]
StudyName = Annotated[str | None, typer.Option("--name", help="The study's name; the same name goes on with it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Debug = Annotated[bool, typer.Option(help="Show tracebacks.")]
Force = Annotated[bool, typer.Option("--force", help="Take studies that cannot be of the model's domain all the same.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, such as fit.epochs=3.")]
Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Of a cohort CSV, what its paths are relative to; else its folder."),
]
Bids = Annotated[
    str | None, typer.Option("--bids", metavar="KEY=VALUE", help="Of BIDS, which of several images: run=1,acq=mprage.")
]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking", help="MLflow URI; else MLFLOW_TRACKING_URI, else SQLite.")
]
ResumeOrStart = Annotated[
    bool, typer.Option("--resume-or-start", help="Go on with the run of that --name, or start it: for requeued jobs.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with what differs from the shipped settings.")]


@contextmanager
def explained(debug: bool = False) -> Iterator[None]:
    """Turn errors into one line and an exit code: 2 for wrong use and data that cannot be used, 130 when stopped."""
    try:
        yield
    except MedganError as error:
        if debug:
            raise
        typer.secho(printable(f"medgan: {error}", lines=True), err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stop:
        typer.secho(f"medgan: {str(stop) or 'stopped'}", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug or isinstance(error, typer.Exit):
            raise
        if known := _of_the_machine(error):
            typer.secho(printable(f"medgan: {known}"), err=True, fg=typer.colors.RED)
            raise typer.Exit(2) from None
        message = f"medgan: unexpected {type(error).__name__}: {error}; see it whole with --debug."
        typer.secho(printable(message, lines=True), err=True)
        raise typer.Exit(3) from None


def _of_the_machine(error: Exception) -> str:
    """What a disk, a folder or the memory is to blame for, in words; empty for everything else."""
    if isinstance(error, MemoryError):
        return "out of memory; do less at once (--jobs 1, fit.batch_size, patch.size_voxels), or take a larger machine."
    if not isinstance(error, OSError) or error.errno is None or isinstance(error, ConnectionError):
        return ""
    place = f"{error.filename}: " if error.filename else ""
    advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the disk and its access"
    return f"{place}{error.strerror}; {advice}, then give the same command again."


def console(quiet: bool = False) -> "Console":
    """Where progress and tables go: stderr, so that stdout stays clean."""
    from rich.console import Console

    from medgan.commands.rendering import Printable

    shown = Console(stderr=True, quiet=quiet)
    shown.push_render_hook(Printable(shown))
    return shown


def say(quiet: bool, line: str) -> None:
    """One line of result."""
    if not quiet:
        typer.echo(printable(line, lines=True))
