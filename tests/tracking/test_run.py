import contextlib
import json
import logging
import math
import shutil
import sqlite3
import subprocess
import time
from importlib.metadata import version

import pytest
from mlflow.tracking import MlflowClient

from medgan.errors import ConfigError
from medgan.tracking import Tracker, add_metrics, code_revision
from medgan.tracking import run as recording

PARAMETERS = {"fit": {"epochs": 3, "device": "cpu"}, "seed": 7}
TAGS = {"pipeline": "ct_contrast", "git_revision": "abc-dirty"}


def start(uri, **changes):
    facts = {"experiment": "ct_contrast", "run_name": "first", "parameters": PARAMETERS, "tags": TAGS}
    return Tracker.start(uri, **(facts | changes))


def stop(error):
    if error is not None:
        raise error


def history(uri, run, key):
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.id, key)]


def test_what_is_recorded_is_read_back(store, tmp_path):
    (tmp_path / "epoch_001.png").write_bytes(b"png")
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    with start(store) as run:
        run.metrics({"train/cycle": 0.5, "val/mae_hu": 40.0}, step=1)
        run.metrics({"train/cycle": 0.25, "val/psnr_db": math.nan}, step=2)
        run.panel(tmp_path / "epoch_001.png")
        run.artifact(tmp_path / "config.yaml")
        run.tags({"failed_children": "none"})
    client = MlflowClient(store)
    kept = client.get_run(run.id)
    assert kept.info.run_name == "first"
    assert kept.data.params == {"fit.epochs": "3", "fit.device": "cpu", "seed": "7"}
    assert {**TAGS, "failed_children": "none"}.items() <= kept.data.tags.items()
    assert math.isnan(kept.data.metrics.pop("val/psnr_db"))  # not a number is recorded as such
    assert kept.data.metrics == {"train/cycle": 0.25, "val/mae_hu": 40.0}
    assert history(store, run, "train/cycle") == [(1, 0.5), (2, 0.25)]
    assert [file.path for file in client.list_artifacts(run.id, "samples")] == ["samples/epoch_001.png"]
    assert [file.path for file in client.list_artifacts(run.id)] == ["config.yaml", "samples"]


def test_the_dataset_is_a_label_a_digest_and_counts_and_nothing_tells_of_the_user(store):
    with start(store) as run:
        run.dataset("phantom", "0123456789abcdef" * 4, {"contrast": 8, "plain": 9})
    kept = MlflowClient(store).get_run(run.id)
    (known,) = kept.inputs.dataset_inputs
    assert (known.dataset.name, known.dataset.digest) == ("phantom", "0123456789abcdef" * 2)
    assert json.loads(known.dataset.profile) == {"contrast": 8, "plain": 9}
    assert (known.dataset.source_type, known.dataset.source) == ("medgan", "{}")
    assert set(kept.data.tags) == {"pipeline", "git_revision", "mlflow.runName"}
    assert kept.info.user_id in ("", "unknown")


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")],
)
def test_a_run_ends_as_it_ended(store, error, status):
    run = start(store)
    with pytest.raises(error) if error else contextlib.nullcontext(), run:
        stop(error)
    assert MlflowClient(store).get_run(run.id).info.status == status


def test_a_child_is_found_by_its_parent_and_stays_one_when_resumed(store):
    parent = start(store, experiment="family")
    child = start(store, experiment="family", parent=parent.id)
    stranger = start(store, experiment="family")
    again = start(store, experiment="family", run_id=child.id, parent=parent.id)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("family").experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.id}'")
    assert [run.info.run_id for run in found] == [child.id] == [again.id] != [stranger.id]


def test_figures_of_a_run_that_has_ended_are_added_and_it_stays_as_it_ended(store):
    with contextlib.suppress(RuntimeError), start(store) as run:
        raise RuntimeError
    add_metrics(store, run.id, {"test/mae_hu": 41.5, "test/psnr_db": math.inf, "test/ssim": math.nan})
    kept = MlflowClient(store).get_run(run.id)
    assert kept.data.metrics == {"test/mae_hu": 41.5}
    assert kept.info.status == "FAILED"
    with pytest.raises(ConfigError, match="cannot be used"):
        add_metrics(store, "0" * 32, {"test/mae_hu": 1.0})


def test_a_resumed_run_is_one_run(store):
    run = start(store, experiment="resumed")
    run.dataset("phantom", "0" * 64, {"contrast": 8})
    run.metrics({"train/cycle": 0.5}, step=1)
    with pytest.raises(KeyboardInterrupt), run:
        stop(KeyboardInterrupt)
    changed = {"fit": {"epochs": 5, "device": "cpu"}, "seed": 7, "size": "small"}
    with start(store, experiment="resumed", run_id=run.id, parameters=changed) as again:
        client = MlflowClient(store)
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


def test_a_run_of_another_store_or_from_the_bin_is_not_resumed(store):
    with pytest.raises(ConfigError, match=r"run 0{32} is not in .*resume with the --tracking"):
        start(store, run_id="0" * 32)
    run = start(store)
    MlflowClient(store).delete_run(run.id)
    with pytest.raises(ConfigError, match="mlflow runs restore"):
        start(store, run_id=run.id)


def test_many_and_long_parameters_are_kept_up_to_what_mlflow_takes(store):
    run = start(store, parameters={f"term_{index}": index for index in range(250)} | {"long": "x" * 7000})
    kept = MlflowClient(store).get_run(run.id).data.params
    assert len(kept) == 251
    assert kept["long"] == "x" * 5999 + "…"


def test_the_machine_is_watched_and_goes_on_where_it_was(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with start(database) as run:
        time.sleep(1)
    with start(database, run_id=run.id):
        time.sleep(1)
    steps = [step for step, _ in history(database, run, "system/cpu_utilization_percentage")]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2


def test_nothing_is_printed(database, capfd):
    with start(database) as run:
        run.metrics({"train/cycle": 1.0}, step=1)
    assert capfd.readouterr() == ("", "")


def test_the_user_is_told_where_to_look(database, server):
    assert f"mlflow ui --backend-store-uri '{database}'" in start(database).describe()
    run = start(server.uri)
    assert f"{server.uri}/#/experiments/" in run.describe()
    assert run.id in run.describe()


def test_a_server_that_dies_ends_no_training_and_gets_the_metrics_when_it_is_back(
    server, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(recording, "RETRY_S", 0.0)
    (tmp_path / "epoch_002.png").write_bytes(b"png")
    (tmp_path / "model").mkdir()
    with caplog.at_level(logging.WARNING, "medgan"), start(server.uri) as run:
        run.metrics({"train/cycle": 3.0}, step=1)
        server.kill()
        try:
            run.metrics({"train/cycle": 2.0}, step=2)
            run.panel(tmp_path / "epoch_002.png")
            assert run.model(tmp_path / "model") is None
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
    start(database)
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


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    package = tmp_path / "medgan"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    return package


def head(folder):
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout.strip()


def test_a_checkout_is_named_by_its_commit(checkout):
    assert code_revision(checkout) == head(checkout)


def test_changed_files_make_it_dirty(checkout):
    (checkout / "__init__.py").write_text("changed = True")
    assert code_revision(checkout) == f"{head(checkout)}-dirty"


def test_a_release_is_named_by_its_version(tmp_path):
    assert code_revision(tmp_path) == f"medgan {version('medgan')}"


def test_an_environment_inside_of_another_repository_is_a_release(checkout):
    installed = checkout.parent / ".venv" / "medgan"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert code_revision(installed) == f"medgan {version('medgan')}"


def test_the_package_knows_its_own_revision():
    assert code_revision()
