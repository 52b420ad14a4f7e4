import json

import numpy as np
import pandas as pd
import pytest

from medgan.errors import DataError
from medgan.readers.answers import Mark
from medgan.readers.report import imrmc, write
from medgan.readers.score import hits, score
from readers.studies import answer, write_answers, wrong


def figures(scored):
    return {figure.name: figure.estimate.value for figure in scored.figures}


@pytest.mark.parametrize("task", ["2afc", "single"])
def test_perfect_readers_and_those_who_are_always_wrong(make, tmp_path, task):
    key = make(task, levels=2).key
    right = write_answers(tmp_path / "right.json", key, "right", [answer(trial) for trial in key.trials])
    other = write_answers(tmp_path / "wrong.json", key, "wrong", [answer(t, wrong(t)) for t in key.trials])
    for path, value in ((right, 1.0), (other, 0.0)):
        scored = score(key, [path])
        assert set(figures(scored).values()) == {value}
        row = scored.readers.iloc[0]
        assert row["right"] == row["auc"] == value
        assert row["kappa_repeats"] == pytest.approx(1.0) or np.isnan(row["kappa_repeats"])
        assert (row["flag"] != "") == (value == 0)
    both = score(key, [tmp_path])
    assert set(figures(both).values()) == {0.5}
    assert both.agreement[task] == pytest.approx(-1.0, abs=0.05)
    assert "wrong missed" in " ".join(both.notes)


def test_found_lesions_are_counted_by_arm_and_the_difference_has_an_interval(make, tmp_path):
    key = make("find").key
    lost = {t.id for t in key.trials if t.arms == ("synthetic",) and t.answer == "present" and t.subject < "zaphod05"}
    for name in ("ann", "bob"):
        given = [answer(t, "absent" if t.id in lost else None) for t in key.trials]
        write_answers(tmp_path / f"{name}.json", key, name, given)
    scored = score(key, [tmp_path])
    values = figures(scored)
    of = [t for t in key.trials if t.role == "scored" and t.answer == "present" and t.arms == ("synthetic",)]
    share = sum(t.id not in lost for t in of) / len(of)
    assert 0 < share < 1
    assert values["Lesions found in real images"] == 1
    assert values["Lesions found in synthetic images"] == pytest.approx(share)
    assert values["Lesions found, synthetic less real images"] == pytest.approx(share - 1)
    difference = scored.figures[-1]
    assert "a difference is shown" in difference.sentence
    assert "that it lies within ±10 points of 0 is not shown" in difference.sentence
    assert difference.row["lower"] < share - 1 < difference.row["upper"]
    assert difference.resampled[0] <= share - 1 <= difference.resampled[1]


def test_a_mark_beside_the_lesion_has_not_found_it(make):
    trial = next(t for t in make("find").key.trials if t.lesions)
    (lesion, *_) = trial.lesions
    assert hits(trial, Mark(slice=lesion.first, row=lesion.row, column=lesion.column))
    assert not hits(trial, Mark(slice=lesion.first, row=lesion.row, column=lesion.column + lesion.radius + 1))
    assert not hits(trial, Mark(slice=lesion.last + 2, row=lesion.row, column=lesion.column))
    assert not hits(trial, None)


def test_preference_has_no_right_answer_but_a_share(make, tmp_path):
    key = make("preference").key
    assert all(t.answer == "" for t in key.trials if t.role != "catch")
    first = [answer(t, ("left", "right")[t.arms.index("synthetic")]) for t in key.trials]
    scored = score(key, [write_answers(tmp_path / "a.json", key, "ann", first)])
    assert figures(scored) == {"Share of trials in which readers chose the first method": 1.0}
    assert scored.readers.iloc[0]["kappa_repeats"] == pytest.approx(1) or len(scored.readers) == 1


def test_answers_of_others_and_damaged_ones_are_named_and_the_rest_is_scored(choice_study, tmp_path):
    key = choice_study.key
    own = [answer(trial) for trial in key.trials]
    write_answers(tmp_path / "good.json", key, "ann", own)
    write_answers(tmp_path / "other.json", key, "bob", own, study="0" * 64)
    write_answers(tmp_path / "twice.json", key, "ann", own)
    (tmp_path / "cut.json").write_text((tmp_path / "good.json").read_text()[:200])
    (tmp_path / "alien.json").write_text("[]")
    scored = score(key, [tmp_path, tmp_path / "missing.json"])
    reasons = {path.rpartition("/")[2]: why for path, why in scored.failures.items()}
    assert reasons.keys() == {"other.json", "twice.json", "cut.json", "alien.json", "missing.json"}
    assert "another study, 000000000000" in reasons["other.json"]
    assert "good.json" in reasons["twice.json"]
    assert list(scored.readers["reader"]) == ["ann"]
    with pytest.raises(DataError, match="another study"):
        score(key, [tmp_path / "other.json"])


def test_who_has_not_finished_counts_alone_and_what_all_answered_counts_together(choice_study, tmp_path):
    key = choice_study.key
    own = [answer(trial) for trial in key.trials]
    write_answers(tmp_path / "all.json", key, "ann", own)
    write_answers(tmp_path / "some.json", key, "bob", own[:17])
    scored = score(key, [tmp_path])
    bob = scored.readers.set_index("reader").loc["bob"]
    assert 0 < bob["trials"] < bob["of"] == 12
    assert f"{12 - bob['trials']} trials that not all readers answered" in " ".join(scored.notes)
    assert {f.estimate.subjects for f in scored.figures} == {scored.figures[0].estimate.subjects}


def test_the_report_and_what_imrmc_reads(make, tmp_path):
    key = make("single").key
    rng = np.random.default_rng(0)
    for name in ("ann", "=bob()"):
        given = [answer(t, wrong(t) if rng.random() < 0.4 else None, int(rng.integers(1, 6))) for t in key.trials]
        write_answers(tmp_path / f"{name[:2]}.json", key, name, given)
    scored = score(key, [tmp_path])
    write(scored, key, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "score.json").read_text())
    assert {row["figure"] for row in content["figures"]} == {figure.name for figure in scored.figures}
    html = (tmp_path / "out" / "score.html").read_text()
    assert "is not shown" in html
    table = pd.read_csv(tmp_path / "out" / "imrmc.csv")
    assert list(table.columns) == ["readerID", "caseID", "modalityID", "score"]
    truth = table[table["readerID"] == "truth"].set_index("caseID")["score"]
    assert set(truth) == {0, 1}
    assert len(table) == 3 * len(truth) == 3 * 12
    mine = imrmc(key, scored.answers).set_index("caseID")
    ann = mine[mine["readerID"] == "ann"]["score"]
    present, absent = ann[truth[ann.index].to_numpy() == 1].to_numpy(), ann[truth[ann.index].to_numpy() == 0].to_numpy()
    area = np.mean((present[:, None] > absent) + 0.5 * (present[:, None] == absent))
    assert area == pytest.approx(scored.readers.set_index("reader").loc["ann", "auc"])
