"""Recorded models, fetched for ``medgan convert``."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow.artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.tracking import MlflowClient

from medgan.data.leftovers import unfinished_folder
from medgan.errors import ModelError
from medgan.tracking.store import STORE_ERRORS, connect, data_folder, first_line, resolve_uri, usable, without_password


def download_model(uri: str, tracking_uri: str | None = None) -> Path:
    """The folder of a recorded model; a server's model is downloaded once and kept in the user's data folder.

    Args:
        uri: ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        tracking_uri: As for :func:`resolve_uri`.

    Raises:
        ConfigError: The store cannot be used.
        ModelError: The store has no such model.
    """
    named = re.fullmatch(r"runs:/(?P<run>\w+)/model|models:/(?P<name>[^/@]+)(@(?P<alias>\S+)|/(?P<version>\d+))", uri)
    if named is None:
        raise ModelError(f"{uri!r} names no model; write runs:/ID/model, models:/NAME@ALIAS or models:/NAME/VERSION.")
    store = resolve_uri(tracking_uri)
    with usable(store):
        client = connect(store)
    try:
        location = _run_model(client, named["run"]) if named["run"] else _registered_model(client, named)
        folder = _local_folder(location, store)
    except STORE_ERRORS as error:
        raise ModelError(
            f"{uri} cannot be fetched from {without_password(store)} ({first_line(error)}); "
            "check the name, or say with --tracking where the model was recorded."
        ) from None
    return folder


def _run_model(client: MlflowClient, run_id: str) -> str:
    """Where the model that a run kept last lies."""
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models(
        [experiment],
        filter_string=f"name = 'model' AND source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )
    # A model whose upload was cut off stays PENDING; MLflow's own filter does not find a status.
    whole = [model.artifact_location for model in models if model.status == LoggedModelStatus.READY]
    if not whole:
        raise ModelError(f"run {run_id} kept no model: it did not end, or it could not reach the server when it did.")
    return str(whole[0])


def _registered_model(client: MlflowClient, named: re.Match[str]) -> str:
    version = named["version"] or client.get_model_version_by_alias(named["name"], named["alias"]).version
    return str(client.get_model_version_download_uri(named["name"], str(version)))


def _local_folder(location: str, store: str) -> Path:
    """The folder itself where it lies on this machine, else a download of it, kept under its location's hash."""
    if location.startswith("file:"):
        return Path(url2pathname(urlparse(location).path)).resolve(strict=True)
    kept = data_folder() / "models" / hashlib.sha256(f"{store} {location}".encode()).hexdigest()[:16]
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(kept.parent) as folder:
            part = mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=str(folder), tracking_uri=store)
            _take_place(Path(part), kept)
    return kept


def _take_place(part: Path, kept: Path) -> None:
    try:
        part.rename(kept)
    except OSError:
        # Another process of the same batch was first; its download is the same.
        if not kept.is_dir():
            raise
