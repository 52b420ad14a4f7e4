"""Models that MLflow keeps: fetched by each of their names, and used by MLflow itself."""

import math
import shutil

import pytest
from mlflow.tracking import MlflowClient

from medgan.errors import ModelError
from medgan.tracking import KeptModel, Tracker, add_metrics, download_model

FACTS = {"experiment": "ct_contrast", "run_name": "first", "parameters": {"fit": {"epochs": 3}}, "tags": {}}
SHA256 = "0" * 64


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
        uri = run.model(KeptModel(folder, SHA256), register_as)
    return run, uri


def test_a_model_comes_back_by_its_run_whose_last_it_is_and_a_servers_is_downloaded_once(store, folder):
    run, uri = keep(store, folder)
    assert uri == f"runs:/{run.id}/first"
    first = download_model(uri, store)
    assert contents(first) == contents(folder)
    written = first.stat().st_ino
    assert download_model(uri, store).stat().st_ino == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    write(folder, b"longer trained")
    with Tracker.start(store, **FACTS, run_id=run.id) as again:
        again.model(KeptModel(folder, SHA256))
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


@pytest.mark.parametrize("uri", ["runs:/", "runs:/abc", "runs:/abc/a/b", "models:/name", "models:/@x", "model"])
def test_an_address_of_no_model_is_explained(uri):
    with pytest.raises(ModelError, match="models:/NAME@ALIAS"):
        download_model(uri)


def test_a_model_that_does_not_exist_is_named(store):
    for uri in (f"runs:/{'0' * 32}/model", f"runs:/{'0' * 32}/first", "models:/unknown@newest", "models:/unknown/3"):
        with pytest.raises(ModelError, match=f"{uri} cannot be fetched from .*--tracking"):
            download_model(uri, store)
    with Tracker.start(store, **FACTS) as run:
        pass
    with pytest.raises(ModelError, match=f"run {run.id} kept no model"):
        download_model(f"runs:/{run.id}/model", store)


def test_a_model_has_its_runs_name_and_parameters_and_its_own_figures_with_their_data(store, folder):
    kept = KeptModel(folder, SHA256, {"best/mae_hu": 41.5, "best/psnr_db": math.nan}, epoch=3, validated_on="ab" * 32)
    with Tracker.start(store, **(FACTS | {"run_name": "study/first.run"})) as run:
        assert run.model(kept) == f"runs:/{run.id}/study-first-run"
    add_metrics(store, run.id, {"test/mae_hu": 50.0, "test/ssim": math.inf})
    client = MlflowClient(store)
    ended = client.get_run(run.id)
    assert ended.data.tags["model_sha256"] == SHA256
    assert ended.data.metrics == {"best/mae_hu": 41.5, "test/mae_hu": 50.0}
    (model,) = client.search_logged_models([ended.info.experiment_id], f"source_run_id = '{run.id}'")
    assert (model.name, model.params, model.tags["model_sha256"]) == ("study-first-run", {"fit.epochs": "3"}, SHA256)
    best, test = sorted(model.metrics, key=lambda metric: metric.key)
    assert (best.key, best.value, best.step) == ("best/mae_hu", 41.5, 3)
    assert (best.dataset_name, best.dataset_digest) == ("validation", "ab" * 16)
    assert (test.key, test.value) == ("test/mae_hu", 50.0)
    assert [output.model_id for output in ended.outputs.model_outputs] == [model.model_id]
