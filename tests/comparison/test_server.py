"""A team's `mlflow server` on SQLite and on PostgreSQL, with six runs of two pipelines."""

import json
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from scipy import stats
from typer.testing import CliRunner

from comparison.conftest import cases_of
from medgan.cli import app
from stores import mlflow_server, postgres

MEANS = {"ct_contrast": {"first": 40.0, "long": 33.0, "short": 47.0}, "mr_to_ct": {"a": 31.0, "b": 45.0, "c": 25.0}}
"""By pipeline and run, the error in HU around which its figures lie."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request, tmp_path_factory):
    """The address of a server in a process of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        backend = f"sqlite:///{folder}/mlflow.db" if request.param == "sqlite" else stack.enter_context(postgres())
        yield stack.enter_context(mlflow_server(folder, backend))


@pytest.fixture(scope="module")
def tables(address, judged_run, errors, model, tmp_path_factory):
    """The runs in one experiment; a folder with a CSV of figures by case for each."""
    folder = tmp_path_factory.mktemp("tables")
    baselines = {arm: errors[arm] for arm in ("do_nothing", "intensity_lookup")}
    for pipeline, runs in MEANS.items():
        for number, (name, mean) in enumerate(runs.items()):
            cases = cases_of({"synthetic": mean + errors["do_nothing"] - 60 + errors["noise"][number], **baselines})
            cases.to_csv(folder / f"{name}.csv", index=False)
            judged_run(address, name, cases, experiment="six", pipeline=pipeline, val_mae=mean, model=model)
    return folder


def medgan(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_comparison_agrees_with_what_is_computed_from_the_tables(address, tables, tmp_path):
    medgan("compare", "six", "--tracking", address, "--json", tmp_path / "six.json", "--html", tmp_path / "six.html")
    groups = {each["pipeline"]: each for each in json.loads((tmp_path / "six.json").read_text())["groups"]}
    assert {pipeline: set(each["runs"]) for pipeline, each in groups.items()} == {
        pipeline: set(runs) for pipeline, runs in MEANS.items()
    }
    for pipeline, reference in (("ct_contrast", "long"), ("mr_to_ct", "c")):
        assert groups[pipeline]["reference"] == reference
        wide = {
            name: pd.read_csv(tables / f"{name}.csv").pivot(index="case", columns="arm", values="mae_hu")
            for name in MEANS[pipeline]
        }
        own = {name: figures["synthetic"] for name, figures in wide.items()}
        own |= {"do nothing": wide[reference]["do_nothing"], "intensity look-up": wide[reference]["intensity_lookup"]}
        rows = {row["name"]: row for row in groups[pipeline]["table"]}
        p_values = {}
        for name, values in own.items():
            bounds = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert [rows[name][key] for key in ("mean", "lower", "upper")] == pytest.approx([values.mean(), *bounds])
            if name == reference:
                continue
            difference = values - own[reference]
            bounds = stats.t.interval(0.95, len(values) - 1, difference.mean(), stats.sem(difference))
            found = [rows[name][key] for key in ("difference", "difference_lower", "difference_upper")]
            assert found == pytest.approx([difference.mean(), *bounds])
            p_values[name] = stats.wilcoxon(difference).pvalue
        expected = dict(zip(p_values, stats_holm(list(p_values.values())), strict=True))
        assert {name: rows[name]["p_holm"] for name in p_values} == pytest.approx(expected)


def stats_holm(p_values):
    """Holm's step-down: the k-th smallest of m times m - k + 1, never less than the one before."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate([p_values[place] * (len(p_values) - k) for k, place in enumerate(order)])
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(steps, 1)
    return corrected


def test_a_worse_run_is_refused_and_a_better_one_becomes_the_champion(address, tables):
    client = MlflowClient(address)

    def promoted(name, code=0):
        said = medgan("promote", name, "--as", "champion", "--tracking", address, code=code)
        return said, client.get_run(client.get_model_version_by_alias("mr_to_ct", "champion").run_id).info.run_name

    for name, code, part, holder in (
        ("a", 0, "a against do nothing: mae_hu -", "a"),
        ("b", 1, "b is worse than a (version 1)", "a"),
        ("c", 0, "c against a (version 1): mae_hu -", "c"),
    ):
        said, champion = promoted(name, code)
        assert (part in said, champion) == (True, holder)
