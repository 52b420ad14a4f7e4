"""What a store has recorded, read for comparisons; and the aliases of its registered models."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from mlflow import entities
from mlflow.entities.model_registry import ModelVersion

from medgan.documents import read_json
from medgan.errors import DataError
from medgan.tracking.address import resolve_uri, without_password
from medgan.tracking.models import logged_model, register
from medgan.tracking.store import all_pages, explained, opened, unless_it_is_missing

CASES = "test/cases.json"
"""Of a run, its figures by case and arm: ``case, arm`` and a column a metric."""


@dataclass(frozen=True)
class StoredRun:
    """A run as the store tells of it."""

    id: str
    name: str
    status: str
    """``FINISHED`` and others of MLflow's words."""
    started: datetime
    duration_s: float
    """From start to end, pauses of a resumed run included; not a number while it runs."""
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    phantom: bool
    """Whether it was trained on the built-in phantom."""

    @property
    def pipeline(self) -> str:
        """What was trained; empty for a run of another program."""
        return self.tags.get("pipeline", "")


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    number: str
    run_id: str


class RunStore:
    """The runs of one store and the aliases of its models.

    Every method raises ``ConfigError`` where the store cannot be used.
    """

    def __init__(self, tracking: str | None) -> None:
        """``tracking`` is what ``--tracking`` says; looking makes no database."""
        self.uri = resolve_uri(tracking)
        self.name = without_password(self.uri)
        with opened(self.uri, create=False) as client:
            self._client = client

    def experiments(self) -> list[str]:
        """The names of all experiments, the one changed last first."""
        with explained(self.uri):
            return [each.name for each in all_pages(lambda token: self._client.search_experiments(page_token=token))]

    def runs(self, *experiments: str) -> list[StoredRun]:
        """The runs of experiments, the newest first; of those that do not exist none."""
        with explained(self.uri):
            known = filter(None, map(self._client.get_experiment_by_name, experiments))
            ids = [each.experiment_id for each in known if each.lifecycle_stage == "active"]
            order = ["attributes.start_time DESC"]
            found = (
                all_pages(lambda token: self._client.search_runs(ids, order_by=order, page_token=token)) if ids else []
            )
            return [_run(each) for each in found]

    def called(self, name: str) -> list[StoredRun]:
        """The runs of a name in all experiments, the newest first."""
        with explained(self.uri):
            ids = [
                each.experiment_id
                for each in all_pages(lambda token: self._client.search_experiments(page_token=token))
            ]
            quote = '"' if "'" in name else "'"  # no name of ours has either
            by_name = f"attributes.run_name = {quote}{name}{quote}"
            return [_run(each) for each in self._client.search_runs(ids, by_name)]

    def run(self, run_id: str) -> StoredRun | None:
        """The run of an id; none where it is gone."""
        with explained(self.uri), unless_it_is_missing():
            return _run(self._client.get_run(run_id))
        return None

    def cases(self, run: StoredRun) -> pd.DataFrame:
        """A run's figures by case and arm, images of a case averaged: index (arm, case); empty where it has none.

        Raises:
            DataError: The table is damaged.
        """
        nothing = pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["arm", "case"]))
        with explained(self.uri), tempfile.TemporaryDirectory() as folder:
            if CASES not in [each.path for each in self._client.list_artifacts(run.id, CASES.partition("/")[0])]:
                return nothing
            path = Path(self._client.download_artifacts(run.id, CASES, folder))
            try:
                content = read_json(path, strict=False)
                table = pd.DataFrame(content["data"], columns=content["columns"]).set_index(["arm", "case"])
                figures = table.apply(pd.to_numeric, errors="coerce")
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{CASES} of the run {run.name} ({run.id}) is damaged ({error}); evaluate it again."
                ) from None
        return figures.groupby(level=["arm", "case"], sort=False).mean()

    def curve(self, run: StoredRun, metric: str) -> pd.DataFrame:
        """A metric by epoch: columns ``epoch`` and ``value``; of an epoch that was trained twice the later one."""
        with explained(self.uri):
            points = sorted(
                self._client.get_metric_history(run.id, metric), key=lambda each: (each.step, each.timestamp)
            )
        return pd.DataFrame(
            [(each.step, each.value) for each in points if math.isfinite(each.value)], columns=["epoch", "value"]
        ).drop_duplicates("epoch", keep="last")

    def holder(self, name: str, alias: str) -> Version | None:
        """The version of a registered model that an alias stands for; none where there is none."""
        with explained(self.uri), unless_it_is_missing():
            return _version(self._client.get_model_version_by_alias(name, alias))
        return None

    def registered_as(self, run: StoredRun) -> list[str]:
        """The names under which a run's models are registered."""
        with explained(self.uri):
            return sorted({each.name for each in self._versions(run)})

    def register(self, run: StoredRun, name: str) -> Version:
        """The version that a run's last model is of a registered model; a new one unless it is one already.

        Raises:
            ModelError: The run kept no model.
        """
        with explained(self.uri):
            model = logged_model(self._client, run.id)
            there = model.artifact_location
            own = [each for each in self._versions(run) if (each.name, each.source) == (name, there)]
            return _version(own[0] if own else register(self._client, name, model))

    def promote(self, name: str, version: Version, alias: str, tags: Mapping[str, str]) -> None:
        """Let an alias stand for a version, and note on the version why."""
        with explained(self.uri):
            for key, value in tags.items():
                self._client.set_model_version_tag(name, version.number, key, value)
            self._client.set_registered_model_alias(name, alias, version.number)

    def _versions(self, run: StoredRun) -> list[ModelVersion]:
        return all_pages(lambda token: self._client.search_model_versions(f"run_id = '{run.id}'", page_token=token))


def _run(run: entities.Run) -> StoredRun:
    info, data = run.info, run.data
    ended = math.nan if info.end_time is None else (info.end_time - info.start_time) / 1000
    inputs = run.inputs.dataset_inputs if run.inputs else []
    trained_on = [each.dataset.name for each in inputs if "training" in [tag.value for tag in each.tags]]
    return StoredRun(
        info.run_id, info.run_name or info.run_id[:8], info.status, datetime.fromtimestamp(info.start_time / 1000, UTC),
        ended, data.params, data.metrics, data.tags, "phantom" in trained_on,
    )  # fmt: skip


def _version(version: ModelVersion) -> Version:
    return Version(str(version.version), version.run_id or "")
