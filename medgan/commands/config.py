"""``medgan pipelines`` and ``medgan config``: what can be trained, and what can be set."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands import early
from medgan.commands.common import ConfigFile, Debug, Overrides, explained

app = typer.Typer(no_args_is_help=True, help="Show what can be set.")


def pipelines() -> None:
    """List the pipelines."""
    with explained():
        from medgan import catalog

        found = catalog.summaries()
        width = max(map(len, found))
        for name, summary in found.items():
            typer.echo(f"{name:{width}s} {summary}")


@app.command("show")
def show_config(
    name: Annotated[str, typer.Argument(help="A pipeline.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    phantom: Annotated[bool, typer.Option("--phantom", help="As trained on the built-in phantom.")] = False,
    debug: Debug = False,
) -> None:
    """Print a pipeline's resolved settings as YAML; size=small or size=full chooses the form."""
    with explained(debug):
        early.check_use(pipeline=name, settings=name, overrides=overrides, config=config)
        from medgan import catalog
        from medgan.config import Settings, from_overrides, to_yaml

        layers: list[Path | Settings] = [*([config] if config else []), from_overrides(overrides or [])]
        pipeline = catalog.load(name).configured(*layers, on_phantom=phantom, on_cpu=True)
        typer.echo(to_yaml(pipeline.config), nl=False)


@app.command("schema")
def show_schema(name: Annotated[str, typer.Argument(help="A pipeline.")], debug: Debug = False) -> None:
    """Print the JSON schema of a pipeline's settings, for editors."""
    with explained(debug):
        early.check_use(pipeline=name)
        import json

        from medgan import catalog

        typer.echo(json.dumps(catalog.load(name).settings.model_json_schema(), indent=2))
