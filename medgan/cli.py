"""The ``medgan`` program: its commands put together."""

import sys
from typing import Annotated, Any

import typer

from medgan.commands import compare, config, convert, data, evaluate, faithfulness, plan, readers, report, study, train
from medgan.commands.help import Commands, epilog

app = Commands(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Medical image domain translation with exact geometry and evidence for its claims. "
    "For research, not diagnosis.",
    epilog=epilog(["medgan train --pipeline ct_contrast", "medgan convert --help"]),
)
PANELS: dict[str, dict[str, Any]] = {
    "Train": {"train": train.train, "segment-train": train.segment_train, "plan": plan.plan},
    "Use a model": {
        "convert": convert.convert, "segment": convert.segment, "classify": convert.classify,
        "augment": convert.augment,
    },
    "Judge": {
        "evaluate": evaluate.evaluate, "faithfulness": faithfulness.faithfulness, "report": report.report,
        "reader-study": readers.app,
    },
    "Compare": {
        "compare": compare.compare, "promote": compare.promote, "benefit": study.benefit, "sweep": study.sweep,
        "study": study.study, "studies": study.studies,
    },
    "Data and settings": {"data": data.app, "pipelines": config.pipelines, "config": config.app},
}  # fmt: skip
"""The commands as ``medgan --help`` groups them."""
for panel, commands in PANELS.items():
    for name, function in commands.items():
        if isinstance(function, Commands):
            app.add_typer(function, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(function)


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
