"""What all seven studies share: a folder belongs to a study of one kind, and a leak ends the whole of it."""

import json
import shlex

import pytest
from typer.testing import CliRunner

from medgan.cli import app

STUDIES = {
    "sweep": "sweep -p ct_contrast pix2pix.l1=1,2",
    "ablation": "study ablation -p ct_contrast",
    "misalignment": "study misalignment -p ct_contrast",
    "arms": "benefit -p ct_contrast",
    "routes": "benefit -p ct_contrast --study routes --model {here}/model --data {here}/cohort.csv",
    "augmentation": "benefit -p ct_contrast --study augmentation",
    "lesion-prevalence": "benefit -p ct_contrast --study lesion-prevalence",
}
"""The command of each kind, on data that no study would begin with: what is refused here is refused before them."""
TRAININGS = {
    "train": ("train -p ct_contrast", "ct_contrast"),
    "train --resume": ("train -p ct_contrast --resume", "ct_contrast"),
    "segment-train": ("segment-train --data {here}/cohort.csv", "segmenter"),
    "segment-train --resume": ("segment-train --resume", "segmenter"),
}
OTHERS = [(one, other) for one in STUDIES for other in STUDIES if one != other]


def refused(command, folder):
    """What the command says when it is given a folder that is not its own, and leaves as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    here = folder.parents[1]
    (here / "model").mkdir()
    (here / "model" / "model.json").touch()
    (here / "cohort.csv").write_text("subject,domain,image\n", encoding="utf-8")
    asked = ["--name", folder.name, "--out", str(here), "--device", "cpu"]
    ended = CliRunner().invoke(app, [*shlex.split(command.format(here=here)), *asked], env={"COLUMNS": "400"})
    assert ended.exit_code == 2, ended.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return ended.output


def written(folder, name, content):
    folder.mkdir(parents=True)
    (folder / name).write_text(content, encoding="utf-8")
    return folder


def record_of(kind):
    return "study.json"


@pytest.mark.parametrize(("kind", "other"), OTHERS, ids=lambda kind: kind)
def test_a_folder_that_holds_a_study_of_another_kind_is_refused_by_name(kind, other, tmp_path):
    record = json.dumps({"kind": other, "mlflow_run_id": "1", "tracking_uri": "nosuch://"})
    folder = written(tmp_path / "ct_contrast" / "one", record_of(other), record)
    assert f"{folder} holds a study of another kind, {other}, and no {kind}; choose another" in refused(
        STUDIES[kind], folder
    )


@pytest.mark.parametrize("kind", STUDIES)
def test_a_folder_that_holds_the_run_of_a_training_is_refused_for_a_study(kind, tmp_path):
    folder = written(tmp_path / "ct_contrast" / "one", "config.yaml", "seed: 0\n")
    assert f"{folder} holds the run of a training, and no study" in refused(STUDIES[kind], folder)


@pytest.mark.parametrize("kind", STUDIES)
@pytest.mark.parametrize("training", TRAININGS)
def test_a_folder_that_holds_a_study_is_refused_for_a_training(training, kind, tmp_path):
    command, place = TRAININGS[training]
    folder = written(tmp_path / place / "one", record_of(kind), json.dumps({"kind": kind}))
    said = refused(command, folder)
    assert f"{folder} holds a study ({record_of(kind)}), and no training's run" in said
