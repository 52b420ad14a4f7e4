"""MLflow: a run from start to end, and a recorded model fetched back. Nothing else in medgan imports mlflow.

What is about a store's address is told without MLflow, whose import takes seconds; all else imports it when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medgan.tracking.address import check_address, data_folder, record_of_model, resolve_uri

if TYPE_CHECKING:
    from medgan.tracking.models import NEWEST, KeptModel, download_model
    from medgan.tracking.recorded import RecordedRun, add_metrics
    from medgan.tracking.run import Tracker, code_revision, user_name
    from medgan.tracking.runs import CASES, RunStore, StoredRun, Version
    from medgan.tracking.store import check_store
else:

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for module in ("models", "recorded", "run", "runs", "store"):
                if hasattr(module := import_module(f"medgan.tracking.{module}"), name):
                    return getattr(module, name)
        raise AttributeError(f"module 'medgan.tracking' has no attribute {name!r}")


__all__ = [
    "CASES", "NEWEST", "KeptModel", "RecordedRun", "RunStore", "StoredRun", "Tracker", "Version", "add_metrics",
    "check_address", "check_store", "code_revision", "data_folder", "download_model", "record_of_model", "resolve_uri",
    "user_name",
]  # fmt: skip
