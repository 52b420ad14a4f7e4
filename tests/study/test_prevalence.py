"""A small study that is stopped in a child and run again: what it leaves, tells and tracks."""

import json
import os
import signal
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.errors import ConfigError, LeakageError
from medgan.study.plan import StudyOrder
from medgan.study.prevalence import Prevalence, PrevalenceConfig, planned, run_prevalence
from medgan.study.prevalence_design import PrevalenceDesign, rendered
from medgan.study.records import write_json
from medgan.tracking import resolve_uri
from medgan.training.fit import FitConfig
from medgan.training.recorder import Recorder

TRANSLATORS = ("cyclegan", "cyclegan_semantic", "pix2pix")
CONFIG = PrevalenceConfig(
    design=PrevalenceDesign(
        prevalences_percent=(0, 100), source_percent=100, test_percent=100, train=1, validation=1, test=2, labelled=1,
        labelled_validation=1, shape_voxels=(24, 24, 4),
    ),
    segmenter_fit=FitConfig(epochs=1, iterations_per_epoch=2, batch_size=2, average_decay=0.5),
)  # fmt: skip


@dataclass
class Story:
    study: Prevalence
    stopped: str
    finished_before: int
    told: str


@pytest.fixture(scope="module")
def order(tiny, work):
    settings = [setting for setting in tiny if not setting.startswith(("seed=", "translator="))]
    settings += ["fit.epochs=1", "fit.iterations_per_epoch=2"]
    return StudyOrder(
        "ct_contrast", "lesion-prevalence", "prevalence", overrides=settings, out=work / "runs", device="cpu"
    )


@pytest.fixture(scope="module")
def story(order):
    iteration = Recorder.iteration

    def stopping(self, number):
        iteration(self, number)
        if "pix2pix,prevalence=0" in self.folder.name:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "iteration", stopping)
        with pytest.raises(KeyboardInterrupt) as stop:
            run_prevalence(order, CONFIG, Console(quiet=True))
    before = {path: path.stat().st_mtime_ns for path in order.folder.rglob("*.safetensors")}
    told = order.out / "told.txt"
    with told.open("w") as stream:
        study = run_prevalence(order, CONFIG, Console(file=stream, width=120))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return Story(study, str(stop.value), len(before), told.read_text())


def test_it_goes_on_where_it_was_stopped(story):
    assert story.stopped == "stopped in pix2pix,prevalence=0, seed 0; the same command goes on from there."
    assert story.finished_before == 4  # two segmenters, two translators
    assert story.told.count("finished before") == 2
    assert story.study.exit_code == 0, story.study.failures


def test_every_translator_is_judged_at_every_prevalence_on_the_same_subjects(story):
    rows = story.study.rows
    own = rows[rows["translator"] != "real"]
    subjects = own.groupby(["translator", "prevalence_percent"])["subject"].agg(sorted)
    assert set(subjects.index) == {(name, percent) for name in TRANSLATORS for percent in (0, 100)}
    tested = sorted(rows[rows["translator"] == "real"]["subject"])
    assert all(found == tested for found in subjects)
    assert len(tested) == 2


def test_the_files_hold_rows_slopes_and_the_record(story):
    folder = story.study.folder
    slopes = pd.read_csv(folder / "slopes.csv")
    assert set(slopes["translator"]) == set(TRANSLATORS)
    assert {"recall", "false", "dice_liver", "lesion_erased", "lesion_invented"} <= set(slopes["measure"])
    assert len(pd.read_csv(folder / "detections.csv")) == len(story.study.rows)
    record = json.loads((folder / "study.json").read_text())
    assert record["phantom"] is True
    assert record["settings"]["design"]["prevalences_percent"] == [0, 100]
    assert record["findings"].keys() >= {f"{name} recall" for name in TRANSLATORS}
    watched = record["cells"]["cyclegan_semantic,prevalence=100"]
    assert any(setting.startswith("cyclegan.semantic_model=") for setting in watched)
    assert len(record["splits"]) == 4


def test_the_parent_run_has_the_slopes_and_children_below_it(story):
    client = MlflowClient(resolve_uri())
    record = json.loads((story.study.folder / "study.json").read_text())
    parent = client.get_run(record["mlflow_run_id"])
    assert (parent.info.status, parent.data.tags["study"]) == ("FINISHED", "lesion-prevalence")
    assert parent.data.tags["failed_children"] == "0 of 6"
    assert parent.data.tags["cyclegan recall"].startswith("slope")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["slopes.csv"]
    experiment = parent.info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in children} == {
        f"{name},prevalence={percent},seed=0" for name in TRANSLATORS for percent in (0, 100)
    }
    assert all(run.data.metrics["test/mae_hu"] > 0 for run in children)


def test_a_translator_of_a_study_is_marked_as_the_phantoms(story):
    models = list(story.study.folder.glob("*,prevalence=*/*/model/model.json"))
    assert len(models) == 6
    assert all(json.loads(path.read_text())["phantom"] for path in models)


@pytest.mark.parametrize(
    ("said", "epochs"), [({}, 8), ({"config": 5}, 5), ({"override": 3}, 3), ({"config": 5, "override": 3}, 3)]
)
def test_trainings_are_short_where_the_user_says_nothing(story, order, tmp_path, said, epochs):
    own = tmp_path / "own.yaml"
    own.write_text(f"fit: {{epochs: {said.get('config')}}}\n")
    overrides = [setting for setting in order.overrides if not setting.startswith("fit.epochs")]
    overrides += [f"fit.epochs={said['override']}"] if "override" in said else []
    asked = replace(order, name="asked", config=own if "config" in said else None, overrides=overrides)
    cohorts = rendered(CONFIG.design, "abdomen_ct")
    configs = [child.config for part in planned(asked, CONFIG, cohorts) for child in part.plan.children]
    assert {config.fit.epochs for config in configs} == {epochs}


def test_subjects_of_ones_own_are_refused(order, cohort):
    with pytest.raises(ConfigError, match=r"renders its own subjects.*leave --data out"):
        run_prevalence(replace(order, data=cohort), CONFIG, Console(quiet=True))


def test_a_pipeline_without_the_translators_is_refused(order):
    with pytest.raises(ConfigError, match="'mr_contrast' has no cyclegan"):
        run_prevalence(replace(order, pipeline="mr_contrast"), CONFIG, Console(quiet=True))


def test_leak_segmenters_of_other_subjects_judge_nobody(order, tmp_path):
    asked = replace(order, out=tmp_path)
    design = CONFIG.design.model_copy(update={"seed": CONFIG.design.seed - 1, "prevalences_percent": (0, 50)})
    settings = CONFIG.model_copy(update={"design": design}).model_dump(mode="json")
    write_json(asked.folder / "study.json", {"kind": asked.kind, "settings": settings})
    with pytest.raises(LeakageError, match=r"was begun with other subjects \(design\.seed\)"):
        run_prevalence(asked, CONFIG, Console(quiet=True))
