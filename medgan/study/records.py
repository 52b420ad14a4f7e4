"""Small records on disk as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgan.data.streams import replacing
from medgan.errors import DataError


def read_json(path: Path) -> dict[str, Any]:
    """A record; nothing where there is none.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(
            f"{path}: is not JSON; remove it, or put its folder away, and what it recorded is done anew."
        ) from None
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record in one step."""
    with replacing(path) as stream:
        stream.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
