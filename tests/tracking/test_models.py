import shutil

import pytest

from medgan.errors import ConfigError, ModelError
from medgan.tracking import Tracker, download_model

FACTS = {"experiment": "ct_contrast", "run_name": "first", "parameters": {}, "tags": {}}


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


def test_a_model_comes_back_by_its_run(store, folder):
    run, uri = keep(store, folder)
    assert uri == f"runs:/{run.id}/model"
    assert contents(download_model(uri, store)) == contents(folder)


def test_a_model_comes_back_by_its_version_and_its_alias(store, folder):
    _, uri = keep(store, folder, register_as="by_alias")
    assert uri == "models:/by_alias/1"
    assert contents(download_model(uri, store)) == contents(folder)
    assert contents(download_model("models:/by_alias@newest", store)) == contents(folder)


def test_the_alias_follows_the_newest_version_and_the_old_one_stays(store, folder):
    keep(store, folder, register_as="moving")
    write(folder, b"better weights")
    assert keep(store, folder, register_as="moving")[1] == "models:/moving/2"
    assert contents(download_model("models:/moving@newest", store)) == contents(folder)
    assert contents(download_model("models:/moving/1", store))["weights.safetensors"] == b"weights"


def test_a_resumed_run_gives_its_last_model(store, folder):
    run, uri = keep(store, folder)
    write(folder, b"longer trained")
    with Tracker.start(store, **FACTS, run_id=run.id) as again:
        again.model(folder)
    assert contents(download_model(uri, store)) == contents(folder)


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
