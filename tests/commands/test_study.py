"""The commands of studies: what they ask for, how they end, and what they say."""

import json

import pytest
from typer.testing import CliRunner

from medgan import cli
from medgan.errors import ConfigError
from medgan.study.failures import Failure
from medgan.study.study import Study


def medgan(*arguments):
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


@pytest.fixture
def studied(monkeypatch, tmp_path):
    """Studies that are ordered, and not run; ``failures`` fail."""
    import pandas as pd

    orders, failures = [], []

    def run_study(order, cells, console, findings=None):
        orders.append((order, cells, findings))
        return Study(order.folder, pd.DataFrame(), pd.DataFrame(), {}, tuple(failures), {}, "MLflow run 1")

    monkeypatch.setattr("medgan.study.study.run_study", run_study)
    monkeypatch.chdir(tmp_path)
    return orders, failures


def test_a_sweep_is_a_grid_over_seeds_named_after_its_keys(studied):
    orders, _ = studied
    result = medgan(
        "sweep", "-p", "ct_contrast", "pix2pix.l1=1,10", "fit.epochs=2", "grid.spacing_mm=[1,1,null]", "--seeds", "2"
    )
    assert result.exit_code == 0, result.stderr
    ((order, cells, _),) = orders
    assert (order.kind, order.name, order.seeds) == ("sweep", "sweep-pix2pix.l1", (0, 1))
    assert order.overrides == ("fit.epochs=2", "grid.spacing_mm=[1,1,null]")
    assert [cell.name for cell in cells] == ["pix2pix.l1=1", "pix2pix.l1=10"]
    table, tracked = result.stdout.splitlines()
    assert table.startswith("table: runs/ct_contrast/sweep-pix2pix.l1/table.csv; by subject: ")
    assert tracked == "MLflow run 1"


def test_a_failed_child_is_exit_code_1(studied):
    _, failures = studied
    failures.append(Failure("a, seed 0", "no"))
    assert medgan("sweep", "-p", "ct_contrast", "--name", "own", "--quiet").exit_code == 1


def test_one_ablation_is_run_alone(studied):
    orders, _ = studied
    assert medgan("study", "ablation", "-p", "ct_contrast", "--only", "losses", "--seeds", "3,4").exit_code == 0
    ((order, cells, _),) = orders
    assert [cell.name for cell in cells] == ["l1+cgan", "l1", "cgan"]
    assert (order.kind, order.name, order.seeds) == ("ablation", "ablation", (3, 4))
    assert "translator=pix2pix" in order.overrides


def test_a_misalignment_study_has_both_arms_at_each_shift_and_finds_the_crossover(studied):
    orders, _ = studied
    assert medgan("study", "misalignment", "-p", "ct_contrast", "--shifts", "2,0", "--metric", "dice").exit_code == 0
    ((order, cells, findings),) = orders
    assert len(cells) == 5
    assert (order.kind, order.name) == ("misalignment", "misalignment")
    import pandas as pd

    with pytest.raises(ConfigError, match="no metric 'dice'"):
        findings(pd.DataFrame(columns=["cell", "seed", "subject", "image", "arm", "mae_hu"]))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sweep", "-p", "ct_contrats"], "did you mean 'ct_contrast'"),
        (["sweep", "-p", "ct_contrast", "fit.epochs=[1"], "without its end"),
        (["sweep", "-p", "ct_contrast", "--seeds", "x"], "--seeds x: write how many"),
        (["sweep", "-p", "ct_contrast", "fit.epoch=1,2"], "unknown setting 'fit.epoch' (did you mean 'fit.epochs'?)"),
        (["study", "ablation", "-p", "ct_contrast", "seed=1"], "give seeds as --seeds"),
        (["study", "misalignment", "-p", "ct_contrast", "--shifts", "3"], "write at least two whole numbers"),
        (["study", "misalignment", "-p", "ct_contrast", "--data", "no"], "no is empty or does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_is_one_line_and_exit_code_2(command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = medgan(*command)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("medgan: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_study_runs_from_the_command_line(tmp_path, tiny, paired):
    settings = [setting for setting in tiny if not setting.startswith("seed=")]
    asked = ["study", "misalignment", "-p", "ct_contrast", *settings, "fit.epochs=1", "fit.iterations_per_epoch=1"]
    asked += ["--data", paired, "--out", tmp_path / "runs", "--device", "cpu", "--shifts", "0,3", "--name", "one"]
    result = medgan(*asked)
    assert result.exit_code == 0, result.stderr
    assert "crossover of pix2pix: " in result.stderr
    record = json.loads((tmp_path / "runs" / "ct_contrast" / "one" / "study.json").read_text())
    assert record["findings"].keys() == {"crossover of pix2pix", "crossover of l1"}
    assert list(record["cells"]) == ["cyclegan", *(f"{arm},shift={n}" for n in (0, 3) for arm in ("pix2pix", "l1"))]
