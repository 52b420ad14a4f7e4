import multiprocessing
import os
import time
from pathlib import Path

import pytest
from mlflow.telemetry.client import get_telemetry_client
from mlflow.tracking import MlflowClient

from medgan.errors import ConfigError
from medgan.tracking import Tracker, check_store, data_folder, download_model, resolve_uri

FACTS = {"experiment": "ct_contrast", "run_name": "first", "parameters": {}, "tags": {}}


def test_the_flag_wins_over_the_environment_which_wins_over_the_default(home, monkeypatch):
    assert resolve_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    assert resolve_uri() == "http://environment:5000"
    assert resolve_uri("http://flag:5000") == "http://flag:5000"


def test_the_data_folder_is_medgans_own_then_the_users(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/users/data")
    monkeypatch.setenv("MEDGAN_HOME", "/medgan/home")
    assert data_folder() == Path("/medgan/home")
    monkeypatch.delenv("MEDGAN_HOME")
    assert data_folder() == Path("/users/data/medgan")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder() == Path.home() / ".local/share/medgan"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        *((uri, r"sqlite:///.*mlruns\.db") for uri in ("mlruns", "/some/mlruns", "file:///some/mlruns", "file:mlruns")),
        *((uri, "names no file") for uri in ("sqlite://", "sqlite:///", "sqlite:///:memory:")),
    ],
)
def test_a_folder_of_files_and_a_database_in_memory_are_refused_with_what_to_use_instead(uri, message):
    with pytest.raises(ConfigError, match=message):
        resolve_uri(uri)


@pytest.mark.parametrize("uri", ["sqlite:///runs.db", "sqlite:////some/runs.db", "http://host:5000", "databricks"])
def test_resolving_twice_changes_nothing_and_a_relative_database_is_found_from_elsewhere(uri, tmp_path, monkeypatch):
    resolved = resolve_uri(uri)
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(resolved) == resolved == uri.replace(":///runs", f":///{tmp_path}/cwd/runs")


def test_a_record_never_chooses_the_store_by_itself(home, monkeypatch):
    own = f"sqlite:///{home}/mlflow.db"
    assert resolve_uri(None, None) == resolve_uri(None, own) == own
    with pytest.raises(
        ConfigError, match=r"another MLflow store, 'http://evil:5000', than yours, .*mlflow.db.*--tracking"
    ):
        resolve_uri(None, "http://user:word@evil:5000")
    for odd in ("file:///etc", "", 7, ["http://evil"], "\x1b[2J"):
        with pytest.raises(ConfigError, match="another MLflow store") as caught:
            resolve_uri(None, odd)
        assert str(caught.value).isprintable()
    assert resolve_uri("http://asked:5000", "http://evil:5000") == "http://asked:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment:5000")
    assert resolve_uri(None, "http://environment:5000") == "http://environment:5000"


def test_telemetry_is_off():
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert get_telemetry_client() is None


@pytest.fixture
def starting():
    """Starts of a run, each in a process of its own: ``starting(uri, 2)``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medgan.tracking"])

    def start(uri, count):
        processes = [context.Process(target=Tracker.start, args=(uri,), kwargs=FACTS) for _ in range(count)]
        for process in processes:
            process.start()
        return processes

    return start


def test_trainings_that_start_together_share_a_new_database_that_a_killed_start_left_half_made(tmp_path, starting):
    uri, making = f"sqlite:///{tmp_path}/new/runs.db", tmp_path / "new" / "runs.db.new"
    (killed,) = starting(uri, 1)
    while killed.is_alive() and not (making.is_file() and making.stat().st_size > 100_000):  # half of its tables
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert (killed.exitcode, making.is_file()) == (-9, True)
    starts = starting(uri, 2)
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0, 0]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ct_contrast")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_artifacts_lie_beside_the_database_and_nothing_in_the_current_folder(database, tmp_path):
    (tmp_path / "epoch_001.png").write_bytes(b"png")
    with Tracker.start(database, **FACTS) as run:
        run.artifact(tmp_path / "epoch_001.png", "samples")
    beside = Path(database.removeprefix("sqlite:///")).parent
    assert (beside / "artifacts" / run.id / "artifacts/samples/epoch_001.png").read_bytes() == b"png"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://anna:secret@127.0.0.1:9", r"http://127\.0\.0\.1:9 cannot be used .*start the server"),
        ("sqlite:///../notes.db", r"notes\.db cannot be used \(file is not a database\)"),
        ("mysql+pymysql://anna:secret@127.0.0.1:9/runs", r"its driver is missing \(No module named 'pymysql'\)"),
        *((uri, "cannot be used") for uri in ("nonsense://host", "sqlite+nothing:///a.db", "http://[::1")),
    ],
)
def test_a_store_that_cannot_be_used_is_named_at_once_without_its_password(tmp_path, uri, message):
    (tmp_path / "notes.db").write_text("not a database " * 100)
    began = time.monotonic()
    for use in (check_store, lambda uri: download_model("models:/ct_contrast@newest", uri)):
        with pytest.raises(ConfigError, match=message) as refusal:
            use(uri)
        assert "secret" not in str(refusal.value)
    assert time.monotonic() - began < 20


def test_a_deleted_experiment_is_not_filled_again(database):
    facts = FACTS | {"experiment": "deleted"}
    Tracker.start(database, **facts)
    client = MlflowClient(database)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(ConfigError, match="mlflow experiments restore"):
        Tracker.start(database, **facts)
