"""What a child was begun with, so that only the same child goes on from there."""

import hashlib
import json
from typing import Any

from medgan.benefit.tasks import IDENTITY, Task
from medgan.data.studies import Study
from medgan.data.volumes import file_hash
from medgan.errors import ConfigError, LeakageError
from medgan.study.records import read_json


def identity(task: Task) -> dict[str, Any]:
    """What a child's folder must have been begun with to be this child: settings, images, labels and split."""
    images = {
        kind: sorted(f"{study.subject} {file_hash(study.image)} {_mask_hash(study)}" for study in studies)
        for kind, studies in (("train", task.studies), ("extra", task.extra), ("validation", task.validation))
    }
    hashed = {kind: hashlib.sha256("\n".join(lines).encode()).hexdigest() for kind, lines in images.items()}
    return {
        "arm": task.child.arm.name,
        "seed": task.child.seed,
        "subset": task.child.subset,
        "ratio_percent": task.child.ratio_percent,
        "split_hash": task.plan.subjects.split.hash,
        "lesions": list(task.plan.config.lesions),
        "segmenter": task.config.model_dump(mode="json"),
        "images": hashed,
    }


def _mask_hash(study: Study) -> str:
    return file_hash(study.mask) if study.mask else ""


def check_identity(task: Task) -> dict[str, Any]:
    """What a child was begun with; nothing where it was not begun.

    Raises:
        LeakageError: It was begun under another split, and may have seen who is tested now.
        ConfigError: It was begun with other settings or other images.
    """
    path = task.child.folder / IDENTITY
    begun = read_json(path)
    if not begun:
        return {}
    now = identity(task)
    if begun.get("split_hash") != now["split_hash"]:
        raise LeakageError(
            f"{task.child.folder} was begun under another split of the subjects and may have seen who is tested now; "
            "put that folder away, or choose another --name."
        )
    changed = [key for key, value in json.loads(json.dumps(now)).items() if begun.get(key) != value]
    if changed:
        raise ConfigError(
            f"{task.child.folder} was begun with other {' and '.join(changed)}; choose another --name, or put that "
            "folder away."
        )
    return begun
