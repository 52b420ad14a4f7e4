"""A run that is being recorded.

A store that cannot be used at the start is an error with advice. One that is lost later must not end a training: it is
mentioned once, and the run folder holds all that the store would have held.
"""

import getpass
import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mlflow import entities
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from PIL import Image

from medgan.config import flattened
from medgan.errors import ConfigError
from medgan.tracking.address import MODEL_TAG, database_of, first_line, resolve_uri, without_password
from medgan.tracking.models import METRICS_PER_CALL, KeptModel, keep_model, log_dataset
from medgan.tracking.store import NOT_THERE, STORE_ERRORS, opened, unless_it_exists

log = logging.getLogger(__name__)
# What these two print about a lost server, the Tracker says once and in plainer words.
logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

ANONYMOUS = "MEDGAN_ANONYMOUS"
"""The environment variable by which a user keeps name, command and note from MLflow."""
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Of an experiment, so that MLflow's page has charts and models, and not its tools for language models."""
RETRY_S = 60.0
"""How long a lost store is left alone before it is tried again."""
LONGEST_PARAMETER = 6000
PARAMETERS_PER_CALL = 100
MOST_UNSENT_METRICS = 100_000

T = TypeVar("T")


class Tracker:
    """A run that is being recorded.

    A context manager: the run ends as FINISHED, as KILLED when it was stopped from outside, as FAILED on any other
    exception, and :meth:`start` takes it up again by its id in each case.
    """

    def __init__(self, client: MlflowClient, uri: str, run: entities.Run, parameters: Mapping[str, str]) -> None:
        self.id: str = run.info.run_id
        self.uri = uri
        self._client = client
        self._run = run
        self._parameters = parameters
        self._unsent: list[entities.Metric] = []
        self._lost = False
        self._retry_at = 0.0
        self._monitor: SystemMetricsMonitor | None = None

    @classmethod
    def start(
        cls,
        uri: str | None,
        *,
        recorded: object = None,
        experiment: str,
        run_name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        run_id: str | None = None,
        parent: str | None = None,
        command: str = "medgan",
        note: str = "",
    ) -> Self:
        """A new run, or the run ``run_id`` again, which a record says is in the store ``recorded``.

        ``uri`` is what ``--tracking`` says, ``parent`` the run that this one is a child of, in the same experiment,
        which is created when it does not exist. ``parameters`` are settings, flat or nested; ``tags`` facts to search
        for. ``command`` is what was typed, without paths, and ``note`` what people read first, as Markdown; neither
        these nor the user's name are sent where :data:`ANONYMOUS` is set.

        Raises:
            ConfigError: The store cannot be used, or has no such run.
        """
        uri = resolve_uri(uri, recorded)
        about = {} if anonymous() else _about(command, note, tags.get("git_revision", ""))
        tags = {**tags, "medgan_version": version("medgan"), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        with opened(uri) as client:
            if run_id is None:
                run = client.create_run(_experiment_id(client, uri, experiment), run_name=run_name)
            else:
                run = _running_again(client, uri, run_id)
                about.pop(MLFLOW_RUN_NOTE, None)  # the one it has is perhaps what people have written since
            texts = _as_text(flattened(parameters))
            _describe_run(client, run, texts, {**tags, **about})
        return cls(client, uri, run, texts)

    def __enter__(self) -> Self:
        # ``resume_logging`` counts on from the steps that the store has: 0 for a new run.
        self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.id, sampling_interval=10, resume_logging=True, tracking_uri=self.uri
        )
        self._monitor.start()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        status = "FINISHED" if kind is None else "KILLED" if stopped else "FAILED"
        self._retry_at = 0.0  # The last chance: the store may be back.
        self._send(self._send_metrics)
        self._send(lambda: self._client.set_terminated(self.id, status))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record values such as ``train/cycle``; those that a lost store misses are sent when it is back."""
        now_ms = int(time.time() * 1000)
        self._unsent += [entities.Metric(key, float(value), now_ms, step) for key, value in values.items()]
        del self._unsent[:-MOST_UNSENT_METRICS]
        self._send(self._send_metrics)

    def tags(self, values: Mapping[str, str]) -> None:
        """Add facts to search for that were not known at the start."""
        self._send(lambda: self._client.log_batch(self.id, tags=[entities.RunTag(*each) for each in values.items()]))

    def note(self, text: str) -> None:
        """Add to what people read first, as Markdown; not where the user stays anonymous."""
        if text and not anonymous():
            self._send(lambda: self._add_note(text))

    def image(self, path: Path, series: str, step: int, caption: str = "") -> None:
        """Keep a picture of a series, through which MLflow's page slides by step; the caption is the series'."""
        self._send(lambda: self._keep_image(path, series, step, caption))

    def text(self, text: str, file: str) -> None:
        """Keep text as a file of the run."""
        self._send(lambda: self._client.log_text(self.id, text, file))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, perhaps in a folder of the run; never one with subjects' names, such as ``split.json``."""
        self._send(lambda: self._client.log_artifact(self.id, str(path), folder))

    def dataset(self, name: str, digest: str, counts: Mapping[str, int]) -> None:
        """Record which data this run saw: a label, a fingerprint (32 characters of it), numbers of studies; no path."""
        profile = json.dumps(dict(counts))
        self._send(lambda: log_dataset(self._client, self.id, name, digest, context="training", profile=profile))

    def model(self, model: KeptModel, register_as: str | None = None) -> str | None:
        """Keep a model folder, and make it the newest version of ``register_as`` where that is given.

        Returns:
            What ``medgan convert --model`` takes; None when the store is lost.
        """
        self._retry_at = 0.0  # Worth waiting for.
        self.tags({MODEL_TAG: model.sha256})
        self.note(model.card)
        return self._send(lambda: keep_model(self._client, self._run, model, self._parameters, register_as))

    def describe(self) -> str:
        """One line that tells where to look at this run."""
        return run_page(self.uri, self._run)

    def _send(self, action: Callable[[], T]) -> T | None:
        """Do ``action``, unless the store is lost; None when it was not done."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            result = action()
        except STORE_ERRORS as error:
            if not self._lost:
                log.warning(
                    "MLflow at %s does not take what is recorded (%s). The training goes on; metrics.csv, samples/ and "
                    "model/ in the run folder are complete.", without_password(self.uri), first_line(error),
                )  # fmt: skip
            self._lost, self._retry_at = True, time.monotonic() + RETRY_S
            return None
        if self._lost:
            log.warning("MLflow at %s answers again.", without_password(self.uri))
            self._lost = False
        return result

    def _add_note(self, text: str) -> None:
        before = self._client.get_run(self.id).data.tags.get(MLFLOW_RUN_NOTE, "")
        if text not in before:
            self._client.set_tag(self.id, MLFLOW_RUN_NOTE, f"{before}\n\n{text}".strip())

    def _keep_image(self, path: Path, series: str, step: int, caption: str) -> None:
        with Image.open(path) as picture:
            self._client.log_image(self.id, picture, key=series, step=step)
        if caption:
            self._client.set_tag(self.id, f"caption.{series}", caption)

    def _send_metrics(self) -> None:
        while self._unsent:
            self._client.log_batch(self.id, metrics=self._unsent[:METRICS_PER_CALL])
            del self._unsent[:METRICS_PER_CALL]


def anonymous() -> bool:
    """Whether the user wants neither name, command nor note in MLflow."""
    return os.environ.get(ANONYMOUS, "").lower() in ("1", "true", "yes")


def user_name() -> str:
    """Who is logged in; empty in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _about(command: str, note: str, revision: str) -> dict[str, str]:
    """Who did what with which commit, in MLflow's own tags."""
    commit = revision if re.fullmatch(r"[0-9a-f]{40}", revision) else ""
    about = {MLFLOW_USER: user_name(), MLFLOW_SOURCE_NAME: command, MLFLOW_GIT_COMMIT: commit, MLFLOW_RUN_NOTE: note}
    return {key: value for key, value in about.items() if value} | {MLFLOW_SOURCE_TYPE: "LOCAL"}


def run_page(uri: str, run: entities.Run) -> str:
    """Which run it is, and where to look at it."""
    uri, run_id = without_password(uri), run.info.run_id
    if uri.startswith("http"):
        return f"MLflow run {run_id}: {uri.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run_id}"
    return f"MLflow run {run_id}: look at it with `mlflow ui --backend-store-uri '{uri}'`"


def _running_again(client: MlflowClient, uri: str, run_id: str) -> entities.Run:
    try:
        client.update_run(run_id, status="RUNNING")
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise
        raise ConfigError(
            f"run {run_id} is not in {without_password(uri)} ({first_line(error)}); resume with the --tracking it was "
            "started with, or bring it back with `mlflow runs restore`."
        ) from None


def _as_text(parameters: Mapping[str, Any]) -> dict[str, str]:
    """As MLflow keeps them, cut where they are longer than it takes."""
    texts = {key: str(value) for key, value in parameters.items()}
    return {
        key: text if len(text) <= LONGEST_PARAMETER else f"{text[: LONGEST_PARAMETER - 1]}…"
        for key, text in texts.items()
    }


def _describe_run(client: MlflowClient, run: entities.Run, values: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Write parameters and tags. MLflow refuses to change a parameter: one that differs on resume becomes a tag."""
    known = run.data.params
    changed = {f"resumed.{key}": value for key, value in values.items() if known.get(key, value) != value}
    client.log_batch(run.info.run_id, tags=[entities.RunTag(*each) for each in {**tags, **changed}.items()])
    new = [entities.Param(key, value) for key, value in values.items() if key not in known]
    for first in range(0, len(new), PARAMETERS_PER_CALL):
        client.log_batch(run.info.run_id, params=new[first : first + PARAMETERS_PER_CALL])


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of an experiment, which is created when it does not exist.

    Files of a database's runs lie beside it, not in MLflow's ``./mlruns``; a server keeps its own.

    Raises:
        ConfigError: An experiment of this name lies in MLflow's bin.
    """
    database = database_of(uri)
    with unless_it_exists():
        artifacts = (database.parent / "artifacts").as_uri() if database else None
        return client.create_experiment(name, artifact_location=artifacts, tags=TRAINING)
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        raise ConfigError(
            f"experiment {name!r} was deleted from {without_password(uri)}; bring it back with "
            "`mlflow experiments restore`, or empty the bin with `mlflow gc`."
        )
    return str(experiment.experiment_id)


PACKAGE = Path(__file__).parents[1]


def code_revision(folder: Path = PACKAGE) -> str:
    """The commit of the checkout that ``folder`` belongs to, ``-dirty`` with changes; a release's version elsewhere."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An environment may lie inside of somebody's repository: the package itself must be under version control.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return f"medgan {version('medgan')}"
