import json

import pandas as pd
import pytest

from medgan.errors import DataError
from medgan.report.findings import read_findings


def test_a_study_is_read_as_it_was_written(make_study):
    found = read_findings(make_study())
    assert found.arms[0] == "real"
    assert found.organs == ["kidney", "liver"]
    assert (found.subjects("in"), found.subjects("out")) == (8, 8)
    assert len(found.effects(organ="kidney", test_set="out")) == 8
    assert len(found.curves) == 8 * 3 * 12


def test_what_is_not_known_is_not_a_number(make_study):
    row = {"arm": "a", "reference": "b", "test_set": "out", "organ": "liver", "metric": "dice", "mean": 0.1, "n": 1}
    found = read_findings(make_study(comparisons=[row | {"lower": None, "upper": None}]))
    assert found.comparisons[["lower", "upper", "p_holm", "trainings"]].isna().all(axis=None)


def test_a_study_of_before_whose_comparisons_also_have_a_bootstrap_can_be_read(make_study):
    row = {"arm": "a", "reference": "b", "test_set": "out", "organ": "liver", "metric": "dice", "mean": 0.1, "n": 4}
    found = read_findings(make_study(comparisons=[row | {"lower": 0.0, "upper": 0.2, "bootstrap_lower": 0.05}]))
    assert found.comparisons["upper"].tolist() == [0.2]
    assert "bootstrap_lower" not in found.comparisons


def test_names_stay_text(make_study, tmp_path):
    folder = make_study()
    rows = pd.read_csv(folder / "benefit.csv")
    rows.assign(subject=rows["subject"].replace({"phantom-000": "NA", "phantom-001": "007"})).to_csv(
        folder / "benefit.csv", index=False
    )
    assert {"NA", "007"} <= set(read_findings(folder).rows["subject"])


def test_a_study_without_curves_can_be_read(make_study):
    folder = make_study()
    (folder / "curves.csv").unlink()
    assert read_findings(folder).curves.empty


@pytest.mark.parametrize("name", ["benefit.json", "benefit.csv"])
def test_a_study_that_has_not_run_to_its_end_is_named(make_study, name):
    folder = make_study()
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        read_findings(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("benefit.json", "{", "not readable"),
        ("benefit.json", "[]", "without pipeline"),
        ("benefit.json", json.dumps({"pipeline": "x"}), "without phantom"),
        ("benefit.csv", "arm,seed\na,0\n", "without the columns subset"),
        ("benefit.csv", "arm,seed,subset,subject,test_set,organ,dice\na,x,0,s,in,o,1\n", "not readable"),
        ("curves.csv", "", "not readable"),
    ],
)
def test_files_that_cannot_be_used_are_named(make_study, name, text, message):
    folder = make_study()
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_findings(folder)
