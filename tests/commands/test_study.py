"""The one door to studies: what is ordered, how it ends, what it says, and its short names."""

import pytest
from typer.testing import CliRunner

from medgan import cli
from medgan.studies import engine
from medgan.studies.base import StudySummary, TaskFailure


def medgan(*arguments):
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Studies that are settled, and not run; ``failures`` fail."""
    studies, failures = [], []

    def run_study(kind, order, console):
        studies.append(kind(order, console))
        return engine.Result(studies[-1], None, StudySummary({}, {"table.csv": None}), tuple(failures), "MLflow run 1")

    monkeypatch.setattr(engine, "run_study", run_study)
    monkeypatch.chdir(tmp_path)
    return studies, failures


@pytest.fixture
def small(tiny, paired):
    return ["-p", "ct_contrast", "--data", paired, *(setting for setting in tiny if not setting.startswith("seed="))]


def test_a_sweep_is_a_grid_over_seeds(studied, small):
    asked = ["translator=pix2pix", "pix2pix.l1=1,10", "--seeds", "2", "--name", "own", "--jobs", "3"]
    result = medgan("sweep", *small, *asked, "--device", "cpu,cpu")
    assert result.exit_code == 0, result.stderr
    (study,), failures = studied
    assert (study.order.kind, study.order.name, study.seeds, study.order.jobs) == ("sweep", "own", (0, 1), 3)
    assert (study.order.devices, study.order.device) == (("cpu", "cpu"), "cpu")
    assert "pix2pix.l1=1,10" not in study.shared
    assert list(study.translators.cells) == ["pix2pix.l1=1", "pix2pix.l1=10"]
    assert study.default_name(study.order) == "sweep-pix2pix.l1"
    table, tracked = result.stdout.splitlines()
    assert table.startswith("table: runs/ct_contrast/own/table.csv; by subject: runs/ct_contrast/own/study.csv")
    assert tracked == "MLflow run 1"
    failures.append(TaskFailure("a,seed=0", "no"))
    assert medgan("sweep", *small, "--name", "own", "--quiet").exit_code == 1


def test_one_ablation_is_run_alone(studied, small):
    assert medgan("study", "ablation", *small, "--only", "losses", "--seeds", "3,4").exit_code == 0
    ((study,), _) = studied
    assert list(study.translators.cells) == ["l1+cgan", "l1", "cgan"]
    assert (study.order.kind, study.default_name(study.order), study.seeds) == ("ablation", "ablation", (3, 4))


def test_studies_are_listed_with_what_they_compare():
    result = medgan("studies")
    assert {"sweep", "ablation", "misalignment"} <= {line.split()[0] for line in result.stdout.splitlines()}
    assert "each against L1 + cGAN" in result.stdout


def test_benefit_is_the_study_of_arms_or_the_one_that_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr("medgan.commands.study.run", lambda kind, asked: calls.append((kind, vars(asked))))
    assert medgan("benefit", "-p", "ct_contrast", "--jobs", "2", "arms=[real]").exit_code == 0
    assert medgan("benefit", "-p", "lesion_augmentation", "--study", "augmentation", "--quick").exit_code == 0
    assert [kind for kind, _ in calls] == ["arms", "augmentation"]
    assert (calls[0][1]["jobs"], calls[0][1]["overrides"], calls[1][1]["quick"]) == (2, ["arms=[real]"], True)
