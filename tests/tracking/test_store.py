import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
from mlflow.telemetry.client import get_telemetry_client
from mlflow.tracking import MlflowClient

from medgan.errors import ConfigError, ModelError
from medgan.tracking import Tracker, check_store, data_folder, download_model, resolve_uri

SHA256 = "0" * 64
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


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, b"weights")
    return folder


def write(folder, weights):
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "model.json").write_text("{}")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def keep(store, folder, register_as=None):
    with Tracker.start(store, **FACTS) as run:
        uri = run.model(folder, SHA256, register_as)
    return run, uri


def test_a_model_comes_back_by_its_run_whose_last_it_is_and_a_servers_is_downloaded_once(store, folder):
    run, uri = keep(store, folder)
    assert uri == f"runs:/{run.id}/model"
    first = download_model(uri, store)
    assert contents(first) == contents(folder)
    written = first.stat().st_ino
    assert download_model(uri, store).stat().st_ino == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    write(folder, b"longer trained")
    with Tracker.start(store, **FACTS, run_id=run.id) as again:
        again.model(folder, SHA256)
    assert contents(download_model(uri, store)) == contents(folder)


def test_a_model_comes_back_by_its_version_and_the_alias_follows_the_newest(store, folder):
    for number, weights in enumerate((b"weights", b"better weights"), start=1):
        write(folder, weights)
        assert keep(store, folder, register_as="moving")[1] == f"models:/moving/{number}"
        assert contents(download_model("models:/moving@newest", store)) == contents(folder)
    assert contents(download_model("models:/moving/1", store))["weights.safetensors"] == b"weights"


def test_a_model_is_found_without_naming_the_store_again_and_named_where_its_files_are_gone(
    database, folder, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    _, uri = keep(None, folder)
    assert contents(download_model(uri)) == contents(folder)
    shutil.rmtree(download_model(uri))
    with pytest.raises(ModelError, match="No such file"):
        download_model(uri)


@pytest.mark.parametrize("uri", ["runs:/", "runs:/abc", "runs:/abc/weights", "models:/name", "models:/@x", "model"])
def test_an_address_of_no_model_is_explained(uri):
    with pytest.raises(ModelError, match="models:/NAME@ALIAS"):
        download_model(uri)


def test_a_model_that_does_not_exist_is_named(store):
    for uri in (f"runs:/{'0' * 32}/model", "models:/unknown@newest", "models:/unknown/3"):
        with pytest.raises(ModelError, match=f"{uri} cannot be fetched from .*--tracking"):
            download_model(uri, store)
    with Tracker.start(store, **FACTS) as run:
        pass
    with pytest.raises(ModelError, match=f"run {run.id} kept no model"):
        download_model(f"runs:/{run.id}/model", store)
