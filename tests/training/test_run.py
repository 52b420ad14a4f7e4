import io
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, GeometryError, TrainingError
from medgan.phantom.kinds import KINDS
from medgan.tracking import download_model
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_model
from medgan.training.run import Order, train


def quietly(order):
    return train(order, Console(quiet=True))


def described(trained):
    return read_model(trained.run.model, TranslationDescription).description


@pytest.fixture(scope="module")
def said():
    return io.StringIO()


@pytest.fixture(scope="module")
def once(order, said):
    """One whole training, for all that is asked about a finished run."""
    return train(order(name="once", register="tiny_contrast"), Console(file=said, width=200))


def test_a_run_folder_is_whole(once):
    names = {path.relative_to(once.run.path).as_posix() for path in once.run.path.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "split.json", "run.json", "metrics.csv", "samples/epoch_0001.png", "samples/epoch_0002.png",
        "state/last.pt", "state/best.pt", "model/weights.safetensors", "model/model.json", "model/MODEL_CARD.md",
    }  # fmt: skip


def test_the_facts_of_a_run_are_kept(once, unpaired):
    facts = once.run.facts()
    assert facts["data"] == str(unpaired)
    assert (facts["pipeline"], facts["seed"], facts["device"]) == ("ct_contrast", 0, "cpu")
    assert facts["precision"] in ("32-true", "bf16-mixed")
    assert facts["mlflow_run_id"] in once.tracked
    assert {"git_revision", "split_hash", "data_fingerprint", "versions", "tracking_uri"} <= facts.keys()


def test_the_model_knows_all_that_conversion_needs(once):
    description = described(once)
    assert description == once.description
    assert (description.name, description.origin.phantom) == ("ct_contrast", False)
    assert description.directions == ("to_target", "to_source")
    (lowest, highest), (_, plain) = description.intensities["contrast"], description.intensities["plain"]
    assert -1050 < lowest < -1000
    assert 850 < highest < 950
    assert plain > 850
    assert description.scans.keys() == {"contrast", "plain"}
    for scans in description.scans.values():  # of 32 x 32 x 3 voxels, which the network sees as they are
        assert scans.spacing_mm == ((2, 2), (2, 2), (5, 5))
        assert scans.field_mm == ((64, 64), (64, 64), (15, 15))
        assert scans.modalities == ()
    split = Split.load(once.run.split)
    assert description.origin.split_hash == once.run.facts()["split_hash"] == split.hash
    assert description.origin.trained_on == split.trained_on
    images = description.origin.trained_on
    assert {part: len(own) for part, own in images.items()} == {"train": 2, "validation": 2}
    assert "2 train, 2 validation; real studies" in (once.run.model / "MODEL_CARD.md").read_text()


def test_mlflow_holds_the_run_and_the_registered_model(once, mlflow_runs):
    client, (run,) = mlflow_runs("once")
    assert run.info.status == "FINISHED"
    assert {"train/cycle", "val/score_hu", "train/learning_rate_share"} <= run.data.metrics.keys()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/score_hu")] == [1, 2]
    assert run.data.params["fit.epochs"] == "2"
    assert {"pipeline", "data_fingerprint", "split_hash", "git_revision", "device"} <= run.data.tags.keys()
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"config.yaml", "metrics.csv", "samples"}
    for uri in (once.model_uri, f"runs:/{run.info.run_id}/model", "models:/tiny_contrast@newest"):
        weights = (download_model(uri) / "weights.safetensors").read_bytes()
        assert weights == (once.run.model / "weights.safetensors").read_bytes()


def test_mlflow_learns_no_path_and_no_subject(once, unpaired, work, mlflow_runs):
    client, (run,) = mlflow_runs("once")
    told = json.dumps([run.data.to_dictionary(), [each.dataset.to_dictionary() for each in run.inputs.dataset_inputs]])
    for artifact in ("config.yaml", "metrics.csv"):
        told += Path(client.download_artifacts(run.info.run_id, artifact)).read_text()
    assert not [secret for secret in (str(unpaired.parent), str(work), "s0", "nii.gz") if secret in told]


def test_the_console_says_what_is_done_and_how_it_went(once, said):
    first, *epochs = said.getvalue().splitlines()
    assert first == f"{once.run.path}: size small; 8 iterations of 2 patches"
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1", "epoch 2"]


def test_what_medgan_chose_is_said(order, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    said = io.StringIO()
    overrides = ["size=auto", "fit={epochs: 1, iterations_per_epoch: 11, batch_size: 1}"]
    trained = train(order(name="phantom", data=None, overrides=overrides), Console(file=said, width=200))
    phantom, size, left, _ = said.getvalue().splitlines()
    assert phantom == "no --data: training on the built-in phantom, which never stands for a patient"
    assert size == f"{trained.run.path}: size small, because this is a CPU; 11 iterations of 1 patches"
    assert left.startswith("about ")
    assert described(trained).origin.phantom
    assert "no patient" in (trained.run.model / "MODEL_CARD.md").read_text()


def test_paired_scans_train_pix2pix(order, paired):
    trained = quietly(order(name="pairs", data=paired, overrides=["translator=pix2pix", "pix2pix.adversarial=none"]))
    assert trained.description.metrics.keys() == {"val/mae_hu", "val/mae_do_nothing_hu"}
    assert described(trained).directions == ("to_target",)


def test_a_seed_makes_a_run_that_can_be_repeated(once, order):
    again, other = (quietly(order(name=f"seed_{seed}", overrides=[f"seed={seed}"])) for seed in (0, 3))
    assert described(again).weights_sha256 == described(once).weights_sha256 != described(other).weights_sha256


def test_runs_can_share_a_split_that_none_of_them_drew(once, order, work):
    given = Split.load(once.run.split)
    other = given.model_copy(update={"train": given.validation, "validation": given.train})
    other.save(work / "frozen.json")
    trained = quietly(order(name="given", split=work / "frozen.json", overrides=["fit.epochs=1"]))
    assert Split.load(trained.run.split) == other
    assert described(trained).origin.split_hash == other.hash != given.hash


# What cannot be: each refused by name, and nothing of a run left behind.


@pytest.mark.parametrize("changes", [{"overrides": ["fit.epochs=3"]}, {"config": Path("own.yaml")}], ids=str)
def test_a_resumed_run_takes_no_new_settings(once, work, changes):
    asked = Order("ct_contrast", out=work / "runs", name="once", resume=True, **changes)
    with pytest.raises(ConfigError, match="goes on with the run's own settings"):
        quietly(asked)


def test_a_run_is_started_and_then_gone_on_with_by_the_same_order(order, monkeypatch, tmp_path):
    asked = order(name="requeued", out=tmp_path, resume_or_start=True, overrides=["fit.epochs=1"])
    started = quietly(asked)
    weights = (started.run.model / "weights.safetensors").read_bytes()
    assert quietly(asked).run.facts()["mlflow_run_id"] == started.run.facts()["mlflow_run_id"]
    assert (started.run.model / "weights.safetensors").read_bytes() == weights
    with pytest.raises(ConfigError, match=r"begun with other settings \(seed was 0 and is now 7\)"):
        quietly(replace(asked, overrides=[*asked.overrides, "seed=7"]))
    with pytest.raises(ConfigError, match="--resume-or-start needs a --name"):
        quietly(replace(asked, name=None))
    # A record of somebody else's.
    started.run.note({"tracking_uri": "http://evil.invalid:5000"})
    with pytest.raises(ConfigError, match=r"another MLflow store, 'http://evil.invalid:5000'"):
        quietly(asked)


def test_a_misspelt_pipeline_is_suggested_before_its_runs_are_looked_for(work):
    with pytest.raises(ConfigError, match="did you mean 'ct_contrast'"):
        quietly(Order("ct_contast", out=work, resume=True))


def test_a_name_is_used_once(once, order):
    before = (once.run.path / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already"):
        quietly(order(name="once"))
    assert (once.run.path / "run.json").read_bytes() == before


def test_a_run_is_not_resumed_on_other_files(order, save_cohort, tmp_path):
    table = save_cohort(tmp_path / "cohort")
    quietly(order(name="moved", data=table, out=tmp_path))
    image = nib.load(tmp_path / "cohort" / "s0_contrast.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine).to_filename(image.get_filename())
    with pytest.raises(DataError, match=r"is not the cohort that was split: changed .*s0_contrast.nii.gz"):
        quietly(order(name="moved", data=None, out=tmp_path, resume=True))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("nan", DataError, "s1_plain.nii.gz: 1 of 3072 voxels are NaN"),
        ("truncated", DataError, "s1_plain.nii.gz: truncated"),
        ("grid", GeometryError, "s1_plain.nii.gz .* are on different voxel grids"),
        ("0 to 1", DataError, "s1_plain.nii.gz: cannot be a CT of domain 'plain': its values .* are no HU"),
    ],
)
def test_a_bad_volume_is_named_and_no_run_is_begun(order, save_cohort, tmp_path, damage, error, message):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=4, split=True)
    path = tmp_path / "cohort" / "s1_plain.nii.gz"
    voxels, affine = np.asarray(nib.load(path).dataobj).astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0])
    if damage == "nan":
        voxels[3, 4, 1] = np.nan
    elif damage == "0 to 1":
        voxels = np.interp(voxels, (-1000, 1000), (0, 1)).astype(np.float32)
    elif damage == "grid":
        affine[2, 3] = 2.0
    nib.Nifti1Image(voxels, affine).to_filename(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(error, match=message):
        quietly(order(name="bad", data=table, out=tmp_path / "runs", overrides=["translator=pix2pix"]))
    assert not (tmp_path / "runs").exists()


def test_a_training_that_breaks_down_is_a_failed_run(order, work, mlflow_runs):
    with pytest.raises(TrainingError, match=r"became .* at iteration"):
        quietly(order(name="broken", overrides=["cyclegan.discriminator_rate=1e30"]))
    _, (run,) = mlflow_runs("broken")
    assert run.info.status == "FAILED"
    assert not (work / "runs" / "ct_contrast" / "broken" / "model").exists()


def test_a_store_that_cannot_be_used_is_refused_before_any_study_is_read(order, save_cohort, tmp_path):
    data = save_cohort(tmp_path / "cohort")
    (tmp_path / "cohort" / "s0_contrast.nii.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        quietly(order(data=data, out=tmp_path / "runs", tracking="http://127.0.0.1:9"))
    assert not (tmp_path / "runs").exists()


def test_a_store_that_fails_at_the_start_leaves_no_run(order, tmp_path, monkeypatch):
    """As when the experiment of the pipeline was deleted: the store answers, and takes no run."""
    store = f"sqlite:///{tmp_path}/runs.db"
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("ct_contrast"))
    with pytest.raises(ConfigError, match="was deleted"):
        quietly(order(out=tmp_path / "runs", name="nowhere", tracking=store))
    assert not (tmp_path / "runs").exists()


def test_without_validation_subjects_the_last_epoch_is_kept(order):
    overrides = ["split.validation=0", "fit={epochs: 2, iterations_per_epoch: 2, batch_size: 1, keep: last}"]
    trained = quietly(order(name="unvalidated", overrides=overrides))
    assert (trained.description.epoch, trained.description.metrics) == (2, {})
    assert not list(trained.run.path.glob("samples/*"))
    assert described(trained).epoch == 2
    with pytest.raises(DataError, match="no validation subject has"):
        quietly(order(name="choosing", overrides=["split.validation=0"]))
