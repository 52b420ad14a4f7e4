"""The command of the lesion-prevalence study: what it asks for, says and ends with."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from medgan import cli
from medgan.study.failures import Failure
from medgan.study.prevalence import Prevalence


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Studies that are ordered, and not run; ``failures`` fail."""
    orders, failures = [], []

    def run(order, config, console):
        orders.append((order, config))
        none = pd.DataFrame()
        return Prevalence(order.folder, none, none, none, {"cyclegan recall": "slope"}, tuple(failures), "MLflow run 1")

    monkeypatch.setattr("medgan.study.prevalence.run_prevalence", run)
    monkeypatch.chdir(tmp_path)
    return orders, failures


def medgan(*arguments):
    return CliRunner().invoke(
        cli.app, ["benefit", "--study", "lesion-prevalence", "-p", "ct_contrast", *map(str, arguments)]
    )


def test_it_asks_for_what_it_was_told(studied, tmp_path):
    orders, _ = studied
    own = tmp_path / "own.yaml"
    own.write_text("design: {test: 5, prevalences_percent: [0, 100]}\nsemantic: 3\n")
    result = medgan("fit.epochs=2", "--config", own, "--seeds", "0,1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "cyclegan recall: slope"
    ((order, config),) = orders
    assert (order.kind, order.name, order.seeds, order.data) == ("lesion-prevalence", "lesion-prevalence", (0, 1), None)
    assert list(order.overrides) == ["fit.epochs=2"]
    assert (config.design.test, config.design.prevalences_percent, config.semantic) == (5, (0, 100), 3)


def test_a_translator_without_figures_is_exit_code_1(studied):
    studied[1].append(Failure("cyclegan", "it broke"))
    assert medgan("--quiet").exit_code == 1


def test_settings_of_the_study_that_cannot_be_are_exit_code_2(studied, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("design: {prevalences_percent: [50]}\n")
    result = medgan("--config", own)
    assert result.exit_code == 2
    assert "a slope needs at least two prevalences" in result.stderr
