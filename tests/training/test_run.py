import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from medgan.cli import app
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, GeometryError, InUseError, TrainingError
from medgan.inference.convert import ConvertOrder, convert
from medgan.phantom.kinds import KINDS
from medgan.tracking import download_model
from medgan.training.architecture import TranslationDescription
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import read_model
from medgan.training.run import Order, _precision, train

QUIET = Console(quiet=True)
EPOCHS = 6
LONG = [f"fit={{epochs: {EPOCHS}, iterations_per_epoch: 8, batch_size: 2}}"]
PATIENCE_S = 240


def described(trained):
    return read_model(trained.run.model, TranslationDescription).description


@pytest.fixture(scope="module")
def said():
    return io.StringIO()


@pytest.fixture(scope="module")
def once(order, said):
    """One whole training, for all that is asked about a finished run."""
    return train(order(name="once", register="tiny_contrast", overrides=LONG), Console(file=said, width=200))


def test_a_run_folder_is_whole_and_keeps_the_facts_and_the_console_says_how_it_went(once, said, unpaired):
    names = {path.relative_to(once.run.path).as_posix() for path in once.run.path.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "split.json", "run.json", "metrics.csv", "state/last.pt", "state/best.pt",
        "progress.png", "train.log",
        *(f"samples/epoch_{number:04d}.png" for number in range(1, EPOCHS + 1)),
        "model/weights.safetensors", "model/model.json", "model/MODEL_CARD.md",
    }  # fmt: skip
    facts = once.run.facts()
    assert facts["data"] == str(unpaired)
    assert (facts["pipeline"], facts["seed"], facts["device"]) == ("ct_contrast", 0, "cpu")
    assert facts["precision"] in ("32-true", "bf16-mixed")
    assert facts["mlflow_run_id"] in once.tracked
    assert {"git_revision", "split_hash", "data_fingerprint", "versions", "tracking_uri"} <= facts.keys()
    first, threads, *epochs = said.getvalue().splitlines()
    assert first == f"{once.run.path}: size small; {8 * EPOCHS} iterations of 2 patches"
    assert threads.startswith(f"{facts['threads']} thread")
    assert epochs.pop(1).startswith("about ")
    assert [line.partition(":")[0] for line in epochs] == [f"epoch {number}" for number in range(1, EPOCHS + 1)]
    *kept, model = [line.split("  ", 1)[1] for line in (once.run.path / "train.log").read_text().splitlines()]
    assert kept == said.getvalue().splitlines()
    assert model.startswith(f"model: {once.run.model} ")


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


def test_mlflow_holds_the_run_and_the_registered_model_and_no_path_and_no_subject(once, unpaired, work, mlflow_runs):
    client, (run,) = mlflow_runs("once")
    assert run.info.status == "FINISHED"
    assert {"train/cycle", "val/score_hu", "train/learning_rate_share"} <= run.data.metrics.keys()
    assert run.data.params["fit.epochs"] == str(EPOCHS)
    assert {"pipeline", "data_fingerprint", "split_hash", "git_revision", "device"} <= run.data.tags.keys()
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"config.yaml", "metrics.csv", "images"}
    for uri in (once.model_uri, f"runs:/{run.info.run_id}/model", "models:/tiny_contrast@newest"):
        weights = (download_model(uri) / "weights.safetensors").read_bytes()
        assert weights == (once.run.model / "weights.safetensors").read_bytes()
    told = json.dumps([run.data.to_dictionary(), [each.dataset.to_dictionary() for each in run.inputs.dataset_inputs]])
    for artifact in ("config.yaml", "metrics.csv"):
        told += Path(client.download_artifacts(run.info.run_id, artifact)).read_text()
    assert not [secret for secret in (str(unpaired.parent), str(work), "s0", "nii.gz") if secret in told]


@pytest.mark.parametrize(
    ("asked", "before", "taken"),
    [
        ("auto", {}, "auto"), ("auto", {"device": "cpu", "precision": "bf16-mixed"}, "bf16-mixed"),
        ("auto", {"device": "cpu", "precision": "32-true"}, "32"),
        ("32", {"device": "cpu", "precision": "bf16-mixed"}, "32"),
        ("auto", {"device": "cuda:0", "precision": "16-mixed"}, "auto"),
    ],
)  # fmt: skip
def test_a_run_goes_on_in_the_precision_of_before(asked, before, taken):
    assert _precision(asked, before, "cpu") == taken


def test_what_medgan_chose_is_said(order, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    said = io.StringIO()
    overrides = ["size=auto", "fit={epochs: 1, iterations_per_epoch: 1, batch_size: 1}"]
    trained = train(order(name="phantom", data=None, overrides=overrides), Console(file=said, width=200))
    phantom, size, *_ = said.getvalue().splitlines()
    assert phantom == "no --data: training on the built-in phantom, which never stands for a patient"
    assert size == f"{trained.run.path}: size small, because this is a CPU; 1 iterations of 1 patches"
    assert described(trained).origin.phantom
    assert "no patient" in (trained.run.model / "MODEL_CARD.md").read_text()


def test_runs_can_share_a_split_that_none_of_them_drew(once, order, work):
    given = Split.load(once.run.split)
    other = given.model_copy(update={"train": given.validation, "validation": given.train})
    other.save(work / "frozen.json")
    trained = train(order(name="given", split=work / "frozen.json", overrides=["fit.epochs=1"]), QUIET)
    assert Split.load(trained.run.split) == other
    assert described(trained).origin.split_hash == other.hash != given.hash


# Killed, stopped and resumed.


def command(work, *arguments):
    """``medgan train`` of the run ``parts`` in a process of its own."""
    asked = ["train", "--pipeline", "ct_contrast", "--out", work / "parts", "--name", "parts", "--device", "cpu"]
    program = [Path(sys.executable).with_name("medgan"), *map(str, (*asked, *arguments))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, cwd=work, text=True, encoding="utf-8", **pipes)


def stopped(process, run, number, *, most_s):
    """Wait for a new state, then for a while that nobody knows, and send a signal; what the process printed."""
    state = run / "state" / "last.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    deadline = time.monotonic() + PATIENCE_S
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.SystemRandom().uniform(0, most_s))
    assert process.poll() is None, "the training ended before it could be stopped; make it longer"
    os.kill(process.pid, number)
    return process.communicate(timeout=PATIENCE_S)


def test_a_run_killed_and_stopped_anywhere_is_one_run_and_ends_with_the_same_bytes(
    once, work, unpaired, tiny, mlflow_runs, capfd
):
    ends_s = sorted(panel.stat().st_mtime for panel in (once.run.path / "samples").iterdir())
    epoch_s = (ends_s[-1] - ends_s[0]) / (EPOCHS - 1)
    run = work / "parts" / "ct_contrast" / "parts"
    process = command(work, "--data", unpaired, *tiny, *LONG)
    stopped(process, run, signal.SIGKILL, most_s=epoch_s)

    process = command(work, "--resume")
    printed, told = stopped(process, run, signal.SIGINT, most_s=epoch_s / 2)
    *shown, last = told.splitlines()
    where = r"(after iteration \d+|while epoch \d+ was validated)"
    assert re.fullmatch(rf"medgan: stopped {where}; add --resume to go on from there\.", last)
    assert (process.returncode, printed) == (130, "")
    own = r"epoch |about |\d+ threads?: |" + re.escape(str(run))
    assert [line for line in shown if not re.match(own, line)] == [], "of libraries"
    _, (tracked,) = mlflow_runs("parts")
    assert tracked.info.status == "KILLED"

    capfd.readouterr()
    asked = ["train", "--pipeline", "ct_contrast", "--out", work / "parts", "--resume", "--device", "cpu"]
    resumed = CliRunner().invoke(app, [*map(str, asked)])
    assert resumed.exit_code == 0, resumed.stderr
    assert capfd.readouterr() == ("", ""), "of libraries"
    model, where, page, following = resumed.stdout.splitlines()
    assert str(run / "report.html") in page
    assert model.startswith(f"model: {run / 'model'} (averages after epoch ")
    assert where.startswith("MLflow run ")
    assert following == f"next:  medgan convert INPUT OUTPUT --model {run / 'model'}"
    for name in ("model/weights.safetensors", "model/model.json", "metrics.csv", "config.yaml", "split.json"):
        assert (once.run.path / name).read_bytes() == (run / name).read_bytes(), name
    assert len(list((run / "samples").iterdir())) == EPOCHS
    log = [line.split("  ", 1)[1] for line in (run / "train.log").read_text().splitlines()]
    assert sum(line.startswith(str(run)) for line in log) == 3  # a line each time that it began or went on
    assert last.removeprefix("medgan: ") in log
    assert {f"epoch {number}" for number in range(1, EPOCHS + 1)} <= {line.partition(":")[0] for line in log}
    assert Image.open(run / "progress.png").format == "PNG"

    client, (tracked,) = mlflow_runs("parts")
    assert tracked.info.status == "FINISHED"
    with (run / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for key in rows[0].keys() - {"epoch"}:
        history = {point.step: point.value for point in client.get_metric_history(tracked.info.run_id, key)}
        assert history == {int(float(row["epoch"])): float(row[key]) for row in rows}, key
    # An epoch that was killed after it was shown is shown again.
    images = client.list_artifacts(tracked.info.run_id, "images")
    assert len({re.search(r"step\+(\d+)", image.path)[1] for image in images}) == len(rows) == EPOCHS


def test_a_run_that_another_process_is_in_is_not_resumed_beside_it_and_can_still_be_read(
    once, order, tmp_path, unpaired
):
    with alone_in(once.run.path, QUIET):
        with pytest.raises(InUseError, match="once is in use by process"):
            train(order(name="once", resume=True), QUIET)
        asked = ConvertOrder(unpaired, tmp_path, str(once.run.model), device="cpu")
        assert convert(asked, QUIET).exit_code == 0
    again = train(order(name="once", resume=True), QUIET)
    assert again.run.path == once.run.path
    assert again.run.facts()["threads"] == torch.get_num_threads()


# What cannot be: each refused by name, and nothing of a run left behind.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"resume": True, "overrides": ["fit.epochs=3"]}, "goes on with the run's own settings"),
        ({"resume": True, "config": Path("own.yaml")}, "goes on with the run's own settings"),
        ({"resume": True, "pipeline": "ct_contast"}, "did you mean 'ct_contrast'"),
        ({"resume_or_start": True, "name": None}, "--resume-or-start needs a --name"),
        ({}, "holds a run already"),
    ],
    ids=str,
)
def test_a_run_is_not_touched_by_an_order_that_cannot_be(once, work, unpaired, asked, message):
    before = (once.run.path / "run.json").read_bytes()
    order = Order("ct_contrast", unpaired, out=work / "runs", name="once", device="cpu")
    with pytest.raises(ConfigError, match=message):
        train(replace(order, **asked), QUIET)
    assert (once.run.path / "run.json").read_bytes() == before


def test_a_run_is_started_and_then_gone_on_with_by_the_same_order_on_the_same_files(order, save_cohort, tmp_path):
    cohort = save_cohort(tmp_path / "cohort")
    asked = order(name="requeued", data=cohort, out=tmp_path, resume_or_start=True, overrides=["fit.epochs=1"])
    started = train(asked, QUIET)
    weights = (started.run.model / "weights.safetensors").read_bytes()
    assert train(asked, QUIET).run.facts()["mlflow_run_id"] == started.run.facts()["mlflow_run_id"]
    assert (started.run.model / "weights.safetensors").read_bytes() == weights
    with pytest.raises(ConfigError, match=r"begun with other settings \(seed was 0 and is now 7\)"):
        train(replace(asked, overrides=[*asked.overrides, "seed=7"]), QUIET)
    image = nib.load(tmp_path / "cohort" / "s0_contrast.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine).to_filename(image.get_filename())
    with pytest.raises(DataError, match=r"is not the cohort that was split: changed .*s0_contrast.nii.gz"):
        train(replace(asked, data=None), QUIET)
    # A record of somebody else's.
    started.run.note({"tracking_uri": "http://evil.invalid:5000"})
    with pytest.raises(ConfigError, match=r"another MLflow store, 'http://evil.invalid:5000'"):
        train(asked, QUIET)


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
        train(order(name="bad", data=table, out=tmp_path / "runs", overrides=["translator=pix2pix"]), QUIET)
    assert not (tmp_path / "runs").exists()


def test_a_training_that_breaks_down_is_a_failed_run(order, work, mlflow_runs):
    with pytest.raises(TrainingError, match=r"became .* at iteration"):
        train(order(name="broken", overrides=["cyclegan.discriminator_rate=1e30"]), QUIET)
    _, (run,) = mlflow_runs("broken")
    assert run.info.status == "FAILED"
    assert not (work / "runs" / "ct_contrast" / "broken" / "model").exists()


def test_a_store_that_cannot_be_used_leaves_no_run(order, save_cohort, tmp_path):
    """Refused before any study is read; or it answers and takes no run, since the pipeline's experiment was deleted."""
    data, store = save_cohort(tmp_path / "cohort"), f"sqlite:///{tmp_path}/runs.db"
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("ct_contrast"))
    with pytest.raises(ConfigError, match="was deleted"):
        train(order(data=data, out=tmp_path / "runs", tracking=store), QUIET)
    (tmp_path / "cohort" / "s0_contrast.nii.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        train(order(data=data, out=tmp_path / "runs", tracking="http://127.0.0.1:9"), QUIET)
    assert not (tmp_path / "runs").exists()


def test_without_validation_subjects_the_last_epoch_is_kept(order):
    overrides = ["split.validation=0", "fit={epochs: 2, iterations_per_epoch: 2, batch_size: 1, keep: last}"]
    trained = train(order(name="unvalidated", overrides=overrides), QUIET)
    assert (described(trained).epoch, trained.description.metrics) == (2, {})
    assert not list(trained.run.path.glob("samples/*"))
    with pytest.raises(DataError, match="no validation subject has"):
        train(order(name="choosing", overrides=["split.validation=0"]), QUIET)
