import json

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from comparison.conftest import SUBJECTS, cases_of
from medgan.cli import app
from medgan.comparison.compare import CompareOrder, compare_runs
from medgan.comparison.render import content, render
from medgan.errors import ConfigError
from medgan.tracking import RunStore

MEANS = {"first": 40.0, "better": 30.0, "alike": 40.1, "worse": 52.0}
ARMS = {"do_nothing": "do nothing", "intensity_lookup": "intensity look-up"}


@pytest.fixture(scope="module")
def tables(errors):
    """By run, its figures by case, which follow its mean, the subjects and a little noise."""
    subjects = errors["do_nothing"] - 60
    baselines = {arm: errors[arm] for arm in ARMS}
    return {
        name: cases_of({"synthetic": mean + subjects + errors["noise"][number], **baselines})
        for number, (name, mean) in enumerate(MEANS.items())
    }


@pytest.fixture
def six(store, judged_run, tables):
    """An experiment with four runs of one pipeline and two of another; the name of the experiment."""
    experiment = "six"
    client = MlflowClient(store)
    if client.get_experiment_by_name(experiment) is None:
        for number, (name, cases) in enumerate(tables.items()):
            parameters = {"fit": {"epochs": 3}, "cyclegan": {"cycle": float(number)}}
            judged_run(store, name, cases, experiment=experiment, parameters=parameters, val_mae=MEANS[name])
        for name in ("cut", "cut_long"):
            judged_run(store, name, tables["better"], experiment=experiment, pipeline="mr_to_ct", test_set="set two")
    return experiment


def of_arm(cases, metric="mae_hu", arm="synthetic"):
    return cases[cases["arm"] == arm].set_index("case")[metric]


def test_figures_and_differences_are_those_of_the_tables_by_case(store, six, tables, tmp_path):
    comparison = compare_runs(CompareOrder(six), RunStore(store))
    assert [group.pipeline for group in comparison.groups] == ["ct_contrast", "mr_to_ct"]
    group = comparison.groups[0]
    means = {name: of_arm(cases).mean() for name, cases in tables.items()} | {
        name: of_arm(tables["first"], arm=arm).mean() for arm, name in ARMS.items()
    }
    assert list(group.table["name"]) == sorted(means, key=means.get)
    # Of all, the best on validation, and no test figure chose it.
    assert group.reference == "better"
    p_values = {}
    for row in group.table.to_dict("records"):
        arm = {name: arm for arm, name in ARMS.items()}.get(row["name"], "synthetic")
        own = of_arm(tables[row["name"] if arm == "synthetic" else "better"], arm=arm).to_numpy()
        low, high = stats.t.interval(0.95, SUBJECTS - 1, own.mean(), stats.sem(own))
        assert (row["mean"], row["lower"], row["upper"]) == pytest.approx((own.mean(), low, high))
        if row["name"] == "better":
            assert np.isnan(row["difference"])
            continue
        difference = own - of_arm(tables["better"]).to_numpy()
        low, high = stats.t.interval(0.95, SUBJECTS - 1, difference.mean(), stats.sem(difference))
        found = (row["difference"], row["difference_lower"], row["difference_upper"])
        assert found == pytest.approx((difference.mean(), low, high))
        assert row["p_value"] == pytest.approx(stats.wilcoxon(difference).pvalue)
        p_values[row["name"]] = row["p_value"]
        assert row["verdict"] == "worse"
    corrected = dict(zip(group.table["name"], group.table["p_holm"], strict=True))
    for place, name in enumerate(sorted(p_values, key=p_values.get)):
        assert corrected[name] >= p_values[name] * (len(p_values) - place) - 1e-12
    assert list(group.settings.index) == ["cyclegan.cycle"]
    assert dict(group.settings.loc["cyclegan.cycle"]) == {name: f"{n:.1f}" for n, name in enumerate(MEANS)}


def test_a_named_reference_and_runs_by_name_or_id(store, six):
    everybody = compare_runs(CompareOrder(six), RunStore(store)).groups[0]
    order = CompareOrder(six, ("first", everybody.runs["alike"].id[:8]), reference="first")
    (group,) = compare_runs(order, RunStore(store)).groups
    assert set(group.runs) == {"first", "alike"}
    (row,) = group.table[group.table["name"] == "alike"].to_dict("records")
    assert (group.reference, row["verdict"]) == ("first", "not shown")


def test_more_is_better_of_some_figures_and_nearer_to_nothing_of_others(store, six, tables):
    ssim = compare_runs(CompareOrder(six, metric="ssim"), RunStore(store)).groups[0]
    assert (ssim.better, ssim.table["name"][0]) == ("higher", "better")
    assert set(ssim.table.query("name == 'worse'")["verdict"]) == {"worse"}
    bias = compare_runs(CompareOrder(six, metric="test/bias_hu"), RunStore(store)).groups[0]
    assert bias.better == "nearer"
    (row,) = bias.table[bias.table["name"] == "worse"].to_dict("records")
    expected = (of_arm(tables["worse"], "bias_hu").abs() - of_arm(tables["better"], "bias_hu").abs()).mean()
    assert (row["difference"], row["verdict"]) == (pytest.approx(expected), "worse")


def test_a_comparison_fits_a_narrow_terminal_and_json_holds_all(store, six, tmp_path):
    result = CliRunner().invoke(app, ["compare", six, "--tracking", store, "--json", str(tmp_path / "six.json")])
    assert result.exit_code == 0, result.output
    held = json.loads((tmp_path / "six.json").read_text())
    comparison = compare_runs(CompareOrder(six), RunStore(store))
    assert held == json.loads(json.dumps(content(comparison)))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(comparison))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "reference",
        "worse",
        "intensity look-up",
        "Reference of the differences: better, best by val/mae_hu.",
    ):
        assert part in text


def test_runs_of_other_subjects_are_not_compared_unless_forced_and_then_only_paired_where_they_agree(
    database, judged_run, tables, errors
):
    others = cases_of({"synthetic": 35 + errors["noise"][0], "do_nothing": errors["do_nothing"][::-1]})
    for name, cases, changes in (
        ("a", tables["first"], {}),
        ("b", tables["better"], {}),
        ("other split", tables["better"], {"split": "split two"}),
        ("other set", others, {"test_set": "set two"}),
    ):
        judged_run(database, name, cases, experiment="splits", **changes)
    comparison = compare_runs(CompareOrder("splits"), RunStore(database))
    assert [set(group.runs) for group in comparison.groups[:1]] == [{"a", "b"}]
    assert {name for group in comparison.groups[1:] for name in group.runs} == {"other split", "other set"}
    assert "3 different splits or test subjects" in " ".join(comparison.notes)
    forced = CompareOrder("splits", reference="a", force=True)
    (group,) = compare_runs(forced, RunStore(database)).groups
    known = group.table.set_index("name")["difference"].notna()
    assert dict(known) == {
        "a": False, "b": True, "other split": True, "other set": False, "do nothing": True, "intensity look-up": True,
    }  # fmt: skip
    assert any("Not paired: doing nothing has other figures in the cases of other set" in note for note in group.notes)


def test_without_test_figures_validation_is_shown_without_intervals_and_said(database, judged_run, tables):
    for name, mae in (("long", 31.0), ("short", 36.0)):
        judged_run(database, name, None, experiment="validated", val_mae=mae)
    (group,) = compare_runs(CompareOrder("validated"), RunStore(database)).groups
    assert (group.metric.key, list(group.table["name"])) == ("val/mae_hu", ["long", "short"])
    assert group.better == "lower"
    assert group.table["lower"].isna().all()
    assert "val/mae_hu is of validation subjects, which chose the models" in " ".join(group.notes)
    judged_run(database, "judged", tables["first"], experiment="validated")
    comparison = compare_runs(CompareOrder("validated"), RunStore(database))
    assert [list(group.runs) for group in comparison.groups] == [["judged"]]
    assert "left out: short, long" in " ".join(comparison.notes)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (CompareOrder("sixx"), r"no experiment 'sixx' in .*; did you mean 'six'\?; it has .*six"),
        (CompareOrder("six", ("wurse",)), r"no run 'wurse'; did you mean 'worse'\?; there are"),
        (CompareOrder("six", metric="mae_hv"), r"no run has the metric 'mae_hv'; did you mean 'mae_hu'\?; there are"),
        (CompareOrder("six", ("first",), reference="worse"), r"no run 'worse'; there are first"),
        (CompareOrder("twins", ("twin",)), r"2 runs are called 'twin'; name one by its id: \w{8} of"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(store, six, judged_run, tables, order, message):
    if order.experiment == "twins":
        for _ in range(2):
            judged_run(store, "twin", tables["first"], experiment="twins")
    with pytest.raises(ConfigError, match=message):
        compare_runs(order, RunStore(store))


def test_trainings_of_studies_are_left_out_unless_named(database, judged_run, tables):
    study = judged_run(database, "study", None, experiment="studied")
    for name in ("training", "one", "two"):
        run = judged_run(database, name, tables["first"], experiment="studied")
        if name == "training":
            MlflowClient(database).set_tag(run, "mlflow.parentRunId", study)
    comparison = compare_runs(CompareOrder("studied"), RunStore(database))
    assert [set(group.runs) for group in comparison.groups] == [{"one", "two"}]
    assert "Left out: 1 trainings of studies" in comparison.notes[0]
    (group,) = compare_runs(CompareOrder("studied", ("one", "training")), RunStore(database)).groups
    assert set(group.runs) == {"one", "training"}


def test_nothing_found_is_wrong_use(database):
    result = CliRunner().invoke(app, ["compare", "nothing", "--tracking", database])
    assert (result.exit_code, "there is no experiment 'nothing'" in result.output) == (2, True)


def test_a_damaged_table_is_named(database, judged_run, tables):
    run = judged_run(database, "damaged", tables["first"], experiment="damaged")
    MlflowClient(database).log_text(run, "[1, 2", "test/cases.json")
    result = CliRunner().invoke(app, ["compare", "damaged", "--tracking", database])
    assert (result.exit_code, "test/cases.json of the run damaged" in " ".join(result.output.split())) == (2, True)


def test_images_of_one_case_count_once(database, judged_run, tables):
    again = tables["first"].assign(mae_hu=lambda rows: rows["mae_hu"] + 2 * (rows["arm"] == "synthetic"))
    twice = pd.concat([tables["first"], again])
    judged_run(database, "twice", twice, experiment="images")
    judged_run(database, "once", tables["first"], experiment="images", val_mae=30.0)
    (group,) = compare_runs(CompareOrder("images", ("once", "twice")), RunStore(database)).groups
    (row,) = group.table[group.table["name"] == "twice"].to_dict("records")
    assert (row["n"], row["n_paired"], row["difference"]) == (SUBJECTS, SUBJECTS, pytest.approx(1.0))
