"""The commands. They parse, call and say what to do next; whatever is heavy is imported inside them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medgan.errors import ConfigError, MedganError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Medical image domain translation with exact geometry and evidence for its claims. "
    "For research, not diagnosis.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at, check and make data.")
config_app = typer.Typer(no_args_is_help=True, help="Show what can be set.")
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")

PipelineName = Annotated[str, typer.Option("--pipeline", "-p", help="What to train; `medgan pipelines` lists them.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Debug = Annotated[bool, typer.Option(help="Show tracebacks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, such as fit.epochs=3.")]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking", help="MLflow URI; else MLFLOW_TRACKING_URI, else SQLite.")
]
Part = Literal["train", "validation", "test"]


@app.command()
def train(
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Annotated[
        Path | None, typer.Option(help="Cohort: CSV, folders, BIDS or nnU-Net raw; else a phantom.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with what differs from the shipped settings.")] = None,
    out: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The run's name; else the time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that name, or the last one.")] = False,
    register: Annotated[str | None, typer.Option(help="Register the model in MLflow under this name.")] = None,
    tracking: TrackingUri = None,
    seed: Annotated[int | None, typer.Option(help="The same as seed=N.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a pipeline's translator and record the run in MLflow."""
    with explained(debug):
        from medgan.train import Order
        from medgan.train import train as run_training

        asked = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
        order = Order(pipeline, data, config, asked, out, name, resume, tracking, register, device)
        trained = run_training(order, console(quiet))
        say(quiet, f"model: {trained.run.model} (averages after epoch {trained.fitted.epoch})")
        say(quiet, trained.tracked)
        say(quiet, f"next:  medgan convert INPUT OUTPUT --model {trained.run.model}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, DICOM series, folder or cohort CSV.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="File name, or folder that mirrors the input's names.")
    ],
    model: Annotated[str, typer.Option(help="Model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    direction: Annotated[Literal["to_target", "to_source"], typer.Option(help="Which way.")] = "to_target",
    part: Annotated[
        Part | None, typer.Option(help="Of a cohort CSV, only these subjects of the model's split.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="split.json for --part; else the one beside the model.")] = None,
    change_map: Annotated[
        bool, typer.Option("--change-map", help="Also write the change in HU (an iodine map).")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs of other inputs or models.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Studies read and written ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Translate studies; every output lies on its input's voxel grid."""
    with explained(debug):
        from medgan.inference.convert import ConvertOrder
        from medgan.inference.convert import convert as run_conversion

        order = ConvertOrder(
            source, output, model, direction=direction, part=part, split=split, change_map=change_map,
            overwrite=overwrite, jobs=jobs, tracking=tracking, device=device,
        )  # fmt: skip
        summary = run_conversion(order, console(quiet))
        if summary.failed:
            raise typer.Exit(1)


@app.command()
def pipelines() -> None:
    """List the pipelines."""
    with explained():
        from medgan import catalog

        for name, summary in catalog.summaries().items():
            typer.echo(f"{name:16s} {summary}")


@config_app.command("show")
def show_config(
    name: Annotated[str, typer.Argument(help="A pipeline.")],
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="YAML with what differs from the shipped settings.")] = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="As trained on the built-in phantom.")] = False,
    debug: Debug = False,
) -> None:
    """Print a pipeline's resolved settings as YAML; size=small or size=full chooses the form."""
    with explained(debug):
        from medgan import catalog
        from medgan.config import Settings, from_overrides, to_yaml

        layers: list[Path | Settings] = [*([config] if config else []), from_overrides(overrides or [])]
        pipeline = catalog.load(name).configured(*layers, on_phantom=phantom, on_cpu=True)
        typer.echo(to_yaml(pipeline.config), nl=False)


@config_app.command("schema")
def show_schema(name: Annotated[str, typer.Argument(help="A pipeline.")], debug: Debug = False) -> None:
    """Print the JSON schema of a pipeline's settings, for editors."""
    with explained(debug):
        import json

        from medgan import catalog

        typer.echo(json.dumps(catalog.load(name).settings.model_json_schema(), indent=2))


@app.command()
def evaluate(
    synthetic: Annotated[Path, typer.Option(help="What `medgan convert` wrote.")],
    reference: Annotated[str, typer.Option(help="The truth, or other subjects: FOLDER or cohort.csv:DOMAIN.")],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.csv and summary.json.")],
    source: Annotated[
        str | None, typer.Option(help="The inputs, for the baselines: FOLDER or cohort.csv:DOMAIN.")
    ] = None,
    mask: Annotated[str | None, typer.Option(help="Body masks: FOLDER or cohort.csv.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label maps, for figures by organ: FOLDER or cohort.csv.")] = None,
    organ: Annotated[list[str] | None, typer.Option(help="NAME=VALUE[,VALUE] in the label maps; else all.")] = None,
    paired: Annotated[bool | None, typer.Option("--paired/--unpaired", help="Else as the subjects show.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge synthetic images beside doing nothing and an intensity look-up, with intervals over subjects."""
    with explained(debug):
        from medgan.evaluation.evaluate import evaluate as run_evaluation
        from medgan.evaluation.table import render

        found = run_evaluation(
            synthetic, reference, out, source=source, masks=mask, labels=labels, label_names=named(organ), paired=paired
        )  # fmt: skip
        console(quiet).print(render(found))
        if found.exit_code:
            raise typer.Exit(found.exit_code)


def named(organs: list[str] | None) -> dict[str, int | list[int]] | None:
    """``["kidneys=7,8"]`` as label values by name."""
    values: dict[str, int | list[int]] = {}
    for organ in organs or ():
        name, _, numbers = organ.partition("=")
        if not name or not all(number.strip().isdigit() for number in numbers.split(",")):
            raise ConfigError(f"--organ {organ}: write NAME=VALUE[,VALUE], for example kidneys=7,8.")
        values[name] = [int(number) for number in numbers.split(",")]
    return values or None


@data_app.command("phantom")
def make_phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    kind: Annotated[str, typer.Option(help="What to render: abdomen_ct.")] = "abdomen_ct",
    subjects: Annotated[int, typer.Option(min=1)] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    lesions: Annotated[float, typer.Option(min=0, max=1, help="Share of subjects with lesions.")] = 0.3,
    debug: Debug = False,
) -> None:
    """Render the built-in phantom: seeded subjects with known truth."""
    with explained(debug):
        from medgan.phantom.cohort import write_phantom

        typer.echo(f"cohort: {write_phantom(out, kind=kind, subjects=subjects, seed=seed, lesions=lesions)}")


@data_app.command("check")
def check_data(
    data: Annotated[Path, typer.Argument(help="Cohort: CSV, folders, BIDS or nnU-Net raw.")],
    overrides: Overrides = None,
    pipeline: PipelineName = "ct_contrast",
    table: Annotated[Path | None, typer.Option("--csv", help="Write the table here too.")] = None,
    debug: Debug = False,
) -> None:
    """Check a cohort before training: readable, geometry, spacing, intensities, duplicates. Exit code 1 on findings.

    Settings say what it shall be used for: translator=pix2pix also checks that pairs lie on one grid.
    """
    with explained(debug):
        from medgan import catalog
        from medgan.config import from_overrides
        from medgan.data.check import check_cohort, render
        from medgan.data.studies import find_cohort

        asked = from_overrides(overrides or [])
        pair = catalog.load(pipeline).configured(asked, on_phantom=False, on_cpu=True).pair
        report = check_cohort(find_cohort(data, pair), pair)
        console().print(render(report))
        if table:
            report.frame().to_csv(table, index=False)
        if report.findings:
            raise typer.Exit(1)


@contextmanager
def explained(debug: bool = False) -> Iterator[None]:
    """Turn errors into one line and an exit code: 2 for wrong use and data that cannot be used, 130 when stopped."""
    try:
        yield
    except MedganError as error:
        if debug:
            raise
        typer.secho(f"medgan: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stop:
        typer.secho(f"medgan: {str(stop) or 'stopped'}", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if debug or isinstance(error, typer.Exit):
            raise
        typer.secho(f"medgan: unexpected {type(error).__name__}: {error}; see it whole with --debug.", err=True)
        raise typer.Exit(3) from None


def console(quiet: bool = False) -> "Console":
    """Where progress and tables go: stderr, so that stdout stays clean."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet)


def say(quiet: bool, line: str) -> None:
    """One line of result."""
    if not quiet:
        typer.echo(line)


def version(show: bool) -> None:
    """Print the version and leave."""
    if show:
        from importlib.metadata import version as installed

        typer.echo(f"medgan {installed('medgan')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """The ``medgan`` program."""
    sys.exit(app())
