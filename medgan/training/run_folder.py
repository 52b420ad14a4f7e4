"""The run folder: everything that a training leaves on disk, and from which it goes on."""

import json
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from medgan.config import NEEDS_NAME, Config, Settings, check_name, flattened, to_yaml
from medgan.data.splits import Split
from medgan.data.streams import write_text
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError, ModelError
from medgan.text import few

MAX_NAMED = 5
"""Settings, or subjects, that a message lists."""
STUDIES = ("study.json", "routes.json")
"""The records of studies, each of which has a folder of its own among the runs."""


class RunFolder:
    """``runs/<pipeline>/<name>/``: resolved settings, frozen split, states to resume from, model, and ``run.json``."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.config, self.split, self.model = path / "config.yaml", path / "split.json", path / "model"

    def start(self, config: Config, split: Split, facts: Settings) -> None:
        """Write what is fixed for the whole run; ``facts`` are what ``run.json`` tells of data, device and versions."""
        split.save(self.split)
        self.note(facts | {"started": datetime.now().astimezone().isoformat(), "host": platform.platform()})
        # The settings come last: a folder with them is a whole run.
        write_text(self.config, to_yaml(config))

    def note(self, facts: Settings) -> None:
        """Add facts to ``run.json``."""
        write_text(self.path / "run.json", json.dumps(self.facts() | facts, indent=2) + "\n")

    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``; empty where there is none.

        Raises:
            DataError: It is damaged.
        """
        return read_record(self.path / "run.json", "the run folder is damaged, start the run anew.")


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object; empty where there is no file.

    Raises:
        DataError: It is damaged; ``remedy`` says what to do.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("holds no record")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {remedy}") from None
    return content


def folder_named(root: Path, name: str) -> Path:
    """The folder of a run or study in ``root``; a study's own runs are named ``STUDY/RUN``."""
    for part in name.split("/"):
        check_name(part)
    return root / name


def new_run(root: Path, name: str | None) -> RunFolder:
    """A run folder of its own: ``name``, or the time.

    Raises:
        ConfigError: The folder holds a run, or a study.
    """
    run = _run_named(root, datetime.now().strftime("%Y-%m-%d_%H-%M-%S") if name is None else name)
    if run.config.exists():
        raise ConfigError(f"{run.path} holds a run already; choose another --name, or go on with it by --resume.")
    return run


def run_to_resume(root: Path, name: str | None) -> RunFolder:
    """The run called ``name``, or the one that was started last.

    Raises:
        ConfigError: There is no such run, or the folder holds a study.
    """
    if name is not None:
        runs = [_run_named(root, name)]
    else:
        runs = [RunFolder(path) for path in sorted(root.glob("*")) if (path / "run.json").exists()]
        runs.sort(key=lambda run: str(run.facts().get("started", "")))
    if not runs or not runs[-1].config.exists():
        raise ConfigError(f"{root / name if name else root}: there is no run to resume; start it without --resume.")
    return runs[-1]


def _run_named(root: Path, name: str) -> RunFolder:
    """A training's folder; that of a study is refused, whose children have folders of their own."""
    folder = folder_named(root, name)
    if record := next((record for record in STUDIES if (folder / record).exists()), None):
        raise ConfigError(f"{folder} holds a study ({record}), and no training's run; choose another --name.")
    return RunFolder(folder)


def is_begun(root: Path, name: str | None) -> bool:
    """Whether ``--resume-or-start`` goes on with a run or starts one.

    Raises:
        ConfigError: Without a name nobody can say which.
    """
    if name is None:
        raise ConfigError(NEEDS_NAME)
    return RunFolder(folder_named(root, name)).config.exists()


def changed_settings(before: Config, now: Config) -> str:
    """The first settings that differ, for people; empty where none does."""
    old, new = (flattened(each.model_dump(mode="json")) for each in (before, now))
    differing = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    changed = [f"{key} was {old.get(key)} and is now {new.get(key)}" for key in differing]
    return few(changed, MAX_NAMED, between="; ", last=", and ")


def split_of_model(model: Path, split_hash: str, *, split_file: Path | None = None, otherwise: str) -> Split:
    """The frozen split that a model was trained on.

    ``split_hash`` is what the model says of it, ``split_file`` where it is, else in the run folder around the model;
    where there is none, the user can do ``otherwise``.

    Raises:
        ModelError: It is not there, or is not the model's: nobody could say whom the model has seen.
    """
    path = split_file or RunFolder(model.parent).split
    if not path.is_file():
        raise ModelError(
            f"{model}: there is no {path.name} beside it, so nobody can say whom the model has seen; give the `model` "
            f"folder within its run, or {otherwise}."
        )
    split = Split.load(path)
    if split.hash != split_hash:
        raise ModelError(f"{path} is not the split that {model} was trained on; give that of its own run.")
    return split
