"""A team's server as ``mlflow server`` is started, on SQLite and on PostgreSQL: six runs of two pipelines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image
from rich.console import Console

from browsing import opened, required
from medgan.config import merged, read_yaml
from medgan.data.studies import Location
from medgan.evaluation.evaluate import evaluate
from medgan.inference.convert import ConvertOrder, convert
from medgan.inference.recording import record_batch
from medgan.report.recording import record_evaluation
from medgan.tracking import KeptModel, Tracker, download_model
from medgan.training.run import train
from stores import BIN, mlflow_server, postgres

QUIET = Console(quiet=True)
SUBJECTS = "Meyer-Anna", "Zorn-Otto", "Abel-Ida"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request, tmp_path_factory):
    """Address and folder of a server; its database is dumped there when it is asked what it knows."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as uri:
            yield uri, folder, lambda: (folder / "mlflow.db").read_bytes()
    else:
        dump = required("pg_dump", BIN)
        with postgres() as backend, mlflow_server(folder, backend) as uri:
            command = [dump, backend.replace("+psycopg2", "")]
            yield uri, folder, lambda: subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def runs(server, order, work, ct, tmp_path_factory):
    """Six runs of two pipelines, by name: one that was trained here, and five that are recorded as if they were."""
    uri, _, _ = server
    folder = tmp_path_factory.mktemp("runs")
    trained = train(order(out=folder / "runs", name="trained", tracking=uri, register="ct_contrast"), QUIET)
    ids = {"trained": trained.run.facts()["mlflow_run_id"]}
    study = folder / "input" / "Meyer-Anna.nii.gz"
    save(study, ct(7, contrast=True))
    summary = convert(ConvertOrder(Location(study.parent), folder / "out", str(trained.run.model), tracking=uri), QUIET)
    assert f"recorded on MLflow run {ids['trained']}" in record_batch(summary, uri)
    judge(uri, folder / "trained", ct, trained.description.sha256, 25.0)
    settings = read_yaml(trained.run.config)
    for number, (pipeline, name) in enumerate((p, n) for p in ("ct_contrast", "mr_to_ct") for n in ("a", "b", "c")):
        if number == 0:
            continue
        facts = {
            "experiment": pipeline,
            "run_name": f"{pipeline}-{name}",
            "parameters": merged(settings, {"fit": {"epochs": 10 * number}}),
        }
        sha256 = f"{number}" * 64
        with Tracker.start(uri, **facts, tags={"pipeline": pipeline}) as run:
            for epoch in (1, 2, 3):
                run.metrics({"train/l1": 1 / epoch, "val/mae_hu": 90 - 5 * number - epoch}, step=epoch)
                picture = np.full((256, 512), 60 * epoch, dtype=np.uint8)
                Image.fromarray(picture).save(folder / "panel.png")
                run.image(folder / "panel.png", "validation", epoch, "source, translation, target")
            run.model(KeptModel(trained.run.model, sha256, {"best/mae_hu": 87.0 - 5 * number}, 3, "ab" * 32))
        judge(uri, folder / facts["run_name"], ct, sha256, 10.0 * number)
        ids[facts["run_name"]] = run.id
    return ids


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.rint(voxels).astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)


def judge(uri, root, ct, sha256, error):
    """Translations that are off by ``error`` HU, judged and recorded."""
    for seed, subject in enumerate(SUBJECTS):
        plain = ct(seed, contrast=False)
        save(root / "source" / f"{subject}.nii.gz", ct(seed, contrast=True))
        save(root / "reference" / f"{subject}.nii.gz", plain)
        save(root / "synthetic" / f"{subject}.nii.gz", plain + error)
        (root / "synthetic" / f"{subject}.json").write_text(json.dumps({"Model": {"DescriptionSHA256": sha256}}))
    evaluation = evaluate(root / "synthetic", root / "reference", root / "results", source=root / "source")
    assert record_evaluation(evaluation, root / "results", uri).startswith("recorded on MLflow run ")


def test_the_server_has_figures_of_both_pipelines_under_the_same_keys_and_knows_no_name_and_no_path(server, runs, work):
    uri, folder, database = server
    client = MlflowClient(uri)
    kept = [client.get_run(run_id) for run_id in runs.values()]
    keys = [{key for key in run.data.metrics if key.startswith("test/")} for run in kept]
    assert all(own == keys[0] for own in keys)
    assert {"test/mae_hu", "test/mae_hu_lower", "test/do_nothing/mae_hu", "test/intensity_lookup/mae_hu"} <= keys[0]
    assert len({run.data.tags["test_set"] for run in kept}) == 1
    models = client.search_logged_models([run.info.experiment_id for run in kept[:4:3]])
    assert sorted(model.name for model in models) == sorted(runs)
    for model in models:
        assert {"test/mae_hu"} <= {metric.key for metric in model.metrics}
        assert model.params
    files = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    known = {"database": database()} | {str(path): path.read_bytes() for path in files}
    assert b"test/mae_hu" in known["database"]
    secrets = [*SUBJECTS, str(work), str(work.parent)]
    # The server itself knows where it is.
    known["database"] = known["database"].replace(str(folder).encode(), b"")
    assert not {(word, place) for word in secrets for place, content in known.items() if word.encode() in content}


LOADED = """
import sys
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(*model.predict(sys.argv[2], params={"device": "cpu"}))
"""


def test_mlflow_loads_and_uses_the_model_of_a_run_and_of_an_alias(server, runs, ct, tmp_path):
    uri, _, _ = server
    save(tmp_path / "ct.nii.gz", ct(3, contrast=True))
    command = [sys.executable, "-c", LOADED, "models:/ct_contrast@newest", str(tmp_path / "ct.nii.gz")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"MLFLOW_TRACKING_URI": uri}
    )
    assert done.stdout.split() == [str(tmp_path / "ct_desc-synthetic.nii.gz")]
    assert nib.load(done.stdout.strip()).shape == (32, 32, 3)
    assert (download_model(f"runs:/{runs['trained']}/trained", uri) / "MLmodel").is_file()


def test_mlflows_own_pages_compare_runs_and_models_and_slide_through_pictures(server, runs, browser, tmp_path):
    uri, _, _ = server
    experiment = MlflowClient(uri).get_experiment_by_name("ct_contrast").experiment_id
    own = [runs[name] for name in ("trained", "ct_contrast-b", "ct_contrast-c")]
    shown = Path(os.environ.get("MEDGAN_SCREENSHOTS", tmp_path))
    address = f"{uri}/#/compare-runs?runs={json.dumps(own)}&experiments={json.dumps([experiment])}"
    with opened(browser, address, width=1600, height=2400) as shot:
        shot.page.get_by_text("best/epoch", exact=True).first.wait_for(timeout=60_000)
        text = shot.page.inner_text("body")
        shot.page.screenshot(path=shown / "compare.png")
    for word in ("trained", "ct_contrast-b", "ct_contrast-c", "best/mae_hu", "test/bias_air_around_hu", "fit.epochs"):
        assert word in text
    with opened(browser, f"{uri}/#/experiments/{experiment}/models", width=2400) as shot:
        shot.page.get_by_text("test/mae_hu", exact=True).first.wait_for(timeout=60_000)
        shot.page.screenshot(path=shown / "models.png")
        text = shot.page.inner_text("body")
    assert {"trained", "ct_contrast-b", "20"} <= set(text.split())
    address = f"{uri}/#/experiments/{experiment}/runs?compareRunsMode=CHART"
    with opened(browser, address, width=2200, height=1500) as shot:
        section = shot.page.get_by_text("Model metrics", exact=True).last
        section.wait_for(timeout=60_000)
        section.scroll_into_view_if_needed()
        slider = shot.page.get_by_role("slider").last
        slider.wait_for(timeout=60_000)
        slider.focus()
        for _ in range(2):  # from no step to the first, and to the second
            shot.page.keyboard.press("ArrowRight")
            shot.page.wait_for_timeout(500)
        pictures = shot.page.locator("img[src*='get-artifact?path=images%2Fvalidation%2Bstep%2B2%2B']")
        pictures.nth(2).wait_for(timeout=60_000)
        shot.page.screenshot(path=shown / "pictures.png")
        assert pictures.count() == 3
