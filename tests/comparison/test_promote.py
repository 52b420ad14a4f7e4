import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from comparison.conftest import cases_of
from medgan.cli import app
from medgan.comparison.promote import PromoteOrder, promote
from medgan.errors import ConfigError, ModelError
from medgan.tracking import RunStore


@pytest.fixture
def candidate(judged_run, errors, model):
    """A run of a mean error: ``candidate(store, "a", 30.0)``; its id. Each test has a registered model of its own."""

    def record(store, name, mean, *, arms=("do_nothing", "intensity_lookup"), subjects=9, **changes):
        values = mean + errors["do_nothing"] - 60 + errors["noise"][int(mean) % 6]
        figures = {"synthetic": values} | {arm: errors[arm] for arm in arms}
        cases = cases_of({arm: each[:subjects] for arm, each in figures.items()})
        return judged_run(store, name, cases, **({"experiment": "champions", "model": model} | changes))

    return record


def holder(store, name, alias="champion"):
    version = MlflowClient(store).get_model_version_by_alias(name, alias)
    return version.run_id, int(version.version), version.tags


def test_the_alias_moves_to_the_better_run_and_not_to_the_worse_one(store, candidate):
    first, better, worse = (candidate(store, name, mean) for name, mean in (("p", 40.0), ("q", 30.0), ("r", 52.0)))
    runs, moving = RunStore(store), "champion of three"
    outcome = promote(PromoteOrder(first[:8], "champion", moving), runs)
    assert outcome.promoted
    assert "nobody has the alias champion yet" in outcome.findings[0]
    assert holder(store, moving)[:2] == (first, 1)
    outcome = promote(PromoteOrder(worse[:8], "champion", moving), runs)
    assert not outcome.promoted
    assert f"is worse than p (version 1). models:/{moving}@champion stays as it is." in outcome.findings[-1]
    assert holder(store, moving)[:2] == (first, 1)
    outcome = promote(PromoteOrder(better[:8], "champion", moving), runs)
    assert holder(store, moving)[:2] == (better, 2)
    # The figures are kept with the version.
    assert "q against p (version 1): mae_hu -1" in holder(store, moving)[2]["promoted.champion"]
    assert promote(PromoteOrder(better[:8], "champion", moving), runs).promoted, "it holds it already"
    assert holder(store, moving)[:2] == (better, 2)


def test_a_worse_run_is_forced_with_who_and_why(store, candidate, monkeypatch):
    monkeypatch.setenv("LOGNAME", "anna")
    name = "forced"
    good, worse = candidate(store, "good", 30.0), candidate(store, "worse", 52.0)
    assert promote(PromoteOrder(good[:8], "champion", name), RunStore(store)).promoted
    arguments = ["promote", worse[:8], "--as", "champion", "--name", name, "--tracking", store]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "mae_hu +2" in refused.output
    forced = CliRunner().invoke(app, [*arguments, "--force", "readers prefer it"])
    assert (forced.exit_code, f"--model models:/{name}@champion" in forced.output) == (0, True)
    run, _, tags = holder(store, name)
    assert (run, tags["promoted.champion.forced"]) == (worse, "anna: readers prefer it")


def test_no_difference_shown_is_no_loss(database, candidate, errors, judged_run, model):
    one = candidate(database, "one", 40.0)
    values = 40.0 + errors["do_nothing"] - 60 + errors["noise"][1]
    two = judged_run(
        database, "two", cases_of({"synthetic": values, "do_nothing": errors["do_nothing"]}),
        experiment="champions", model=model,
    )  # fmt: skip
    assert promote(PromoteOrder(one[:8], "champion", "alike"), RunStore(database)).promoted
    outcome = promote(PromoteOrder(two[:8], "champion", "alike"), RunStore(database))
    assert outcome.promoted
    assert "no difference is shown" in outcome.findings[0]


def test_the_first_must_not_lose_to_what_needs_no_network(database, candidate):
    worse = candidate(database, "worse than look-up", 52.0)
    outcome = promote(PromoteOrder(worse[:8], "champion", "first"), RunStore(database))
    assert (outcome.promoted, "worse than look-up is worse than intensity look-up" in outcome.findings[-1]) == (
        False, True,
    )  # fmt: skip
    alone = candidate(database, "alone", 52.0, arms=())
    outcome = promote(PromoteOrder(alone[:8], "champion", "first"), RunStore(database))
    assert (outcome.promoted, "no baseline was judged" in outcome.findings[0]) == (True, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "split two"}, "trained on another split than holder"),
        ({"test_set": "set two"}, r"judged on other subjects than holder.*medgan evaluate"),
        ({"cases": None}, r"was not judged on test subjects.*medgan evaluate"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_do(database, candidate, judged_run, model, changes, message):
    name = message[:12].replace(" ", "_")
    first = candidate(database, "holder", 40.0)
    assert promote(PromoteOrder(first[:8], "champion", name), RunStore(database)).promoted
    if "cases" in changes:
        other = judged_run(database, "other", None, experiment="champions", model=model)
    else:
        other = candidate(database, "other", 30.0, **changes)
    with pytest.raises(ConfigError, match=message):
        promote(PromoteOrder(other[:8], "champion", name), RunStore(database))
    assert holder(database, name)[0] == first
    forced = promote(PromoteOrder(other[:8], "champion", name, force="trial"), RunStore(database))
    assert forced.promoted
    if "split" in changes:
        assert "other against holder (version 1): mae_hu -" in forced.findings[0], "figures are kept all the same"


def test_one_subject_decides_nothing(database, candidate):
    for name in ("lone", "other lone"):
        run = candidate(database, name, 30.0, subjects=1)
        outcome = promote(PromoteOrder(run[:8], "champion", "lonely"), RunStore(database))
        assert (outcome.promoted, "too few test subjects" in outcome.findings[-1]) == (False, True)


@pytest.mark.parametrize("alias", ["newest", "latest", "v3", "a b", ""])
def test_aliases_that_move_by_themselves_or_are_none_cannot_be_given(database, alias):
    with pytest.raises(ConfigError, match="champion"):
        promote(PromoteOrder("any", alias), RunStore(database))


def test_a_run_without_a_model_is_named(database, candidate):
    run = candidate(database, "no model", 30.0, model=None)
    with pytest.raises(ModelError, match="kept no model"):
        promote(PromoteOrder(run[:8], "champion", "empty"), RunStore(database))


def by_subject(path):
    rows = pd.read_csv(path)
    return rows[rows["arm"] == "synthetic"].groupby("subject")["mae_hu"].mean()


def test_from_training_to_the_champion_that_converts(server, tiny, save_cohort, tmp_path):
    """Train, convert, evaluate, compare, promote, and convert with the champion: each by its command."""
    cohort = save_cohort(tmp_path / "cohort", paired=True, subjects=7, split=True)
    tracking = ["--tracking", server.uri]

    def medgan(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments), *tracking])
        assert result.exit_code == 0, result.output
        return result.output

    for name, epochs in (("short", 1), ("long", 2)):
        medgan(
            "train", "-p", "ct_contrast", "--data", cohort, "--out", tmp_path, "--name", name, "--device", "cpu", *tiny,
            f"fit.epochs={epochs}", "translator=pix2pix",
        )  # fmt: skip
        model, out = tmp_path / "ct_contrast" / name / "model", tmp_path / f"out_{name}"
        medgan("convert", cohort, out, "--model", model, "--part", "test", "--device", "cpu")
        medgan(
            "evaluate", "--synthetic", out, "--reference", f"{cohort}:plain", "--source", f"{cohort}:contrast",
            "--out", tmp_path / f"judged_{name}",
        )  # fmt: skip
    table = " ".join(medgan("compare", "ct_contrast", "short", "long", "--json", tmp_path / "runs.json").split())
    assert "3 test subjects" in table
    assert "fit.epochs" in table
    (group,) = json.loads((tmp_path / "runs.json").read_text())["groups"]
    short, long = (by_subject(tmp_path / f"judged_{name}" / "evaluation.csv") for name in ("short", "long"))
    (row,) = [row for row in group["table"] if row["name"] == ("short" if group["reference"] == "long" else "long")]
    expected = (short - long).mean() * (1 if row["name"] == "short" else -1)
    assert row["difference"] == pytest.approx(expected, abs=1e-3)  # the CSV is rounded
    medgan("promote", "short", "--as", "champion", "--force", "the first one")
    said = medgan("promote", "long", "--as", "champion", "--force", "longer")
    assert "long against short (version 1): mae_hu" in said
    scan = next((tmp_path / "cohort").glob("s5_contrast.nii.gz"))
    medgan("convert", scan, tmp_path / "s.nii.gz", "--model", "models:/ct_contrast@champion", "--device", "cpu")
    of_model = tmp_path / "direct.nii.gz"
    medgan("convert", scan, of_model, "--model", tmp_path / "ct_contrast/long/model", "--device", "cpu")
    assert np.array_equal(nib.load(tmp_path / "s.nii.gz").dataobj, nib.load(of_model).dataobj)
