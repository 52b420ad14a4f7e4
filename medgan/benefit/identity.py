"""What a child was begun with, so that only the same child goes on from there."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medgan.benefit.records import read_json
from medgan.benefit.segmenters import IDENTITY
from medgan.benefit.tasks import Task
from medgan.data.hashes import file_hash
from medgan.data.studies import Study
from medgan.errors import ConfigError, LeakageError


def identity(task: Task) -> dict[str, Any]:
    """What a child's folder must have been begun with to be this child: settings, images, labels and split."""
    images = {"train": task.studies, "extra": task.extra, "validation": task.validation}
    return {
        "arm": task.child.arm.name,
        "seed": task.child.seed,
        "subset": task.child.subset,
        "ratio_percent": task.child.ratio_percent,
        "split_hash": task.plan.subjects.split.hash,
        "lesions": list(task.plan.config.lesions),
        "segmenter": task.config.model_dump(mode="json"),
        "images": {kind: content_hash(studies) for kind, studies in images.items()},
    }


def content_hash(studies: Iterable[Study]) -> str:
    """SHA-256 over who is there, with which images and masks, in whatever order."""
    files = ((study.subject, study.image, study.mask) for study in studies)
    lines = sorted(" ".join([who, file_hash(image), file_hash(mask) if mask else ""]) for who, image, mask in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_identity(task: Task) -> dict[str, Any]:
    """What a child was begun with; nothing where it was not begun.

    Raises:
        LeakageError: It was begun under another split, and may have seen who is tested now.
        ConfigError: It was begun with other settings or other images.
    """
    return check_begun(task.child.folder, read_json(task.child.folder / IDENTITY), identity(task))


def check_begun(folder: Path, begun: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder was begun with, which is the same as now; nothing where it was not begun.

    Args:
        folder: For people.
        begun: What its record says.
        now: What it must say; ``split_hash`` among it.

    Raises:
        LeakageError: It was begun under another split, and may have seen who is tested now.
        ConfigError: It was begun with other settings or other images.
    """
    if not begun:
        return {}
    if begun.get("split_hash") != now["split_hash"]:
        raise LeakageError(
            f"{folder} was begun under another split of the subjects and may have seen who is tested now; "
            "put that folder away, or choose another --name."
        )
    changed = [key for key, value in json.loads(json.dumps(dict(now))).items() if begun.get(key) != value]
    if changed:
        raise ConfigError(
            f"{folder} was begun with other {' and '.join(changed)}; choose another --name, or put that folder away."
        )
    return begun
