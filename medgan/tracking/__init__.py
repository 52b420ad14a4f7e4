"""MLflow: a run from start to end, and a recorded model fetched back. Nothing else in medgan imports mlflow."""

from medgan.tracking.models import NEWEST, KeptModel, download_model
from medgan.tracking.recorded import RecordedRun, add_metrics, record_of_model
from medgan.tracking.run import Tracker, code_revision, user_name
from medgan.tracking.runs import CASES, RunStore, StoredRun, Version
from medgan.tracking.store import check_address, check_store, data_folder, resolve_uri

__all__ = [
    "CASES", "NEWEST", "KeptModel", "RecordedRun", "RunStore", "StoredRun", "Tracker", "Version", "add_metrics",
    "check_address", "check_store", "code_revision", "data_folder", "download_model", "record_of_model", "resolve_uri",
    "user_name",
]  # fmt: skip
