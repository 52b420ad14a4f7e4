"""Slopes of made-up findings: a translator that follows the prevalence, one that does not, and one that is watched."""

import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.study.prevalence_table import PLAIN, REAL, WATCHED, semantic_differences, show, slopes, written

PERCENTS = (0, 50, 100)
FOLLOWS, HOLDS = 0.6, 0.0


def rows(subjects=10, seeds=(0, 1)):
    """Recall rises by ``FOLLOWS`` with ``PLAIN``, and not with ``WATCHED``; a subject without lesions has none."""
    random = np.random.default_rng(0)
    made = []
    for number in range(subjects):
        level = random.uniform(0.2, 0.3)
        for translator, rise in ((PLAIN, FOLLOWS), (WATCHED, HOLDS)):
            for percent in PERCENTS:
                for seed in seeds:
                    recall = level + rise * percent / 100 + random.normal(0, 0.01)
                    figures = {"recall": math.nan if number == 0 else recall, "false": 1.0, "dice_liver": 0.9}
                    figures |= {"lesion_erased": 0, "lesion_invented": 2 * percent / 100}
                    made.append(
                        {"translator": translator, "prevalence_percent": percent, "seed": seed, "subject": f"s{number}"}
                        | figures
                    )
        made.append({"translator": REAL, "subject": f"s{number}", "recall": 0.5, "false": 0.25, "dice_liver": 0.95})
    return pd.DataFrame(made)


def test_the_slope_is_the_rise_from_none_to_all_over_subjects():
    table = slopes(rows()).set_index(["translator", "measure"])
    follows, holds = table.loc[PLAIN, "recall"], table.loc[WATCHED, "recall"]
    assert follows["slope"] == pytest.approx(FOLLOWS, abs=0.02)
    assert follows["lower"] > 0.5
    assert holds["slope"] == pytest.approx(HOLDS, abs=0.02)
    assert follows["n"] == 9
    assert follows["at_100"] - follows["at_0"] == pytest.approx(FOLLOWS, abs=0.02)
    assert table.loc[PLAIN, "lesion_invented"]["slope"] == pytest.approx(2)
    assert table.loc[PLAIN, "false"][REAL] == 0.25


def test_seeds_do_not_count_as_subjects():
    one, four = slopes(rows(seeds=(0,))), slopes(rows(seeds=(0, 1, 2, 3)))
    assert one["n"].tolist() == four["n"].tolist()


def test_the_words_say_who_follows_the_prevalence_and_what_semantic_consistency_changes():
    made = rows()
    words = written(slopes(made), semantic_differences(made))
    assert words[f"{PLAIN} recall"].startswith("slope +0.")
    assert words[f"{PLAIN} recall"].endswith("]: follows the target's prevalence")
    assert words[f"{WATCHED} recall"].endswith("is not shown to follow the target's prevalence")
    assert words["semantic consistency at 100 percent recall"].startswith("-0.6")
    assert words["semantic consistency at 0 percent false"] == "+0.00 [+0.00, +0.00] with it"
    assert words["semantic consistency at 100 percent lesion_invented"] == "+0.00 [+0.00, +0.00] with it"
    few = rows(subjects=2)
    assert written(slopes(few), semantic_differences(few))[f"{PLAIN} recall"].endswith("too few subjects to say")


def test_differences_are_paired_by_subject():
    found = semantic_differences(rows()).set_index(["prevalence_percent", "measure"])
    assert found.loc[(100, "recall"), "mean"] == pytest.approx(-FOLLOWS, abs=0.02)
    assert found.loc[(100, "recall"), "upper"] < -0.5
    assert found.loc[(0, "recall"), "lower"] < 0.01
    assert semantic_differences(rows().query("translator != @WATCHED")).empty


def test_the_table_shows_every_prevalence_and_the_real_images(tmp_path):
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as told:
        show(slopes(rows()), Console(file=told, width=120))
        told.seek(0)
        text = told.read()
    for word in (PLAIN, WATCHED, "0 %", "50 %", "100 %", REAL, "recall", "false", "lesion_invented"):
        assert word in text


def test_nothing_that_was_judged_gives_an_empty_table():
    nothing = rows().query("translator == @REAL")
    assert slopes(nothing).empty
    assert written(slopes(nothing), semantic_differences(nothing)) == {}
