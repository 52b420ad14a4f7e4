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


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "/some/mlruns", "file:///some/mlruns", "file:mlruns"])
def test_a_folder_of_files_is_refused_with_the_database_to_use_instead(uri):
    with pytest.raises(ConfigError, match=r"sqlite:///.*mlruns\.db"):
        resolve_uri(uri)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(uri):
    with pytest.raises(ConfigError, match="names no file"):
        resolve_uri(uri)


@pytest.mark.parametrize("uri", ["sqlite:///runs.db", "sqlite:////some/runs.db", "http://host:5000", "databricks"])
def test_resolving_twice_changes_nothing(uri):
    assert resolve_uri(resolve_uri(uri)) == resolve_uri(uri)


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


def test_a_relative_database_is_found_again_from_another_folder(tmp_path, monkeypatch):
    uri = resolve_uri("sqlite:///runs.db")
    monkeypatch.chdir(tmp_path)
    assert uri == f"sqlite:///{tmp_path}/cwd/runs.db"


def test_telemetry_is_off():
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert get_telemetry_client() is None


def test_trainings_that_start_together_share_one_new_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/new/runs.db"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medgan.tracking"])
    starts = [context.Process(target=Tracker.start, args=(uri,), kwargs=FACTS) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [start.exitcode for start in starts] == [0, 0]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ct_contrast")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_first_start_that_is_killed_leaves_no_half_made_database(tmp_path):
    database = tmp_path / "runs.db"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medgan.tracking"])
    start = context.Process(target=Tracker.start, args=(f"sqlite:///{database}",), kwargs=FACTS)
    start.start()
    making = tmp_path / "runs.db.new"
    while start.is_alive() and not (making.is_file() and making.stat().st_size > 100_000):  # half of its tables
        time.sleep(0.01)
    start.kill()
    start.join()
    assert start.exitcode == -9
    assert making.is_file()
    with Tracker.start(f"sqlite:///{database}", **FACTS) as run:
        assert MlflowClient(f"sqlite:///{database}").get_run(run.id).info.run_name == "first"


def test_artifacts_lie_beside_the_database_and_nothing_in_the_current_folder(database, tmp_path):
    picture = tmp_path / "epoch_001.png"
    picture.write_bytes(b"png")
    with Tracker.start(database, **FACTS) as run:
        run.panel(picture)
    beside = Path(database.removeprefix("sqlite:///")).parent
    assert (beside / "artifacts" / run.id / "artifacts/samples/epoch_001.png").read_bytes() == b"png"
    assert list(Path.cwd().iterdir()) == []


def test_a_server_that_is_down_is_named_at_once_without_its_password():
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9 cannot be used .*start the server") as refusal:
        Tracker.start("http://anna:secret@127.0.0.1:9", **FACTS)
    assert "secret" not in str(refusal.value)
    assert time.monotonic() - began < 10


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path):
    (tmp_path / "notes.db").write_text("not a database " * 100)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"notes\.db cannot be used \(file is not a database\)"):
        Tracker.start(f"sqlite:///{tmp_path}/notes.db", **FACTS)
    assert time.monotonic() - began < 5


def test_a_driver_that_is_missing_is_named_without_the_password():
    with pytest.raises(ConfigError, match=r"its driver is missing \(No module named 'pymysql'\)") as refusal:
        check_store("mysql+pymysql://anna:secret@127.0.0.1:9/runs")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["nonsense://host", "sqlite+nothing:///a.db", "http://[::1"])
def test_a_store_of_no_known_kind_is_named(uri):
    with pytest.raises(ConfigError, match="cannot be used"):
        check_store(uri)


def test_a_deleted_experiment_is_not_filled_again(store):
    facts = FACTS | {"experiment": "deleted"}
    Tracker.start(store, **facts)
    client = MlflowClient(store)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    with pytest.raises(ConfigError, match="mlflow experiments restore"):
        Tracker.start(store, **facts)


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
        uri = run.model(folder, register_as)
    return run, uri


def test_a_model_comes_back_by_its_run_whose_last_it_is(store, folder):
    run, uri = keep(store, folder)
    assert uri == f"runs:/{run.id}/model"
    assert contents(download_model(uri, store)) == contents(folder)
    write(folder, b"longer trained")
    with Tracker.start(store, **FACTS, run_id=run.id) as again:
        again.model(folder)
    assert contents(download_model(uri, store)) == contents(folder)


def test_a_model_comes_back_by_its_version_and_the_alias_follows_the_newest(store, folder):
    for number, weights in enumerate((b"weights", b"better weights"), start=1):
        write(folder, weights)
        assert keep(store, folder, register_as="moving")[1] == f"models:/moving/{number}"
        assert contents(download_model("models:/moving@newest", store)) == contents(folder)
    assert contents(download_model("models:/moving/1", store))["weights.safetensors"] == b"weights"


def test_a_model_of_a_server_is_downloaded_once(server, folder):
    _, uri = keep(server.uri, folder)
    first = download_model(uri, server.uri)
    written = first.stat().st_ino
    assert download_model(uri, server.uri).stat().st_ino == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_model_is_found_without_naming_the_store_again(database, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    _, uri = keep(None, folder)
    assert contents(download_model(uri)) == contents(folder)


@pytest.mark.parametrize("uri", ["runs:/", "runs:/abc", "runs:/abc/weights", "models:/name", "models:/@x", "model"])
def test_an_address_of_no_model_is_explained(uri):
    with pytest.raises(ModelError, match="models:/NAME@ALIAS"):
        download_model(uri)


@pytest.mark.parametrize("uri", [f"runs:/{'0' * 32}/model", "models:/unknown@newest", "models:/unknown/3"])
def test_a_model_that_does_not_exist_is_named(store, uri):
    with pytest.raises(ModelError, match=f"{uri} cannot be fetched from .*--tracking"):
        download_model(uri, store)


def test_a_run_without_a_model_is_named(store):
    with Tracker.start(store, **FACTS) as run:
        pass
    with pytest.raises(ModelError, match=f"run {run.id} kept no model"):
        download_model(f"runs:/{run.id}/model", store)


def test_a_model_whose_files_were_removed_is_named(database, folder):
    _, uri = keep(database, folder)
    shutil.rmtree(download_model(uri, database))
    with pytest.raises(ModelError, match="No such file"):
        download_model(uri, database)


def test_a_server_that_is_down_is_not_taken_for_a_missing_model():
    with pytest.raises(ConfigError, match="cannot be used"):
        download_model("models:/ct_contrast@newest", "http://127.0.0.1:9")
