"""What commands share: options, each declared once, how errors end a command, and where it speaks.

A command takes options one by one and in groups: a parameter that is a group, such as ``machine: Machine``, stands for
the options that are the group's fields.
"""

import errno
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from medgan.commands import completion
from medgan.commands.help import in_groups
from medgan.errors import ConfigError, MedganError
from medgan.text import printable
from medgan.training.device import parse_devices, take_place

if TYPE_CHECKING:
    from rich.console import Console

    from medgan.data.studies import Location, Options

PipelineName = Annotated[
    str, Option("--pipeline", "-p", help="What to train; see `medgan pipelines`.", autocompletion=completion.pipelines)
]
Input = Annotated[Path, Argument(metavar="INPUT", help="Image, DICOM series, folder or cohort.")]
ModelName = Annotated[
    str, Option(help="Model folder, runs:/ID/model or models:/NAME@ALIAS.", autocompletion=completion.models)
]
Data = Annotated[Path | None, Option(help="Cohort: CSV, folders, BIDS or nnU-Net raw; else a phantom.")]
Out = Annotated[Path, Option(help="Where runs are kept.")]
Debug = Annotated[bool, Option("--debug", help="Show tracebacks.", rich_help_panel="Options")]
Force = Annotated[bool, Option("--force", help="Take studies that cannot be of the model's domain all the same.")]
Tracking = Annotated[str | None, Option("--tracking", help="MLflow URI; else MLFLOW_TRACKING_URI, else SQLite.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print errors only.", rich_help_panel="Options")]
Overrides = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="Settings, such as fit.epochs=3.", autocompletion=completion.keys),
]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:1 or mps; for several jobs also cuda:0,cuda:1.")]
Threads = Annotated[int | None, Option(min=1, help="Of the processor, for all jobs; else those that are free.")]
TrainedDomain = Annotated[
    str | None,
    Option("--domain", help="Whose images to learn from: contrast, t1, plain:CT; else `domain.name`."),
]
ConfigFile = Annotated[Path | None, Option("--config", help="YAML with what differs from the shipped settings.")]


@dataclass(frozen=True)
class Reading:
    """How a cohort is read."""

    root: Annotated[
        Path | None,
        Option("--root", metavar="DIR", help="Of a cohort CSV, what its paths are relative to; else its folder."),
    ] = None
    bids: Annotated[
        str | None, Option("--bids", metavar="KEY=VALUE", help="Of BIDS, which of several images: run=1,acq=mprage.")
    ] = None

    @property
    def options(self) -> "Options":
        """Checked."""
        from medgan.data.studies import options

        return options(self.root, self.bids)

    def located(self, data: Path) -> "Location":
        """The cohort or images at a path, read that way."""
        from medgan.data.studies import Location

        return Location(data, self.options)

    def located_if_given(self, data: Path | None) -> "Location | None":
        """The same; without a path there must be no options either."""
        from medgan.data.studies import located

        return located(data, self.root, self.bids)


@dataclass(frozen=True)
class Run:
    """Which run, and with which settings."""

    config: ConfigFile = None
    out: Out = Path("runs")
    name: Annotated[str | None, Option("--name", help="The run's name; else the time.")] = None
    resume: Annotated[bool, Option("--resume", help="Go on with the run of that name, or the last one.")] = False
    resume_or_start: Annotated[
        bool, Option("--resume-or-start", help="Go on with the run of that --name, or start it: for requeued jobs.")
    ] = False


@dataclass(frozen=True)
class Machine:
    """Where a command computes and records."""

    tracking: Tracking = None
    device: Device = "auto"
    threads: Threads = None

    def first(self, quiet: bool) -> str:
        """The device of a command that computes on one at a time, and says so where more are named."""
        first, *others = parse_devices(self.device)
        if others:
            console(quiet).out(f"computing on {first} alone: this command uses one device at a time", highlight=False)
        return first


@dataclass(frozen=True)
class Sharing:
    """How many devices share a training."""

    devices: Annotated[int | None, Option(min=1, help="Devices of a node that share it; else those named, or 1.")] = (
        None
    )
    num_nodes: Annotated[int | None, Option(min=1, help="Nodes that share it, each with so many devices.")] = None

    def check(self, device: str, *, alone: str = "") -> bool:
        """Whether this process is the first, which speaks for all; refuses numbers that contradict each other.

        ``alone`` is an option that is for one device.
        """
        place = take_place(device, self.devices, self.num_nodes)[0]
        if alone and place.world > 1:
            raise ConfigError(f"{alone} is for one device, and {place.world} would share the training; leave it out.")
        return place.rank == 0


@dataclass(frozen=True, kw_only=True)
class Work:
    """How a batch is done."""

    overwrite: Annotated[bool, Option("--overwrite", help="Replace outputs of other inputs or models.")] = False
    jobs: Annotated[int, Option(min=1, help="Studies read and written ahead.")] = 1
    machine: Machine
    quiet: Quiet = False

    @property
    def options(self) -> dict[str, Any]:
        """As orders of batches call them."""
        return {"overwrite": self.overwrite, "jobs": self.jobs, **vars(self.machine)}


@dataclass(frozen=True)
class Which:
    """What of INPUT is translated, and which way."""

    direction: Annotated[Literal["to_target", "to_source"], Option(help="Which way.")] = "to_target"
    part: Annotated[
        Literal["train", "validation", "test"] | None,
        Option(help="Of a cohort, only these subjects of the model's split."),
    ] = None
    split: Annotated[Path | None, Option(help="split.json for --part; else the one beside the model.")] = None


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command with ``--debug``, its groups of options spelled out; its errors become lines and exit codes."""
    debugging = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    options = in_groups([*_options(function), (debugging, "")])

    def run(*, debug: bool, **values: Any) -> None:
        with explained(debug):
            _called(function, values)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {each.name: each.annotation for each in options}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in options]
    )
    return run


def _options(function: Any) -> Iterator[tuple[inspect.Parameter, str]]:
    """The options of a command or of a group, those of the groups within it in their places, with their group's title.

    A group's title is what it says of itself.
    """
    title = (inspect.getdoc(function) or "").partition(".")[0] if is_dataclass(function) else ""
    for parameter in inspect.signature(function).parameters.values():
        if is_dataclass(parameter.annotation):
            yield from _options(parameter.annotation)
        else:
            yield parameter, title


def _called(function: Any, values: Mapping[str, Any]) -> Any:
    """A command, or a group, of its options and of its groups, which are made of theirs."""
    parameters = inspect.signature(function).parameters
    groups = {name: each.annotation for name, each in parameters.items() if is_dataclass(each.annotation)}
    return function(**{name: _called(groups[name], values) if name in groups else values[name] for name in parameters})


def end(code: int) -> None:
    """End a command with an exit code other than 0."""
    if code:
        raise typer.Exit(code)


@contextmanager
def explained(debug: bool = False) -> Iterator[None]:
    """Turn errors into one line and an exit code: 2 for wrong use and data that cannot be used, 130 when stopped."""
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.secho(f"medgan: {str(stop) or 'stopped'}", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug or isinstance(error, typer.Exit):
            raise
        known = str(error) if isinstance(error, MedganError) else printable(_of_the_machine(error))
        message = known or f"unexpected {type(error).__name__}: {error}; see it whole with --debug."
        typer.secho(printable(f"medgan: {message}", lines=True), err=True, fg=typer.colors.RED if known else None)
        raise typer.Exit(2 if known else 3) from None


def _of_the_machine(error: Exception) -> str:
    """What a disk, a folder or the memory is to blame for, in words; empty for everything else."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
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
