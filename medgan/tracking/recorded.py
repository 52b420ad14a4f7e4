"""A run that has ended, found again by the model that it made, and what is recorded of that model afterwards.

Whoever evaluates or converts has a model and perhaps no store: none is made by looking, and one that cannot be used or
is lost costs a line and never the work.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from mlflow import entities
from mlflow.tracking import MlflowClient

from medgan.tracking.address import MODEL_TAG, first_line, resolve_uri, without_password
from medgan.tracking.models import kept_models, log_metrics
from medgan.tracking.run import run_page
from medgan.tracking.store import STORE_ERRORS, all_pages, opened


class RecordedRun:
    """The run that trained a model; what is added leaves it as it ended."""

    def __init__(self, client: MlflowClient, run: entities.Run) -> None:
        self.id: str = run.info.run_id
        self.name: str = run.info.run_name
        self._client, self._run = client, run
        models = kept_models(client, self.id, str(run.info.experiment_id))
        self._model_id = models[0].model_id if models else None

    @property
    def experiment(self) -> str:
        """The name of its experiment."""
        return str(self._client.get_experiment(self._run.info.experiment_id).name)

    def metrics(self, values: Mapping[str, float], dataset: tuple[str, str] | None = None) -> None:
        """Figures such as ``test/mae_hu``, of the model too; see :func:`medgan.tracking.models.log_metrics`."""
        log_metrics(self._client, self.id, values, model_id=self._model_id, dataset=dataset)

    def tags(self, values: Mapping[str, str]) -> None:
        """Facts to search for, of the run and of its model."""
        self._client.log_batch(self.id, tags=[entities.RunTag(*each) for each in values.items()])
        if self._model_id:
            self._client.set_logged_model_tags(self._model_id, dict(values))

    def table(self, rows: pd.DataFrame, file: str) -> None:
        """A table that MLflow shows, instead of an earlier one of the same name."""
        folder = file.rpartition("/")[0]
        if file in {each.path for each in self._client.list_artifacts(self.id, folder)}:
            # MLflow would add the rows to those of the evaluation before.
            self._client.log_text(self.id, rows.to_json(orient="split", index=False), file)
        else:
            self._client.log_table(self.id, rows, file)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, perhaps in a folder of the run; never one with subjects' names or paths."""
        self._client.log_artifact(self.id, str(path), folder)


def record(uri: str, sha256: str, write: Callable[[RecordedRun], None]) -> str | None:
    """:func:`medgan.tracking.address.record_of_model` in a store; None where it has no run of the model.

    Raises:
        ConfigError: The store cannot be used.
    """
    with opened(uri, create=False) as client:
        run = _run_of(client, sha256)
        if run is None:
            return None
        recorded = RecordedRun(client, run)
    try:
        write(recorded)
    except STORE_ERRORS as error:
        return f"not recorded whole: MLflow at {without_password(uri)} does not take it ({first_line(error)})."
    return f"recorded on {run_page(uri, run)}"


def add_metrics(uri: str | None, run_id: str, values: Mapping[str, float]) -> None:
    """Record figures of a run that has ended, such as ``test/mae_hu``, and of its model.

    Raises:
        ConfigError: The store cannot be used, or has no such run.
    """
    with opened(resolve_uri(uri)) as client:
        RecordedRun(client, client.get_run(run_id)).metrics(values)


def _run_of(client: MlflowClient, sha256: str) -> entities.Run | None:
    """The run that trained a model, in whichever experiment; of several, the last."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    experiments = [each.experiment_id for each in all_pages(lambda token: client.search_experiments(page_token=token))]
    newest = ["attributes.start_time DESC"]
    runs = client.search_runs(experiments, f"tags.{MODEL_TAG} = '{sha256}'", max_results=1, order_by=newest)
    return runs[0] if runs else None
