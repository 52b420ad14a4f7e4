"""A team's server as ``mlflow server`` is started, on SQLite and on PostgreSQL, with runs of two pipelines."""

import json
import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from browsing import opened, required
from comparison.conftest import cases_of
from medgan.cli import app
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
MEANS = {"ct_contrast": {"first": 40.0, "long": 33.0, "short": 47.0}, "mr_to_ct": {"a": 31.0, "b": 45.0, "c": 25.0}}
"""By pipeline and run, the error in HU around which its figures lie."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request, empty_database, tmp_path_factory):
    """Address and folder of a server; its database is dumped there when it is asked what it knows."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        shutil.copy(empty_database, folder / "mlflow.db")  # MLflow takes seconds to lay out another
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
        judge(uri, folder / facts["run_name"], ct, sha256, 10.0 * number, page=number == 5)
        ids[facts["run_name"]] = run.id
    return ids


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.rint(voxels).astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)


def judge(uri, root, ct, sha256, error, *, page=True):
    """Translations that are off by ``error`` HU, judged and recorded, without their page if so asked."""
    for seed, subject in enumerate(SUBJECTS):
        plain = ct(seed, contrast=False)
        save(root / "source" / f"{subject}.nii.gz", ct(seed, contrast=True))
        save(root / "reference" / f"{subject}.nii.gz", plain)
        save(root / "synthetic" / f"{subject}.nii.gz", plain + error)
        (root / "synthetic" / f"{subject}.json").write_text(json.dumps({"Model": {"DescriptionSHA256": sha256}}))
    evaluation = evaluate(root / "synthetic", root / "reference", root / "results", source=root / "source")
    with pytest.MonkeyPatch.context() as patch:
        if not page:
            patch.setattr("medgan.report.recording._page", lambda *_: (root, "left out"))
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


def test_models_of_a_run_and_of_an_alias_are_fetched(server, runs):
    uri, _, _ = server
    for reference in (f"runs:/{runs['trained']}/trained", "models:/ct_contrast@newest"):
        assert (download_model(reference, uri) / "MLmodel").is_file()


@pytest.fixture(scope="module")
def tables(server, judged_run, errors, model, tmp_path_factory):
    """The runs in one experiment; a folder with a CSV of figures by case for each."""
    address, _, _ = server
    folder = tmp_path_factory.mktemp("tables")
    baselines = {arm: errors[arm] for arm in ("do_nothing", "intensity_lookup")}
    for pipeline, runs in MEANS.items():
        for number, (name, mean) in enumerate(runs.items()):
            cases = cases_of({"synthetic": mean + errors["do_nothing"] - 60 + errors["noise"][number], **baselines})
            cases.to_csv(folder / f"{name}.csv", index=False)
            judged_run(address, name, cases, experiment="six", pipeline=pipeline, val_mae=mean, model=model)
    return folder


def medgan(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_comparison_agrees_with_what_is_computed_from_the_tables(server, tables, tmp_path):
    address, _, _ = server
    medgan("compare", "six", "--tracking", address, "--json", tmp_path / "six.json", "--html", tmp_path / "six.html")
    groups = {each["pipeline"]: each for each in json.loads((tmp_path / "six.json").read_text())["groups"]}
    assert {pipeline: set(each["runs"]) for pipeline, each in groups.items()} == {
        pipeline: set(runs) for pipeline, runs in MEANS.items()
    }
    for pipeline, reference in (("ct_contrast", "long"), ("mr_to_ct", "c")):
        assert groups[pipeline]["reference"] == reference
        wide = {
            name: pd.read_csv(tables / f"{name}.csv").pivot(index="case", columns="arm", values="mae_hu")
            for name in MEANS[pipeline]
        }
        own = {name: figures["synthetic"] for name, figures in wide.items()}
        own |= {"do nothing": wide[reference]["do_nothing"], "intensity look-up": wide[reference]["intensity_lookup"]}
        rows = {row["name"]: row for row in groups[pipeline]["table"]}
        p_values = {}
        for name, values in own.items():
            bounds = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert [rows[name][key] for key in ("mean", "lower", "upper")] == pytest.approx([values.mean(), *bounds])
            if name == reference:
                continue
            difference = values - own[reference]
            bounds = stats.t.interval(0.95, len(values) - 1, difference.mean(), stats.sem(difference))
            found = [rows[name][key] for key in ("difference", "difference_lower", "difference_upper")]
            assert found == pytest.approx([difference.mean(), *bounds])
            p_values[name] = stats.wilcoxon(difference).pvalue
        expected = dict(zip(p_values, stats_holm(list(p_values.values())), strict=True))
        assert {name: rows[name]["p_holm"] for name in p_values} == pytest.approx(expected)


def stats_holm(p_values):
    """Holm's step-down: the k-th smallest of m times m - k + 1, never less than the one before."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate([p_values[place] * (len(p_values) - k) for k, place in enumerate(order)])
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(steps, 1)
    return corrected


def test_a_worse_run_is_refused_and_a_better_one_becomes_the_champion(server, tables):
    address, _, _ = server
    client = MlflowClient(address)

    def promoted(name, code=0):
        said = medgan("promote", name, "--as", "champion", "--tracking", address, code=code)
        return said, client.get_run(client.get_model_version_by_alias("mr_to_ct", "champion").run_id).info.run_name

    for name, code, part, holder in (
        ("a", 0, "a against do nothing: mae_hu -", "a"),
        ("b", 1, "b is worse than a (version 1)", "a"),
        ("c", 0, "c against a (version 1): mae_hu -", "c"),
    ):
        said, champion = promoted(name, code)
        assert (part in said, champion) == (True, holder)


ONE = pytest.mark.parametrize("server", ["postgres"], indirect=True)
"""What a browser or a process of its own does with a server, it does whatever database lies behind that."""


@ONE
def test_mlflow_loads_and_uses_a_model_by_itself(server, runs, ct, tmp_path):
    uri, _, _ = server
    save(tmp_path / "ct.nii.gz", ct(3, contrast=True))
    command = [sys.executable, "-c", LOADED, "models:/ct_contrast@newest", str(tmp_path / "ct.nii.gz")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"MLFLOW_TRACKING_URI": uri}
    )
    assert done.stdout.split() == [str(tmp_path / "ct_desc-synthetic.nii.gz")]
    assert nib.load(done.stdout.strip()).shape == (32, 32, 3)


@ONE
def test_mlflows_own_pages_compare_runs_and_models_and_slide_through_pictures(server, runs, browser):
    uri, _, _ = server
    experiment = MlflowClient(uri).get_experiment_by_name("ct_contrast").experiment_id
    own = [runs[name] for name in ("trained", "ct_contrast-b", "ct_contrast-c")]
    address = f"{uri}/#/compare-runs?runs={json.dumps(own)}&experiments={json.dumps([experiment])}"
    with opened(browser, address, width=2400, height=2400) as shot:
        page = shot.page
        page.get_by_text("best/epoch", exact=True).first.wait_for(timeout=60_000)
        text = page.inner_text("body")
        for word in (
            "trained",
            "ct_contrast-b",
            "ct_contrast-c",
            "best/mae_hu",
            "test/bias_air_around_hu",
            "fit.epochs",
        ):
            assert word in text
        page.goto(f"{uri}/#/experiments/{experiment}/models")
        page.get_by_text("test/mae_hu", exact=True).first.wait_for(timeout=60_000)
        assert {"trained", "ct_contrast-b", "20"} <= set(page.inner_text("body").split())
        page.goto(f"{uri}/#/experiments/{experiment}/runs?compareRunsMode=CHART")
        section = page.get_by_text("Model metrics", exact=True).last
        section.wait_for(timeout=60_000)
        section.scroll_into_view_if_needed()
        slider = page.get_by_role("slider").last
        slider.wait_for(timeout=60_000)
        slider.focus()
        for _ in range(2):  # from no step to the first, and to the second
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(500)
        pictures = page.locator("img[src*='get-artifact?path=images%2Fvalidation%2Bstep%2B2%2B']")
        pictures.nth(2).wait_for(timeout=60_000)
        assert pictures.count() == 3
