from mlflow.tracking import MlflowClient

from medgan.inference.batch import BatchSummary, Outcome
from medgan.inference.recording import record_batch
from medgan.tracking import KeptModel, Tracker, resolve_uri

SUMMARY = BatchSummary(
    (
        Outcome("done", "Meyer.nii.gz", "Meyer.nii.gz", 1.0),
        Outcome("done", "Zorn.nii.gz", "Zorn.nii.gz", 1.0, "odd", ("odd",)),
        Outcome("failed", "Abel.nii.gz", "Abel.nii.gz", 1.0, "no image"),
    ),
    3.5,
    "cpu",
    seen={"Meyer.nii.gz": "unseen", "Zorn.nii.gz": "train"},
    model_sha256="d" * 64,
)


def test_a_batch_leaves_counts_on_the_run_of_its_model_and_no_name(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with Tracker.start(None, experiment="conversions", run_name="first", parameters={}, tags={}) as run:
        run.model(KeptModel(tmp_path, "d" * 64))
    assert record_batch(SUMMARY).startswith(f"recorded on MLflow run {run.id}")
    kept = MlflowClient(resolve_uri()).get_run(run.id)
    counts = {"converted": 2, "kept": 0, "failed": 1, "warned": 1, "seconds": 3.5, "train": 1, "unseen": 1}
    counts |= {"validation": 0, "unknown": 0}
    assert kept.data.metrics == {f"convert/{key}": value for key, value in counts.items()}
    assert not [name for name in ("Meyer", "Zorn", "Abel") if name in str(kept.to_dictionary())]


def test_a_batch_whose_model_has_no_run_says_so_and_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_HOME", str(tmp_path / "home"))
    assert record_batch(SUMMARY).startswith("not recorded: there is no MLflow store")
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert record_batch(SUMMARY).startswith("not recorded: tracking URI './mlruns' is a folder of files")
