"""What ``medgan benefit --study augmentation`` asks for, how it ends, and what it says."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from medgan import cli
from medgan.benefit.augmentation.study import Augmentation
from medgan.benefit.failures import Failure
from medgan.data.studies import Location
from medgan.errors import LeakageError


def medgan(*arguments):
    shared = ["benefit", "--study", "augmentation", "-p", "lesion_augmentation"]
    return CliRunner().invoke(cli.app, [*shared, *map(str, arguments)])


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Studies that are ordered, and not run; ``failures`` fail."""
    orders, failures = [], []

    def run_augmentation(order, console):
        orders.append(order)
        empty = pd.DataFrame()
        return Augmentation(order.folder, empty, empty, empty, empty, (), tuple(failures), "MLflow run 1")

    monkeypatch.setattr("medgan.benefit.augmentation.study.run_augmentation", run_augmentation)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cohort.csv").touch()
    return orders, failures


def test_a_study_has_three_seeds_and_the_users_settings(studied):
    orders, _ = studied
    result = medgan("sizes=[5]", "--jobs", "2", "--data", "cohort.csv")
    assert result.exit_code == 0, result.stderr
    (order,) = orders
    assert (order.name, order.seeds, order.jobs, order.quick) == ("augmentation", (0, 1, 2), 2, False)
    assert (order.data, order.overrides) == (Location(Path("cohort.csv")), ("sizes=[5]",))
    assert result.stdout.splitlines() == [
        "comparisons: runs/lesion_augmentation/augmentation/comparisons.csv; "
        "by subject: runs/lesion_augmentation/augmentation/augmentation.csv",
        "MLflow run 1",
    ]


def test_a_quick_study_has_one_seed_and_a_name_of_its_own(studied):
    orders, _ = studied
    assert medgan("--quick").exit_code == 0
    assert medgan("--quick", "--seeds", "4,5", "--name", "own").exit_code == 0
    assert [(order.name, order.seeds) for order in orders] == [("augmentation-quick", (0,)), ("own", (4, 5))]


def test_a_failed_child_is_exit_code_1(studied):
    _, failures = studied
    failures.append(Failure("real,n=5,seed=0", "no"))
    assert medgan("--quiet").exit_code == 1


def test_a_leak_is_wrong_use_and_told_in_one_line(studied, monkeypatch):
    def leak(order, console):
        raise LeakageError("a test subject was seen")

    monkeypatch.setattr("medgan.benefit.augmentation.study.run_augmentation", leak)
    result = medgan()
    assert (result.exit_code, result.stderr) == (2, "medgan: a test subject was seen\n")


def test_a_model_of_somebody_elses_subjects_is_not_taken(studied):
    result = medgan("--model", "runs/lesion_augmentation/one/model")
    assert result.exit_code == 2
    assert "--study augmentation does not take --model" in result.stderr
