"""What an evaluation leaves on the run of its model: figures and cases, and no name."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from medgan.evaluation.evaluate import evaluate
from medgan.report import recording
from medgan.report.recording import record_evaluation
from medgan.tracking import KeptModel, Tracker, resolve_uri

SUBJECTS = "Meyer-Anna", "Zorn-Otto", "Abel-Ida"
FACTS = {"run_name": "first", "parameters": {}, "tags": {}}


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.rint(voxels).astype(np.int16), np.eye(4)).to_filename(path)


def lay_out(root, sha256, error=20.0, subjects=SUBJECTS):
    """Made-up slabs with and without contrast, and translations of a model that are off by ``error`` HU."""
    radius = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 32)] * 2, indexing="ij"))[..., None]
    for seed, subject in enumerate(subjects):
        noise = np.random.default_rng(seed).normal(0, 5, (32, 32, 3))
        plain = np.select([radius < 0.7, radius < 0.9], [40.0, -100.0], -1000.0) + noise
        save(root / f"source/{subject}.nii.gz", plain + 160 * (radius < 0.3))
        save(root / f"reference/{subject}.nii.gz", plain)
        save(root / f"synthetic/{subject}.nii.gz", plain + error * (radius < 0.9))
        sidecar = {"Synthetic": True, "Model": {"DescriptionSHA256": sha256}, "SourceSHA256": f"{seed:064x}"}
        (root / f"synthetic/{subject}.json").write_text(json.dumps(sidecar))
    return {name: root / name for name in ("synthetic", "reference", "source", "out")}


def judged(root, sha256, **changes):
    places = lay_out(root, sha256, **changes)
    return evaluate(**places), places["out"]


@pytest.fixture(scope="module")
def run_of():
    """Train nothing, but record a run that kept the model of a hash: its id."""

    def start(sha256, experiment, folder):
        (folder / "model").mkdir(parents=True, exist_ok=True)
        (folder / "model" / "model.json").write_text("{}")
        with Tracker.start(None, experiment=experiment, **FACTS) as run:
            run.model(KeptModel(folder / "model", sha256))
        return run.id

    return start


def table_of(client, run_id):
    content = json.loads(Path(client.download_artifacts(run_id, "test/cases.json")).read_text())
    return pd.DataFrame(content["data"], columns=content["columns"])


def test_figures_and_cases_are_on_the_run_with_the_same_keys_for_every_pipeline(run_of, tmp_path):
    evaluations, runs = {}, {}
    for number, experiment in enumerate(("ct_contrast", "mr_to_ct")):
        sha256 = f"{number + 1}" * 64
        runs[experiment] = run_of(sha256, experiment, tmp_path)
        evaluations[experiment], out = judged(tmp_path / experiment, sha256, error=20.0 * (number + 1))
        line = record_evaluation(evaluations[experiment], out)
        assert line.startswith(f"recorded on MLflow run {runs[experiment]}:")
        assert line.endswith(f"; beside other runs: `medgan compare {experiment}`")
    client = MlflowClient(resolve_uri())
    one, other = (client.get_run(run_id) for run_id in runs.values())
    summary = evaluations["ct_contrast"].summary.set_index(["arm", "metric"])
    own = summary.loc["synthetic", "mae_hu"]
    assert one.data.metrics["test/mae_hu"] == pytest.approx(own["mean"])
    assert one.data.metrics["test/mae_hu_lower"] == pytest.approx(own["lower"])
    assert one.data.metrics["test/do_nothing/mae_hu"] == pytest.approx(summary.loc["do_nothing", "mae_hu"]["mean"])
    assert "test/intensity_lookup/mae_hu" in one.data.metrics
    assert one.data.metrics["test/subjects"] == 3
    assert one.data.metrics.keys() == other.data.metrics.keys()
    assert one.info.status == "FINISHED"
    table = table_of(client, runs["ct_contrast"])
    means = table.groupby("arm", sort=False)["mae_hu"].mean()
    assert means["synthetic"] == pytest.approx(own["mean"])
    assert sorted(set(table["case"])) == ["case 1", "case 2", "case 3"]
    # The same subjects, by what their images show.
    assert one.data.tags["test_set"] == other.data.tags["test_set"]
    model = client.search_logged_models([one.info.experiment_id], f"source_run_id = '{one.info.run_id}'")[0]
    assert {metric.key: metric.value for metric in model.metrics}["test/mae_hu"] == pytest.approx(own["mean"])


def test_a_second_evaluation_replaces_the_first_and_cases_are_the_same_whatever_subjects_are_called(run_of, tmp_path):
    sha256 = "a" * 64
    run_id = run_of(sha256, "ct_contrast", tmp_path)
    client = MlflowClient(resolve_uri())
    keys, tables, tags = [], [], []
    for number, subjects in enumerate((SUBJECTS, ("b", "c", "a"))):
        evaluation, out = judged(tmp_path / str(number), sha256, subjects=subjects)
        record_evaluation(evaluation, out)
        key = pd.read_csv(out / "cases_key.csv").set_index("subject")["case"]
        keys.append([key[subject] for subject in subjects])
        tables.append(table_of(client, run_id))
        tags.append(client.get_run(run_id).data.tags["test_set"])
    assert keys[0] == keys[1]
    assert tags[0] == tags[1]
    pd.testing.assert_frame_equal(*tables)


def test_no_name_and_no_path_is_sent_unless_asked_for(run_of, tmp_path):
    sha256 = "b" * 64
    run_id = run_of(sha256, "ct_contrast", tmp_path)
    evaluation, out = judged(tmp_path / "secret-place", sha256)
    record_evaluation(evaluation, out)
    store = Path(resolve_uri().removeprefix("sqlite:///")).parent
    sent = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"test/mae_hu" in sent
    page = Path(MlflowClient(resolve_uri()).download_artifacts(run_id, "test/report.html")).read_text()
    assert "case 3" in page
    assert not [word for word in (*SUBJECTS, "secret-place") if word.encode() in sent]
    record_evaluation(evaluation, out, names=True)
    assert set(table_of(MlflowClient(resolve_uri()), run_id)["case"]) == set(SUBJECTS)


def test_what_cannot_be_recorded_is_told_in_a_line_and_makes_no_store(tmp_path, monkeypatch):
    evaluation, out = judged(tmp_path, "c" * 64)
    assert "no run in MLflow at" in record_evaluation(evaluation, out)
    monkeypatch.setenv("MEDGAN_HOME", str(tmp_path / "nobody"))
    assert "there is no MLflow store at" in record_evaluation(evaluation, out)
    assert not (tmp_path / "nobody").exists()
    assert "cannot be used" in record_evaluation(evaluation, out, "http://127.0.0.1:9")
    (tmp_path / "synthetic" / f"{SUBJECTS[0]}.json").unlink()
    assert "do not all say which model" in record_evaluation(evaluate(**lay_out_again(tmp_path)), out)


def test_a_store_that_is_lost_in_the_middle_and_a_page_that_fails_cost_a_line(run_of, tmp_path, monkeypatch):
    sha256 = "e" * 64
    run_id = run_of(sha256, "ct_contrast", tmp_path)
    evaluation, out = judged(tmp_path, sha256)
    (out / "summary.json").write_text("damaged")
    line = record_evaluation(evaluation, out)
    assert line.startswith(f"recorded on MLflow run {run_id}")
    assert "without the page: " in line
    monkeypatch.setattr(MlflowClient, "log_text", lambda *_: (_ for _ in ()).throw(OSError("the cable is out")))
    assert "not recorded whole: MLflow at sqlite:" in record_evaluation(evaluation, out)


def test_a_page_that_still_holds_a_name_is_not_sent(run_of, tmp_path, monkeypatch):
    sha256 = "f" * 64
    run_id = run_of(sha256, "ct_contrast", tmp_path)
    evaluation, out = judged(tmp_path, sha256)
    monkeypatch.setattr(recording, "write_report", lambda _, page, __: page.write_text(SUBJECTS[0]) and page)
    assert "without the page: a subject's name" in record_evaluation(evaluation, out)
    sent = [file.path for file in MlflowClient(resolve_uri()).list_artifacts(run_id, "test")]
    assert sent == ["test/cases.json"]


def lay_out_again(root):
    return {name: root / name for name in ("synthetic", "reference", "source", "out")}
