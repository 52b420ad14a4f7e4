"""How the libraries under medgan behave: they send nothing, and say nothing that a user cannot act on.

``medgan/__init__.py`` adopts this before anything else is imported: MLflow reads its settings while it is imported, and
MONAI imports MLflow.
"""

import logging
import os
import warnings

MLFLOW = {
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

REMARKS = ("lightning_fabric.utilities.rank_zero",)
"""Loggers whose remarks say nothing new: the device and the precision are in ``run.json``."""

WARNINGS = (r"monai\.metrics\.utils get_mask_edges:always_return_as_numpy",)
"""Beginnings of warnings that libraries give about their own code."""


def adopt() -> None:
    """Set all of this for the process and, but for warnings, its children."""
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)
    for logger in REMARKS:
        logging.getLogger(logger).setLevel(logging.WARNING)
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message, FutureWarning)
