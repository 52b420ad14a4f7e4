"""Wrong use that can be told without torch is told at once, before anything heavy is imported.

The commands' own checks stay: whoever calls medgan from Python meets them. Which settings there are is kept in
``configs/keys.json``, made from the settings' types by ``python -m medgan.commands.early > configs/keys.json``.
"""

import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from medgan import catalog
from medgan.config import NEEDS_NAME, Config, check_key, check_name, flattened, keys_of, parse_override, read_yaml
from medgan.errors import ConfigError, DataError, ModelError
from medgan.threads import check as check_threads
from medgan.training.device import parse_devices


def check_use(
    *,
    pipeline: str | None = None,
    settings: str | None = None,
    overrides: Sequence[str] | None = None,
    config: Path | None = None,
    data: Path | None = None,
    source: Path | None = None,
    models: Sequence[str | Path | None] = (),
    places: Sequence[str | None] = (),
    device: str = "auto",
    threads: int | None = None,
    name: str | None = None,
    resume_or_start: bool = False,
    several: bool = False,
) -> None:
    """Refuse what a command could not do anyway; arguments are what the options of their names say.

    ``settings`` is whose keys ``overrides`` and ``config`` may hold, a pipeline or another name in ``keys.json``; with
    ``several``, an override holds several values, ``KEY=A,B``. ``source`` is INPUT. ``models`` are folders, or names
    that MLflow knows; ``places`` are sets of images: FOLDER, FOLDER:NAME or cohort.csv:DOMAIN. None is none.

    Raises:
        MedganError: What is wrong, and what to do.
    """
    if pipeline is not None:
        catalog.check(pipeline)
    if resume_or_start and name is None:
        raise ConfigError(NEEDS_NAME)
    if name is not None:
        check_name(name)
    parse_devices(device)
    check_threads(threads)
    if settings is not None:
        _check_settings(settings, overrides or (), config, several)
    if data is not None and not _holds_something(data):
        raise DataError(f"{data} is empty or does not exist; give a folder of studies or a cohort CSV.")
    # One of several DICOM series in a folder has a name, but no file of that name.
    is_series = source is not None and source.name.startswith("series") and source.parent.is_dir()
    if source is not None and not os.path.lexists(source) and not is_series:
        raise DataError(f"{source} does not exist; give an image, a folder or a cohort CSV.")
    for model in models:
        recorded = model is None or re.match(r"(runs|models):/", str(model))
        if not recorded and not (Path(str(model)) / "model.json").is_file():
            raise ModelError(
                f"{model}: is not a model folder, model.json is missing; give the `model` folder of a run."
            )
    for place in places:
        if place and not any(os.path.lexists(path) for path in (place, place.rpartition(":")[0] or place)):
            raise DataError(f"{place} does not exist; give a folder of images, or cohort.csv:DOMAIN.")


def _holds_something(data: Path) -> bool:
    try:
        return os.path.lexists(data) and (not data.is_dir() or any(data.iterdir()))
    except OSError:
        return True  # whoever reads it says what keeps it from being read


def shipped() -> dict[str, list[str]]:
    """The dotted keys of settings, by pipeline and study, as they are kept."""
    keys: dict[str, list[str]] = json.loads(files("medgan.configs").joinpath("keys.json").read_text(encoding="utf-8"))
    return keys


def _check_settings(name: str, overrides: Sequence[str], config: Path | None, several: bool) -> None:
    known = shipped().get(name, [])
    keys = list(flattened(read_yaml(config))) if config else []
    for override in overrides:
        key, equals, _ = override.partition("=")
        keys += [key.strip()] if several and equals else flattened(parse_override(override))
    for key in keys if known else ():
        check_key(key, known)


def settings_of(study: str, pipeline: str) -> str:
    """Whose keys the settings of a study are: its own, or else the pipeline's."""
    return study if study in shipped() else pipeline


def shipped_keys() -> dict[str, list[str]]:
    """The dotted keys of every pipeline's settings, and of those that studies have."""
    from medgan.studies.arms import BenefitConfig
    from medgan.studies.augmentation import AugmentationConfig
    from medgan.studies.routes import RoutesConfig

    kinds: dict[str, type[Config]] = {name: catalog.load(name).settings for name in catalog.names()}
    kinds |= {"arms": BenefitConfig, "routes": RoutesConfig, "augmentation": AugmentationConfig}
    return {name: keys_of(kind) for name, kind in kinds.items()}


if __name__ == "__main__":
    print(json.dumps(shipped_keys(), indent=1))
