"""What ``medgan benefit`` asks for, how it ends, and what it says."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from medgan import cli
from medgan.benefit.failures import Failure
from medgan.benefit.study import Benefit
from medgan.data.studies import Location
from medgan.errors import LeakageError


def medgan(*arguments):
    return CliRunner().invoke(cli.app, ["benefit", *map(str, arguments)])


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Studies that are ordered, and not run; ``failures`` fail."""
    orders, failures, figures = [], [], [True]

    def run_benefit(order, console):
        orders.append(order)
        rows = pd.DataFrame({"arm": ["real"]} if figures else {})
        return Benefit(order.folder, rows, pd.DataFrame(), pd.DataFrame(), tuple(failures), "MLflow run 1")

    monkeypatch.setattr("medgan.benefit.study.run_benefit", run_benefit)
    monkeypatch.setattr("medgan.report.benefit.write_report", lambda folder: folder / "benefit.html")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cohort.csv").touch()
    return orders, failures, figures


def test_a_study_has_three_seeds_and_the_users_settings(studied):
    orders, _, _ = studied
    result = medgan("-p", "ct_contrast", "subsets=2", "labelled=8", "--jobs", "2", "--data", "cohort.csv")
    assert result.exit_code == 0, result.stderr
    (order,) = orders
    assert (order.name, order.seeds, order.jobs, order.quick) == ("benefit", (0, 1, 2), 2, False)
    assert (order.data, order.model) == (Location(Path("cohort.csv")), None)
    assert order.overrides == ["subsets=2", "labelled=8"]
    assert "report: runs/ct_contrast/benefit/benefit.html" in result.stdout.splitlines()


def test_a_quick_study_has_one_seed_and_a_name_of_its_own(studied):
    orders, _, _ = studied
    assert medgan("-p", "ct_contrast", "--quick").exit_code == 0
    assert medgan("-p", "ct_contrast", "--quick", "--seeds", "4,5", "--name", "own").exit_code == 0
    assert [(order.name, order.seeds, order.quick) for order in orders] == [
        ("benefit-quick", (0,), True),
        ("own", (4, 5), True),
    ]


def test_a_failed_segmenter_is_exit_code_1(studied):
    _, failures, _ = studied
    failures.append(Failure("real,seed=0,subset=0", "no"))
    assert medgan("-p", "ct_contrast", "--quiet").exit_code == 1


def test_nothing_is_reported_where_nothing_was_found(studied):
    _, failures, figures = studied
    figures.clear()
    failures.append(Failure("real,seed=0,subset=0", "no"))
    result = medgan("-p", "ct_contrast")
    assert result.exit_code == 1
    assert "report" not in result.stdout


def test_a_leak_is_wrong_use_and_told_in_one_line(studied, monkeypatch):
    def leak(order, console):
        raise LeakageError("a test subject was seen")

    monkeypatch.setattr("medgan.benefit.study.run_benefit", leak)
    result = medgan("-p", "ct_contrast")
    assert result.exit_code == 2
    assert result.stderr == "medgan: a test subject was seen\n"


@pytest.mark.parametrize(
    ("study", "option"),
    [
        ("arms", ["--model", "a", "--model", "b"]),
        ("routes", ["--quick"]),
        ("lesion-prevalence", ["--data", "c"]),
        ("lesion-prevalence", ["--model", "a"]),
    ],
)
def test_an_option_that_a_study_would_not_heed_is_refused(study, option):
    result = medgan("--study", study, "-p", "ct_contrast", *option)
    assert result.exit_code == 2
    assert f"--study {study} does not take" in result.stderr
    assert option[0] in result.stderr
