"""A translation model as a function of paths: what MLflow's ``pyfunc`` loads from a recorded model folder.

MLflow calls ``_load_pyfunc`` by name, as the ``MLmodel`` file beside the weights says; nothing is unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medgan.data.layouts import stem
from medgan.data.studies import Location
from medgan.errors import DataError
from medgan.inference.convert import ConvertOrder, convert
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_description

QUIET = Console(quiet=True)
OPTIONS = "output", "direction", "strength", "device"


class Translate:
    """Paths of studies in, paths of their translations out, as ``medgan convert`` makes them."""

    def __init__(self, folder: Path) -> None:
        read_description(folder, TranslationDescription)  # a model of another task is refused when it is loaded
        self.folder = folder

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """Translate each study of a list of paths, or of a table's first column; the paths of the outputs.

        Of ``params``, ``output`` is OUTPUT of ``medgan convert``, for several studies a folder; without it, a
        translation lies beside its input as ``NAME_desc-synthetic.nii.gz``. ``direction``, ``strength`` and
        ``device`` are its options.

        Raises:
            DataError: A study that cannot be translated; those before it are.
        """
        table = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(_listed(model_input))
        asked = {key: value for key, value in (params or {}).items() if key in OPTIONS and value not in ("", None)}
        return [self._translated(Path(source), **asked) for source in table.iloc[:, 0]]

    def _translated(self, source: Path, output: str = "", **options: Any) -> str:
        place = Path(output) if output else _beside(source)
        summary = convert(ConvertOrder(Location(source), place, str(self.folder), **options), QUIET)
        if failures := [outcome.message for outcome in summary.outcomes if outcome.status == "failed"]:
            raise DataError("; ".join(failures))
        into = place.is_dir() and not source.is_dir()
        return str(place / summary.outcomes[0].output if into else place)


def _listed(model_input: Any) -> list[str]:
    return [str(each) for each in ([model_input] if isinstance(model_input, str | Path) else model_input)]


def _beside(source: Path) -> Path:
    name = f"{stem(source)}_desc-synthetic"
    return source.with_name(name if source.is_dir() else f"{name}.nii.gz")


def _load_pyfunc(path: str) -> Translate:
    """What MLflow calls with the folder of a downloaded model."""
    return Translate(Path(path))
