"""Models in MLflow: a model folder kept as a logged model, found again and fetched."""

import hashlib
import importlib.metadata
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow.artifacts
from mlflow import entities
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from medgan.data.streams import unfinished_folder
from medgan.errors import ModelError
from medgan.tracking.address import MODEL_TAG, data_folder, first_line, resolve_uri, without_password
from medgan.tracking.store import STORE_ERRORS, opened, unless_it_exists

NEWEST = "newest"
"""The alias of the version registered last; MLflow keeps the word ``latest`` for itself."""
METRICS_PER_CALL = 1000
LONGEST_DESCRIPTION = 5000
DIGEST = 32
"""Characters of a data set's fingerprint that MLflow keeps."""


@dataclass(frozen=True)
class KeptModel:
    """A model folder, and what MLflow is told of it."""

    folder: Path
    sha256: str
    """Of its description."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Its validation metrics, of the run too: ``best/mae_hu``."""
    epoch: int = 0
    validated_on: str = ""
    """A fingerprint of the validation subjects."""
    loader: str | None = None
    """The module that makes a function of paths of it; None where ``mlflow.pyfunc`` cannot use it."""
    card: str = ""
    """Markdown for people."""


def keep_model(
    client: MlflowClient, run: entities.Run, model: KeptModel, parameters: Mapping[str, str], register_as: str | None
) -> str:
    """Keep a model folder as the logged model of its run, with the run's name and parameters; its URI.

    A model that is registered becomes the newest version of ``register_as``.
    """
    run_id = run.info.run_id
    name = re.sub(r"[/:.%\"']", "-", run.info.run_name)
    logged = client.create_logged_model(
        run.info.experiment_id, name, run_id, model_type="medgan", params=dict(parameters),
        tags={MODEL_TAG: model.sha256, **({MLFLOW_RUN_NOTE: model.card} if model.card else {})},
    )  # fmt: skip
    client.log_model_artifacts(logged.model_id, str(model.folder))
    if model.loader:
        with TemporaryDirectory() as folder:
            _write_mlmodel(Path(folder) / "model", logged.model_id, run_id, model.loader)
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
    client.finalize_logged_model(logged.model_id, entities.LoggedModelStatus.READY)
    client.log_outputs(run_id, [entities.LoggedModelOutput(logged.model_id, step=model.epoch)])
    dataset = ("validation", model.validated_on) if model.validated_on else None
    log_metrics(client, run_id, model.metrics, step=model.epoch, model_id=logged.model_id, dataset=dataset)
    if register_as is None:
        return f"runs:/{run_id}/{name}"
    return f"models:/{register_as}/{register(client, register_as, logged).version}"


def register(client: MlflowClient, name: str, model: entities.LoggedModel) -> ModelVersion:
    """The newest version of a registered model, made of a model that a run has kept."""
    with unless_it_exists():
        client.create_registered_model(name)
    # By location: MLflow looks up ``models:/ID`` in its process-wide store, which need not be this one.
    entry = client.create_model_version(
        name, model.artifact_location, model.source_run_id, model_id=model.model_id,
        description=model.tags.get(MLFLOW_RUN_NOTE, "")[:LONGEST_DESCRIPTION],
    )  # fmt: skip
    client.set_registered_model_alias(name, NEWEST, str(entry.version))
    return entry


def log_metrics(
    client: MlflowClient,
    run_id: str,
    values: Mapping[str, float],
    *,
    step: int = 0,
    model_id: str | None = None,
    dataset: tuple[str, str] | None = None,
) -> None:
    """Record figures of a run and of its model, but for those that are not finite: MLflow would keep 0 of a model's.

    ``dataset`` names the data that they are of, and their fingerprint.
    """
    name, digest = (dataset[0], dataset[1][:DIGEST]) if dataset else (None, None)
    if dataset:
        log_dataset(client, run_id, *dataset, context="evaluation")
    # Names of labels are part of a key, and people choose them.
    finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
    keys = {re.sub(r"[^\w/.\- :]", "_", key): value for key, value in finite.items()}
    of = {"model_id": model_id, "dataset_name": name, "dataset_digest": digest, "run_id": run_id}
    now_ms = int(time.time() * 1000)
    rows = [entities.Metric(key, value, now_ms, step, **of) for key, value in keys.items()]
    for first in range(0, len(rows), METRICS_PER_CALL):
        client.log_batch(run_id, metrics=rows[first : first + METRICS_PER_CALL])


def log_dataset(
    client: MlflowClient, run_id: str, name: str, digest: str, *, context: str, profile: str | None = None
) -> None:
    """Record which data a run saw, and for what: a label and a fingerprint; no path."""
    data = entities.Dataset(name, digest[:DIGEST], source_type="medgan", source="{}", profile=profile)
    tag = entities.InputTag("mlflow.data.context", context)
    client.log_inputs(run_id, [entities.DatasetInput(data, [tag])])


def _write_mlmodel(folder: Path, model_id: str, run_id: str, loader: str) -> None:
    """The files by which ``mlflow.pyfunc`` loads a model folder: a module's name and no pickle; pip is not run."""
    import mlflow.pyfunc  # at the end of a training alone: everyone else need not wait for it
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    defaults = {"output": "", "direction": "to_target", "strength": 1.0, "device": "auto"}
    types = {str: "string", float: "double"}
    options = ParamSchema([ParamSpec(name, types[type(value)], value) for name, value in defaults.items()])
    paths = Schema([ColSpec("string")])
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=loader,
        mlflow_model=Model(run_id=run_id, model_id=model_id),
        signature=ModelSignature(paths, paths, options),
        input_example=(["contrast.nii.gz"], {"output": "plain.nii.gz"}),
        pip_requirements=[f"medgan=={importlib.metadata.version('medgan')}"],
    )


def kept_models(client: MlflowClient, run_id: str, experiment_id: str) -> list[entities.LoggedModel]:
    """The models that a run kept, the last first."""
    models = client.search_logged_models(
        [experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )
    # A model whose upload was cut off stays PENDING; MLflow's own filter does not find a status.
    return [model for model in models if model.status == entities.LoggedModelStatus.READY]


def download_model(uri: str, tracking_uri: str | None = None) -> Path:
    """The folder of a recorded model; a server's model is downloaded once and kept in the user's data folder.

    Args:
        uri: ``runs:/ID/model``, the model of a run whatever its name, ``models:/NAME@ALIAS`` or
            ``models:/NAME/VERSION``.
        tracking_uri: As for :func:`resolve_uri`.

    Raises:
        ConfigError: The store cannot be used.
        ModelError: The store has no such model.
    """
    named = re.fullmatch(
        r"runs:/(?P<run>\w+)/(?P<model>[^/]+)|models:/(?P<name>[^/@]+)(@(?P<alias>\S+)|/(?P<version>\d+))", uri
    )
    if named is None:
        raise ModelError(f"{uri!r} names no model; write runs:/ID/model, models:/NAME@ALIAS or models:/NAME/VERSION.")
    store = resolve_uri(tracking_uri)
    with opened(store) as client:
        pass
    try:
        return _local_folder(_location(client, named), store)
    except STORE_ERRORS as error:
        raise ModelError(
            f"{uri} cannot be fetched from {without_password(store)} ({first_line(error)}); "
            "check the name, or say with --tracking where the model was recorded."
        ) from None


def _location(client: MlflowClient, named: re.Match[str]) -> str:
    """Where a registered model, or the one that a run kept last, lies."""
    if name := named["name"]:
        version = named["version"] or client.get_model_version_by_alias(name, named["alias"]).version
        return str(client.get_model_version_download_uri(name, str(version)))
    return str(logged_model(client, named["run"], named["model"]).artifact_location)


def logged_model(client: MlflowClient, run_id: str, name: str = "model") -> entities.LoggedModel:
    """The model that a run kept last, of this name; ``model`` is any.

    Raises:
        ModelError: It kept none.
    """
    models = kept_models(client, run_id, client.get_run(run_id).info.experiment_id)
    models = [model for model in models if name in ("model", model.name)]
    if not models:
        raise ModelError(f"run {run_id} kept no model: it did not end, or it could not reach the server when it did.")
    return models[0]


def _local_folder(location: str, store: str) -> Path:
    """The folder itself where it lies on this machine, else a download of it, kept under its location's hash."""
    if location.startswith("file:"):
        return Path(url2pathname(urlparse(location).path)).resolve(strict=True)
    download = data_folder() / "models" / hashlib.sha256(f"{store} {location}".encode()).hexdigest()[:16]
    if not download.is_dir():
        download.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(download.parent) as folder:
            part = mlflow.artifacts.download_artifacts(artifact_uri=location, dst_path=str(folder), tracking_uri=store)
            try:
                Path(part).rename(download)
            except OSError:
                if not download.is_dir():  # else another process of the same batch was first; its download is the same
                    raise
    return download
