"""medgan: medical image domain translation whose geometry is exact and whose claims carry evidence.

``import medgan`` loads nothing heavy; what is used is loaded then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgan import habits
from medgan.errors import MedganError, MedganWarning

habits.adopt()

if TYPE_CHECKING:
    from medgan.api import Interrupted, LoadedModel, Trained, convert, evaluate, load, train, write_report

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("medgan")
        if name in __all__:
            return getattr(import_module("medgan.api"), name)
        raise AttributeError(f"module 'medgan' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Interrupted", "LoadedModel", "MedganError", "MedganWarning", "Trained", "__version__", "convert", "evaluate",
    "load", "train", "write_report",
]  # fmt: skip
