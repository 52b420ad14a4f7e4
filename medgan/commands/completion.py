"""What the shell completes: names of pipelines and studies, keys of settings, models of runs; nothing heavy is read."""

from collections.abc import Iterator
from pathlib import Path

from typer import Context

from medgan import catalog
from medgan.commands import early

OF_COMMAND = {"segment-train": "segmentation", "sweep": "sweep"}
"""Whose keys a command's settings have, where no option says so."""


def pipelines(incomplete: str) -> Iterator[tuple[str, str]]:
    """The pipelines that begin so, with what they do."""
    return ((name, text) for name, text in catalog.summaries().items() if name.startswith(incomplete))


def studies(incomplete: str) -> Iterator[tuple[str, str]]:
    """The studies that begin so, with what they compare."""
    return ((name, text) for name, (text, _) in catalog.studies().items() if name.startswith(incomplete))


def keys(context: Context, incomplete: str) -> list[str]:
    """The settings ``KEY=`` that begin so, of the pipeline or study that the command line has named; else of all."""
    given, known = context.params, early.shipped()
    name = given.get("pipeline") or given.get("name") or OF_COMMAND.get(context.info_name or "")
    kind = given.get("kind") or given.get("study")
    own = known.get(str(kind)) or known.get(str(name)) or sorted({key for each in known.values() for key in each})
    return [f"{key}=" for key in own if key.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """The model folders of runs that lie here, and folders that begin so."""
    found = [path.parent for path in Path().glob("runs/*/*/model/model.json")]
    found += [path for path in Path().glob(f"{incomplete or ''}*") if path.is_dir()] if incomplete else []
    return sorted({path.as_posix() for path in found if path.as_posix().startswith(incomplete)})
