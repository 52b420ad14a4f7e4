import contextlib
import getpass
import json
import logging
import math
import shutil
import sqlite3
import subprocess
import time
from importlib.metadata import version

import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from medgan.errors import ConfigError
from medgan.tracking import KeptModel, Tracker, add_metrics, code_revision
from medgan.tracking import run as recording

PARAMETERS = {"fit": {"epochs": 3, "device": "cpu"}, "seed": 7}
TAGS = {"pipeline": "ct_contrast", "git_revision": "abc-dirty"}


def start(uri, **changes):
    facts = {"experiment": "ct_contrast", "run_name": "first", "parameters": PARAMETERS, "tags": TAGS}
    return Tracker.start(uri, **(facts | changes))


def history(uri, run, key):
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.id, key)]


def test_what_is_recorded_is_read_back_and_nothing_tells_of_who_stays_anonymous(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_ANONYMOUS", "true")
    (tmp_path / "epoch_001.png").write_bytes(b"png")
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    with start(store) as run:
        run.metrics({"train/cycle": 0.5, "val/mae_hu": 40.0}, step=1)
        run.metrics({"train/cycle": 0.25, "val/psnr_db": math.nan}, step=2)
        run.artifact(tmp_path / "epoch_001.png", "samples")
        run.artifact(tmp_path / "config.yaml")
        run.tags({"failed_children": "none"})
        run.note("a card")
        run.dataset("phantom", "0123456789abcdef" * 4, {"contrast": 8, "plain": 9})
    client = MlflowClient(store)
    kept = client.get_run(run.id)
    assert (kept.info.run_name, kept.info.status) == ("first", "FINISHED")
    assert kept.info.user_id in ("", "unknown")
    assert kept.data.params == {"fit.epochs": "3", "fit.device": "cpu", "seed": "7"}
    added = {"failed_children": "none", "mlflow.runName": "first", "medgan_version": version("medgan")}
    assert kept.data.tags == TAGS | added
    # What is not a number is recorded as such.
    figures = {"train/cycle": 0.25, "val/mae_hu": 40.0, "val/psnr_db": math.nan}
    assert kept.data.metrics == pytest.approx(figures, nan_ok=True)
    assert history(store, run, "train/cycle") == [(1, 0.5), (2, 0.25)]
    assert [file.path for file in client.list_artifacts(run.id, "samples")] == ["samples/epoch_001.png"]
    assert [file.path for file in client.list_artifacts(run.id)] == ["config.yaml", "samples"]
    (known,) = kept.inputs.dataset_inputs
    assert (known.dataset.name, known.dataset.digest) == ("phantom", "0123456789abcdef" * 2)
    assert json.loads(known.dataset.profile) == {"contrast": 8, "plain": 9}
    assert (known.dataset.source_type, known.dataset.source) == ("medgan", "{}")


def test_a_run_tells_who_did_what_and_its_note_is_what_people_made_of_it(database, tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    facts = {"command": "medgan train --pipeline ct_contrast", "note": "CT to CT.", "tags": {"git_revision": commit}}
    with start(database, **facts) as run:
        run.note("# card")
    client = MlflowClient(database)
    tags = client.get_run(run.id).data.tags
    assert tags["mlflow.user"] == getpass.getuser()
    assert (tags["mlflow.source.name"], tags["mlflow.source.git.commit"]) == (facts["command"], commit)
    assert tags["mlflow.note.content"] == "CT to CT.\n\n# card"
    client.set_tag(run.id, "mlflow.note.content", "ours, # card")
    with start(database, run_id=run.id, **facts) as again:
        again.note("# card")
    assert client.get_run(run.id).data.tags["mlflow.note.content"] == "ours, # card"


def test_pictures_are_a_series_through_which_the_page_slides(store, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "panel.png")
    with start(store) as run:
        for step in (1, 5):
            run.image(tmp_path / "panel.png", "validation", step, "source, translation")
    client = MlflowClient(store)
    paths = [file.path for file in client.list_artifacts(run.id, "images")]
    assert [sum(path.startswith(f"images/validation+step+{step}+") for path in paths) for step in (1, 5)] == [2, 2]
    whole = next(path for path in paths if path.endswith(".png"))
    assert np.array_equal(np.asarray(Image.open(client.download_artifacts(run.id, whole))).ravel(), np.arange(64))
    tags = client.get_run(run.id).data.tags
    assert (tags["caption.validation"], tags["mlflow.loggedImages"]) == ("source, translation", "True")


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (SystemExit, "KILLED")])
def test_a_run_ends_as_it_ended_and_figures_are_added_without_changing_that(database, error, status):
    with contextlib.suppress(error), start(database) as run:
        raise error
    add_metrics(database, run.id, {"test/mae_hu": 41.5, "test/psnr_db": math.inf, "test/ssim": math.nan})
    kept = MlflowClient(database).get_run(run.id)
    assert kept.data.metrics == {"test/mae_hu": 41.5}
    assert kept.info.status == status
    with pytest.raises(ConfigError, match="cannot be used"):
        add_metrics(database, "0" * 32, {"test/mae_hu": 1.0})


def test_a_child_is_found_by_its_parent_and_stays_one_when_resumed(database):
    parent = start(database, experiment="family")
    child = start(database, experiment="family", parent=parent.id)
    stranger = start(database, experiment="family")
    again = start(database, experiment="family", run_id=child.id, parent=parent.id)
    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("family").experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.id}'")
    assert [run.info.run_id for run in found] == [child.id] == [again.id] != [stranger.id]


def test_a_resumed_run_is_one_run(store):
    with contextlib.suppress(KeyboardInterrupt), start(store, experiment="resumed") as run:
        run.dataset("phantom", "0" * 64, {"contrast": 8})
        run.metrics({"train/cycle": 0.5}, step=1)
        raise KeyboardInterrupt
    client = MlflowClient(store)
    assert client.get_run(run.id).info.status == "KILLED"
    changed = {"fit": {"epochs": 5, "device": "cpu"}, "seed": 7, "size": "small"}
    with start(store, experiment="resumed", run_id=run.id, parameters=changed) as again:
        assert client.get_run(run.id).info.status == "RUNNING"
        again.dataset("phantom", "0" * 64, {"contrast": 8})
        again.metrics({"train/cycle": 0.25}, step=2)
    (kept,) = client.search_runs([client.get_experiment_by_name("resumed").experiment_id])
    assert (kept.info.run_id, kept.info.status) == (again.id, "FINISHED")
    assert history(store, again, "train/cycle") == [(1, 0.5), (2, 0.25)]
    assert len(kept.inputs.dataset_inputs) == 1
    # MLflow never changes a parameter.
    assert kept.data.params == {"fit.epochs": "3", "fit.device": "cpu", "seed": "7", "size": "small"}
    assert kept.data.tags["resumed.fit.epochs"] == "5"
    # One of another store, or from the bin.
    with pytest.raises(ConfigError, match=r"run 0{32} is not in .*resume with the --tracking"):
        start(store, run_id="0" * 32)
    client.delete_run(run.id)
    with pytest.raises(ConfigError, match="mlflow runs restore"):
        start(store, run_id=run.id)


def test_many_and_long_parameters_are_kept_up_to_what_mlflow_takes(database):
    run = start(database, parameters={f"term_{index}": index for index in range(250)} | {"long": "x" * 7000})
    kept = MlflowClient(database).get_run(run.id).data.params
    assert len(kept) == 251
    assert kept["long"] == "x" * 5999 + "…"


def test_the_machine_is_watched_and_goes_on_where_it_was_and_nothing_is_printed(database, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with start(database) as run:
        time.sleep(1)
    with start(database, run_id=run.id):
        time.sleep(1)
    assert capfd.readouterr() == ("", "")
    steps = [step for step, _ in history(database, run, "system/cpu_utilization_percentage")]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2


def test_a_server_that_dies_ends_no_training_and_gets_the_metrics_when_it_is_back(
    server, database, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(recording, "RETRY_S", 0.0)
    (tmp_path / "epoch_002.png").write_bytes(b"png")
    (tmp_path / "model").mkdir()
    with caplog.at_level(logging.WARNING, "medgan"), start(server.uri) as run:
        assert (
            run.describe()
            == f"MLflow run {run.id}: {server.uri}/#/experiments/{run._run.info.experiment_id}/runs/{run.id}"
        )
        run.metrics({"train/cycle": 3.0}, step=1)
        server.stop()
        try:
            run.metrics({"train/cycle": 2.0}, step=2)
            run.artifact(tmp_path / "epoch_002.png", "samples")
            assert run.model(KeptModel(tmp_path / "model", "0" * 64)) is None
            (warning,) = [record.getMessage() for record in caplog.records]
            assert "The training goes on; metrics.csv" in warning
        finally:
            server.start()
        run.metrics({"train/cycle": 1.0}, step=3)
    assert "answers again" in caplog.records[-1].getMessage()
    assert history(server.uri, run, "train/cycle") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert MlflowClient(server.uri).get_run(run.id).info.status == "FINISHED"


def test_a_lost_store_is_left_alone_for_a_while(database, caplog):
    run = start(database)
    assert run.describe() == f"MLflow run {run.id}: look at it with `mlflow ui --backend-store-uri '{database}'`"
    MlflowClient(run.uri).delete_run(run.id)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "medgan"):
        for step in range(1000):
            run.metrics({"train/cycle": 1.0}, step=step)
    assert time.monotonic() - began < 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("loss", ["full", "damaged", "closed", "gone"])
def test_a_database_that_is_lost_ends_no_training(database, tmp_path, full_disk, caplog, loss):
    """Full, overwritten in part, closed under the client, or deleted: named once, and the training goes on."""
    shutil.copy(database.removeprefix("sqlite:///"), tmp_path / "lost.db")  # MLflow takes seconds to make another
    run = start(f"sqlite:///{tmp_path}/lost.db")
    run.metrics({"train/cycle": 3.0}, step=1)
    database = tmp_path / "lost.db"
    if loss == "full":
        full_disk(database.stat().st_size)
    elif loss == "damaged":
        database.write_bytes(database.read_bytes()[:100] + bytes(5000))
    elif loss == "closed":
        run._client = ClosedClient()
    else:
        database.unlink()
    with caplog.at_level(logging.WARNING, "medgan"), run:
        for step in range(300):
            run.metrics({f"train/{loss}_{step}": 1.0}, step=step)
    (warning, *more) = [record.getMessage() for record in caplog.records if record.name.startswith("medgan")]
    assert not more
    assert "does not take what is recorded" in warning
    assert "metrics.csv, samples/ and model/ in the run folder are complete" in warning


class ClosedClient:
    """A client whose database was closed under it."""

    def __getattr__(self, name):
        raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout.strip()


def test_a_checkout_is_named_by_its_commit_and_a_release_by_its_version(tmp_path):
    package, installed = tmp_path / "medgan", tmp_path / ".venv" / "medgan"
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    release = f"medgan {version('medgan')}"
    assert code_revision(package) == release
    git(tmp_path, "init")
    git(tmp_path, "add", "medgan")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert code_revision(package) == head
    assert code_revision(installed) == release, "an environment inside of another repository"
    (package / "__init__.py").write_text("changed = True")
    assert code_revision(package) == f"{head}-dirty"
    assert code_revision()
