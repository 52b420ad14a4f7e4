"""``medgan pipelines`` and ``medgan config``: what can be trained, and what can be set."""

from typing import Annotated

import typer
from typer import Argument, Option

from medgan.commands import completion, early
from medgan.commands.common import ConfigFile, Overrides, command, explained
from medgan.commands.help import Commands

app = Commands(no_args_is_help=True, help="Show what can be set.")


def pipelines() -> None:
    """List the pipelines.

    Examples:
        medgan pipelines
        medgan config show ct_contrast
    """
    with explained():
        from medgan import catalog

        summaries = catalog.summaries()
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            typer.echo(f"{name:{width}s} {summary}")


@app.command("show")
@command
def _show_config(
    name: Annotated[str, Argument(help="A pipeline.", autocompletion=completion.pipelines)],
    overrides: Overrides = None,
    config: ConfigFile = None,
    phantom: Annotated[bool, Option("--phantom", help="As trained on the built-in phantom.")] = False,
) -> None:
    """Print a pipeline's resolved settings as YAML; size=small or size=full chooses the form.

    Examples:
        medgan config show ct_contrast > mine.yaml
        medgan config show mr_to_ct size=full translator=pix2pix
    """
    early.check_use(pipeline=name, settings=name, overrides=overrides, config=config)
    from medgan import catalog
    from medgan.config import to_yaml, user_layers

    layers = user_layers(config, overrides or [])
    pipeline = catalog.load(name).configured(*layers, on_phantom=phantom, on_cpu=True)
    typer.echo(to_yaml(pipeline.config), nl=False)


@app.command("schema")
@command
def _show_schema(name: Annotated[str, Argument(help="A pipeline.", autocompletion=completion.pipelines)]) -> None:
    """Print the JSON schema of a pipeline's settings, for editors.

    Examples:
        medgan config schema ct_contrast
        medgan config schema mr_to_ct > mr_to_ct.schema.json
    """
    early.check_use(pipeline=name)
    import json

    from medgan import catalog

    typer.echo(json.dumps(catalog.load(name).settings.model_json_schema(), indent=2))
