"""MLflow: a run from start to end, and a recorded model fetched back. Nothing else in medgan imports mlflow."""

import os

MLFLOW_HABITS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow retries for minutes by default, and a training would wait that long for a dead server.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What medgan sets for MLflow where the user has set nothing."""

for _name, _value in MLFLOW_HABITS.items():
    os.environ.setdefault(_name, _value)

# Below the settings, because MLflow reads some of them while it is imported.
from medgan.tracking.models import download_model  # noqa: E402
from medgan.tracking.revision import code_revision  # noqa: E402
from medgan.tracking.run import Tracker  # noqa: E402
from medgan.tracking.store import data_folder, resolve_uri  # noqa: E402

__all__ = ["Tracker", "code_revision", "data_folder", "download_model", "resolve_uri"]
