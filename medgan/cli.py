"""The ``medgan`` program: its commands put together."""

import sys
from typing import Annotated

import typer

from medgan.commands import compare, config, convert, data, evaluate, faithfulness, study, train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Medical image domain translation with exact geometry and evidence for its claims. "
    "For research, not diagnosis.",
)
app.command()(train.train)
app.command()(convert.convert)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(compare.promote)
app.command()(convert.augment)
app.command()(convert.segment)
app.command()(convert.classify)
app.command("segment-train")(train.segment_train)
app.command()(faithfulness.faithfulness)
app.command("sweep")(study.sweep)
app.command("benefit")(study.benefit)
app.command()(config.pipelines)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.command()(study.study)
app.command()(study.studies)


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
