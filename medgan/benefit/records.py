"""Small records on disk as JSON, and what tells one study's folder from another's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgan import documents
from medgan.data.streams import write_text
from medgan.errors import ConfigError, DataError
from medgan.training.run_folder import STUDIES, RunFolder


def read_json(path: Path) -> dict[str, Any]:
    """A record; nothing where there is none.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = documents.read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove it, or put its folder away, and what it recorded is done anew."
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no record; remove it, or put its folder away, and it is made anew.")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record in one step."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def begun_before(folder: Path, kind: str) -> dict[str, Any]:
    """The record of the study that was begun in a folder; nothing where none was.

    Args:
        folder: Where a study shall start or go on.
        kind: What that study is called in its record.

    Raises:
        ConfigError: The folder holds a study of another kind, whose MLflow run would be taken for this one's, or the
            run of a training.
        DataError: The record is damaged.
    """
    if RunFolder(folder).config.exists():
        raise ConfigError(f"{folder} holds the run of a training, and no study; choose another --name.")
    records = [record for record in (read_json(folder / name) for name in STUDIES) if record]
    for record in records:
        if record.get("kind") != kind:
            raise ConfigError(
                f"{folder} holds a study of another kind, {record.get('kind')}, and no {kind}; choose another --name."
            )
    return records[0] if records else {}
