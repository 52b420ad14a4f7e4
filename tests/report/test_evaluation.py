"""The verdict in words says what the figures say, no more and no less."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.errors import DataError
from medgan.evaluation.arms import DO_NOTHING, LOOKUP
from medgan.evaluation.evaluate import evaluate
from medgan.report.evaluation import (
    Evaluation,
    _against,
    _overall,
    _whom,
    detail_sections,
    figure_sections,
    read_evaluation,
    verdict_of,
)  # fmt: skip
from report_scans import write_scans

FIGURES = st.floats(-500, 500, allow_nan=False)


def row(mean, lower, upper, n=6):
    return {"difference": mean, "lower": lower, "upper": upper, "n": n, "better_in": 3.0, "p_value": 0.1}


@given(mean=FIGURES, width=st.floats(0, 100))
def test_only_an_interval_that_leaves_out_0_makes_a_difference(mean, width):
    outcome, sentence = _against("doing nothing", row(mean, mean - width, mean + width), "error", "HU")
    expected = "better" if mean + width < 0 else "worse" if mean - width > 0 else "not shown"
    assert outcome == expected
    begins = {"better": "Better than", "worse": "Worse than", "not shown": "Not shown to differ from"}[expected]
    assert sentence.startswith(f"{begins} doing nothing: ")
    assert f"{mean:+.3g} [{mean - width:+.3g}, {mean + width:+.3g}] HU, better in 3 of 6 subjects" in sentence


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_without_an_interval_nothing_can_be_said(missing):
    outcome, sentence = _against("doing nothing", row(-9.0, missing, missing, n=1), "error", "HU")
    assert outcome == "unknown"
    assert sentence.startswith("Against doing nothing nothing can be said: 1 subject has no interval")


@given(
    st.dictionaries(st.sampled_from([DO_NOTHING, LOOKUP]), st.sampled_from(["better", "worse", "not shown", "unknown"]))
)
def test_the_first_word_is_yes_only_where_every_rival_is_beaten(outcomes):
    first, values = _overall(outcomes), list(outcomes.values())
    assert first.startswith("No: it is worse than") == ("worse" in values)
    assert first.startswith("Yes:") == (bool(values) and set(values) == {"better"})
    assert (first == "That cannot be said.") == (set(values) <= {"unknown"})


FEW = {1: "Only 1 subject: too few", 4: "p cannot be below 0.12", 6: "6 subjects, none"}


@pytest.mark.parametrize(("subjects", "said"), FEW.items())
def test_few_subjects_are_called_few(subjects, said):
    assert said in _whom(subjects)


def test_a_verdict_has_the_figures_of_the_summary_and_says_what_is_not_known(judged):
    evaluation = read_evaluation(judged)
    question, answers, caveats = verdict_of(evaluation)
    assert "nearer to the truth" in question
    assert answers[1].startswith("Better than doing nothing: the mean absolute error where both bodies agree")
    against = json.loads((judged / "summary.json").read_text())["synthetic_against"]["do_nothing"]["core_mae_hu"]
    assert f"{against['difference']:+.3g} [{against['lower']:+.3g}, {against['upper']:+.3g}] HU" in answers[1]
    assert "Only 4 subjects" in caveats[0]
    assert evaluation.phantom
    assert evaluation.model["Name"] == "ct_contrast"


def test_what_was_not_compared_is_said_with_the_reason(tmp_path):
    places = write_scans(tmp_path, ["s0", "s1"])
    evaluate(places["synthetic"], places["reference"], places["out"])
    _, answers, _ = verdict_of(read_evaluation(places["out"]))
    assert answers[0] == "That cannot be said."
    assert [line.partition(":")[0] for line in answers[1:]] == [
        "Against doing nothing nothing can be said", "Against an intensity look-up nothing can be said",
    ]  # fmt: skip
    assert "Without the source images" in answers[1]


def test_where_all_were_seen_there_is_no_verdict(judged):
    seen = read_evaluation(judged)
    empty = Evaluation(seen.folder, dict(seen.summary) | {"arms": {}}, seen.rows.head(0), seen.cases)
    assert verdict_of(empty)[1] == ["That cannot be said: no subject that the model has not seen was judged."]
    assert list(figure_sections(empty)) == []


def test_the_worst_subject_is_first_and_its_figures_are_those_of_the_rows(judged):
    evaluation = read_evaluation(judged)
    values = evaluation.by_subject("core_mae_hu")
    assert list(values["synthetic"]) == sorted(values["synthetic"], reverse=True)
    rows = evaluation.rows.query("arm == 'synthetic'").set_index("subject")["core_mae_hu"]
    assert values["synthetic"].to_dict() == pytest.approx(rows.to_dict())
    assert "<b>x&y" in values.index


def test_bias_by_tissue_is_that_of_the_rows(judged):
    evaluation = read_evaluation(judged)
    sections = {section.title: section for section in detail_sections(evaluation)}
    table = sections["Are the HU right?"].tables[0]
    cells = {line[0]: line[2] for line in table.rows}
    own = evaluation.rows.query("arm == 'synthetic'")
    for key in ("core_bias_soft_tissue_hu", "core_mae_bone_hu", "core_slope_soft_tissue"):
        digits = 2 if "slope" in key else 1
        assert cells[key].partition(" ")[0] == f"{np.mean(own[key]):.{digits}f}"
    assert math.isfinite(evaluation.arms["synthetic"]["clipped_percent"].mean)


def test_subjects_can_have_other_names_and_a_damaged_folder_is_named(judged, tmp_path):
    named = read_evaluation(judged, {"anna": "case 1"})
    assert set(named.rows["subject"]) == {"case 1", "a subject"}
    assert set(named.cases["image"]) == {"case 1", "a subject"}
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "evaluation.csv").write_text("subject,image,arm\n")
    with pytest.raises(DataError, match="evaluate again"):
        read_evaluation(tmp_path)
