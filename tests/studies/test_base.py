"""What all seven studies share: how they stop and go on, MLflow, and that a folder belongs to a study of one kind."""

import json
import re
import shlex

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from golden.studies import STUDIES
from medgan import catalog
from medgan.cli import app
from medgan.errors import ConfigError
from medgan.studies import arms, augmentation
from medgan.studies.base import StudyOrder, seeds_of
from medgan.studies.engine import read_json
from medgan.studies.segmenter import layered

EACH = pytest.mark.parametrize("kind", STUDIES)


def run_of(golden, kind):
    """The folder of a golden study, its record and its rows."""
    folder = golden.resumed(kind).folder
    return folder, read_json(folder / "study.json"), pd.read_csv(folder / catalog.load_study(kind).rows_file)


@EACH
def test_a_study_that_is_stopped_says_where_and_goes_on_from_there(golden, kind):
    study = golden.resumed(kind)
    (task,) = re.findall(r"stopped in (\S+); the same command goes on from there\.", study.stopped)
    assert (study.folder / task / "model").is_dir()
    assert not any(path.startswith(str(study.folder / task / "model")) for path in study.finished)
    assert re.search(r"^\d+ of \d+ tasks: finished before$", study.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("kind", "tasks", "children", "artifacts"),
    [
        ("sweep", 4, 4, ["table.csv"]),
        ("ablation", 3, 3, ["table.csv"]),
        ("misalignment", 5, 5, ["table.csv"]),
        ("lesion-prevalence", 10, 6, ["slopes.csv"]),
        ("arms", 12, 9, ["comparisons.csv", "curves.csv"]),
        ("routes", 14, 12, ["table.csv"]),
        ("augmentation", 20, 10, ["comparisons.csv", "curves.csv"]),
    ],
)
def test_a_study_is_one_run_with_a_child_for_each_network_and_names_nobody(golden, kind, tasks, children, artifacts):
    folder, record, rows = run_of(golden, kind)
    client = MlflowClient(record["tracking_uri"])
    parent = client.get_run(record["mlflow_run_id"])
    facts = {"pipeline": STUDIES[kind].pipeline, "study": kind, "failed_children": f"0 of {tasks}"}
    assert facts.items() <= parent.data.tags.items()
    assert all(parent.data.tags[name] == text for name, text in record.get("findings", {}).items())
    assert sorted(file.path for file in client.list_artifacts(parent.info.run_id)) == artifacts
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(runs) == children
    assert {run.info.status for run in [parent, *runs]} == {"FINISHED"}
    assert {run.info.run_name.rpartition("/")[2] for run in runs} <= {path.name for path in folder.rglob("*")}
    told = [json.dumps(run.data.to_dictionary()) for run in (parent, *runs)]
    told += [(folder / name).read_text() for name in artifacts]
    text = " ".join(told).replace(str(folder / "segmenters"), "")  # is a setting of a translator that is held to one
    assert not [secret for secret in (str(golden.root), "nii.gz", *rows["subject"].unique()) if secret in text]


OUT = {"test_set": "out", "organ": "vessel"}
GAIN = {"arm": "standard+generator", "reference": "standard", "size": 2, "organ": "mean", "metric": "dice"}


@pytest.mark.parametrize(
    ("kind", "run", "metric", "rows", "figure"),
    [
        (
            "sweep",
            "pix2pix.l1=10,seed=1",
            "test/mae_hu",
            {"cell": "pix2pix.l1=10", "seed": 1, "arm": "synthetic"},
            "mae_hu",
        ),
        ("arms", "real,seed=0,subset=0", "test/out/vessel_dice", {"arm": "real", **OUT}, "dice"),
        ("routes", "mr,labelled=2,fold=0,seed=0", "test/dice", {"route": "mr", "labelled": 2, "fold": 0}, "dice"),
        ("augmentation", "augmentation", "gain/n2/mean_dice", GAIN, "mean"),
    ],
    ids=["sweep", "arms", "routes", "augmentation"],
)
def test_a_run_has_the_mean_of_its_figures_and_the_parent_what_synthetic_images_add(
    golden, kind, run, metric, rows, figure
):
    folder, record, table = run_of(golden, kind)
    table = pd.read_csv(folder / "comparisons.csv") if run == kind else table
    for key, value in rows.items():
        table = table[table[key] == value]
    client = MlflowClient(record["tracking_uri"])
    experiment = client.get_run(record["mlflow_run_id"]).info.experiment_id
    (own,) = client.search_runs([experiment], f"attributes.run_name = '{run}'")
    assert own.data.metrics[metric] == pytest.approx(table[figure].mean(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", [arms.Arms, augmentation.Augmentation])
def test_a_study_of_which_every_segmenter_failed_says_nothing_and_goes_to_its_end(settled, kind):
    study = settled(kind)
    summary = study.summary(pd.DataFrame(columns=[*study.keys, *study.metrics]))
    assert summary.comparisons.empty
    assert summary.record["means"] == []


@pytest.mark.parametrize(
    ("settings", "pipeline"),
    [(arms.BenefitConfig, "mr_contrast"), (augmentation.AugmentationConfig, "lesion_classification")],
    ids=["arms", "augmentation"],
)
@pytest.mark.parametrize("data", [None, "cohort.csv"])
def test_a_study_that_has_no_short_form_is_not_run_at_full_length_under_that_name(settings, pipeline, data):
    with pytest.raises(ConfigError, match=f"no short form of a study of '{pipeline}' is shipped; leave --quick out"):
        layered(settings, StudyOrder("any", pipeline, data=data, quick=True))


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("5,7", (5, 7)), ("4,", (4,))])
def test_seeds_are_how_many_or_which(text, seeds):
    assert seeds_of(text) == seeds
    for wrong in ("0", "", "a", "1,1"):
        with pytest.raises(ConfigError, match="--seeds"):
            seeds_of(wrong)


def test_an_order_says_how_to_repeat_it_and_not_where_its_data_lie(tmp_path):
    order = StudyOrder("arms", "ct_contrast", data=tmp_path / "a.csv", overrides=["arms=[real, oracle]"], seeds=(3, 4))
    assert order.command == (
        "medgan study arms --pipeline ct_contrast --name arms --seeds 3,4, --data COHORT 'arms=[real, oracle]'"
    )
    assert StudyOrder("arms", "ct_contrast", quick=True, seeds=(0,)).command.endswith("--seeds 0, --quick")


COMMANDS = {
    "sweep": "sweep -p ct_contrast pix2pix.l1=1,2",
    "ablation": "study ablation -p ct_contrast",
    "misalignment": "study misalignment -p ct_contrast",
    "lesion-prevalence": "benefit -p ct_contrast --study lesion-prevalence",
    "arms": "benefit -p ct_contrast",
    "routes": "benefit -p ct_contrast --study routes --model {here}/model --data {here}/cohort.csv",
    "augmentation": "benefit -p ct_contrast --study augmentation",
}
"""The command of each kind, on data that no study would begin with: what is refused here is refused before them."""
TRAININGS = {
    "train": ("train -p ct_contrast", "ct_contrast"),
    "train --resume": ("train -p ct_contrast --resume", "ct_contrast"),
    "segment-train": ("segment-train --data {here}/cohort.csv", "segmenter"),
    "segment-train --resume": ("segment-train --resume", "segmenter"),
}


def refused(command, folder, name, content):
    """What the command says when it is given a folder that is not its own, and leaves as it was."""
    folder.mkdir(parents=True)
    (folder / name).write_text(content, encoding="utf-8")
    here = folder.parents[1]
    (here / "model").mkdir()
    (here / "model" / "model.json").touch()
    (here / "cohort.csv").write_text("subject,domain,image\n", encoding="utf-8")
    asked = ["--name", folder.name, "--out", str(here), "--device", "cpu"]
    ended = CliRunner().invoke(app, [*shlex.split(command.format(here=here)), *asked], env={"COLUMNS": "400"})
    assert ended.exit_code == 2, ended.output
    assert {path.name: path.read_text() for path in folder.iterdir()} == {name: content}
    return ended.output


@EACH
def test_a_folder_that_holds_a_study_of_another_kind_or_a_training_is_refused_by_name(kind, tmp_path):
    for other in STUDIES.keys() - {kind}:
        folder = tmp_path / other / "ct_contrast" / "one"
        record = json.dumps({"kind": other, "mlflow_run_id": "1", "tracking_uri": "nosuch://"})
        assert f"{folder} holds a study of another kind, {other}, and no {kind}; choose another" in refused(
            COMMANDS[kind], folder, "study.json", record
        )
    folder = tmp_path / "training" / "ct_contrast" / "one"
    told = refused(COMMANDS[kind], folder, "config.yaml", "seed: 0\n")
    assert f"{folder} holds the run of a training, and no study" in told


@pytest.mark.parametrize("training", TRAININGS)
def test_a_folder_that_holds_a_study_is_refused_for_a_training(training, tmp_path):
    command, place = TRAININGS[training]
    for kind in STUDIES:
        folder = tmp_path / kind / place / "one"
        told = refused(command, folder, "study.json", json.dumps({"kind": kind}))
        assert f"{folder} holds a study (study.json), and no training's run" in told
