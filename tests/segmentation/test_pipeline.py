import json
import shutil
from dataclasses import replace

import nibabel as nib
import pytest
from rich.console import Console
from typer.testing import CliRunner

from medgan.cli import app
from medgan.config import load, read_yaml, to_yaml
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError
from medgan.phantom.kinds import KINDS
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.training.model_folder import read_model
from medgan.training.run import Order, train

TINY = (
    "grid.spacing_mm=[null, null, null]",
    "patch.size_voxels=16",
    "network={channels: 4, downs: 2}",
    "fit={epochs: 2, iterations_per_epoch: 3, batch_size: 2}",
)
QUIET = Console(quiet=True)


def medgan(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def run(save_cohort, tmp_path_factory):
    """The folder of a run, its cohort and what the command printed."""
    folder = tmp_path_factory.mktemp("run")
    table = save_cohort(folder / "cohort")
    asked = ["segment-train", "--data", table, "--out", folder / "runs", "--name", "one", "--seed", 7, *TINY]
    return folder / "runs" / "segmenter" / "one", table, medgan(*asked, "labels={disc: 1}")


def test_a_run_is_a_model_folder_a_split_and_metrics_and_says_what_to_do_next(run, tmp_path):
    folder, table, result = run
    assert result.exit_code == 0, result.stderr
    model, tracked, report, following = result.stdout.splitlines()
    assert report == f"report: {folder / 'report.html'}"
    assert model.startswith(f"model: {folder / 'model'} (epoch ")
    assert "MLflow run " in tracked
    assert following == f"next:  medgan segment INPUT OUTPUT --model {folder / 'model'}"
    description = read_model(folder / "model", SegmenterDescription).description
    split = Split.load(folder / "split.json")
    assert (split.train, split.validation, split.test) == (("s0", "s1"), ("s2",), ("s3",))
    assert (description.origin.split_hash, description.seed) == (split.hash, 7)
    assert (description.trained, description.validated) == (2, 1)
    assert (folder / "metrics.csv").read_text().count("\n") == 3
    asked = ["segment", table.parent / "s3.nii.gz", tmp_path / "out" / "s3.nii.gz", "--model", folder / "model"]
    result = medgan(*asked, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert nib.load(tmp_path / "out" / "s3.nii.gz").shape == (24, 24, 4)


def test_a_finished_run_is_resumed_as_it_is_and_not_with_other_settings(run):
    folder = run[0]
    before = json.loads((folder / "model" / "model.json").read_text())
    order = Order("segmentation", None, out=folder.parents[1], name="one", resume=True, device="cpu")
    again = replace(order, resume=False, resume_or_start=True, overrides=[*TINY, "labels={disc: 1}", "seed=7"])
    for asked in (order, again):
        train(asked, QUIET)
        assert json.loads((folder / "model" / "model.json").read_text()) == before
    with pytest.raises(
        ConfigError, match=r"settings \(seed was 7 and is now 8; labels\.disc was \[1\] and is now \[2\]\)"
    ):
        train(replace(again, overrides=[*TINY, "labels={disc: 2}", "seed=8"]), QUIET)


def test_a_run_that_an_earlier_segment_train_began_goes_on_with_its_seed(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "segmenter" / "one")
    config = read_yaml(folder / "config.yaml")
    old = {key: config[key] for key in SegmenterConfig.model_fields}
    (folder / "config.yaml").write_text(to_yaml(load(SegmenterConfig, old)))
    facts = json.loads((folder / "run.json").read_text())
    shutil.rmtree(folder / "model")
    order = Order("segmentation", out=tmp_path, resume=True, device="cpu")
    (folder / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"run\.json: does not say the run's data and seed"):
        train(order, QUIET)
    old = {key: value for key, value in facts.items() if key not in ("pipeline", "phantom")}
    (folder / "run.json").write_text(json.dumps(old))
    description = train(order, QUIET).description
    assert description == read_model(run[0] / "model", SegmenterDescription).description
    assert (description.seed, read_yaml(folder / "config.yaml")) == (7, config | {"size": "auto"})


def test_the_pipeline_learns_the_phantom_where_there_is_no_cohort(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    asked = ["train", "--pipeline", "segmentation", "--out", tmp_path / "runs", "--name", "one", "--device", "cpu"]
    result = medgan(*asked, *TINY)
    assert result.exit_code == 0, result.stderr
    description = read_model(tmp_path / "runs" / "segmenter" / "one" / "model", SegmenterDescription).description
    assert (description.config.domain.name, description.origin.phantom) == ("contrast", True)
    assert "liver" in description.config.labels


def test_without_labels_all_that_masks_mark_is_learnt_in_the_domain_that_was_named(save_cohort, tmp_path):
    table, folder = save_cohort(tmp_path / "cohort"), tmp_path / "runs" / "segmenter" / "x"
    table.write_text(table.read_text().replace(",ct,", ",plain,"))
    asked = ["--domain", "plain:CT", *TINY, "domain.window.lower=-150", "--out", tmp_path / "runs", "--name", "x"]
    assert medgan("segment-train", "--data", table, *asked).exit_code == 0
    config = read_model(folder / "model", SegmenterDescription).description.config
    assert config.labels == {"label_1": (1,), "label_2": (2,), "label_3": (3,)}
    assert (config.domain.name, config.domain.window.lower, config.domain.window.upper) == ("plain", -150, 300)
    assert read_yaml(folder / "config.yaml")["domain"]["name"] == "plain"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "nothing to learn from; name a cohort with masks by --data"),
        (["--data", "no"], "no is empty or does not exist"),
        (["--data", "cohort/cohort.csv", "labels={disc: 0}"], "Input should be greater than 0"),
        (["--data", "cohort/cohort.csv", "fit.epoch=3"], "did you mean 'fit.epochs'?"),
        (["--data", "cohort/cohort.csv", "--domain", "mr"], "has no image of domain mr"),
        (["--resume"], "there is no run to resume"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(save_cohort, tmp_path, monkeypatch, asked, message):
    save_cohort(tmp_path / "cohort")
    monkeypatch.chdir(tmp_path)
    result = medgan("segment-train", "--device", "cpu", *asked)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()
