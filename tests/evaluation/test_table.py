"""The table: arms side by side, differences, notes and failures."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.evaluation.evaluate import Evaluation
from medgan.evaluation.matching import Failure
from medgan.evaluation.measures import distance_to_ideal
from medgan.evaluation.statistics import compare, summarise
from medgan.evaluation.table import render


def an_evaluation(failures=(), arms=("synthetic", "do_nothing"), **metrics):
    rows = pd.DataFrame(
        [
            {"subject": f"s{i}", "image": f"s{i}", "arm": arm} | {name: value[place] for name, value in metrics.items()}
            for place, arm in enumerate(arms)
            for i in range(3)
        ]
    )
    summary = summarise(rows, list(metrics), baseline="do_nothing" if "do_nothing" in arms else None)
    comparisons = compare(rows, list(metrics), "synthetic", distance_to_ideal)
    return Evaluation(rows, summary, True, {}, ("Read this.",), tuple(failures), comparisons)


def text(found):
    console = Console(file=io.StringIO(), width=200)
    console.print(render(found))
    return console.file.getvalue()


def test_a_row_shows_each_arm_its_interval_and_the_difference():
    shown = text(an_evaluation(mae_hu=(10.0, 40.0)))
    assert [
        cell.strip() for cell in next(line for line in shown.splitlines() if "mae_hu" in line).split("│")[1:-1]
    ] == [
        "mae_hu",
        "10.0 [10.0, 10.0]",
        "40.0 [40.0, 40.0]",
        "-30.0 [-30.0, -30.0] -75 %",
        "3 of 3",
    ]


@pytest.mark.parametrize("organ", ["[/red]", "[bold]", ":smile:", "a\\"])
def test_a_name_in_brackets_is_shown_as_it_is(organ):
    assert f"mae_in_{organ}_hu" in text(an_evaluation(**{f"mae_in_{organ}_hu": (1.0, 2.0)}))


def test_with_many_arms_only_the_synthetic_one_shows_its_interval_and_the_look_up_is_what_it_is_compared_with():
    arms = ("synthetic", "intensity_lookup", "intensity_lookup_median", "constant", "true_shifted")
    shown = text(an_evaluation(arms=arms, core_bone_dice=(0.6, 0.3, 0.2, 0.0, 0.9)))
    assert "synthetic - intensity_lookup" in shown
    row = next(line for line in shown.splitlines() if "core_bone_dice" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == [
        *("0.600 [0.600, 0.600]", "0.300", "0.200", "0.000", "0.900"),
        *("0.300 [0.300, 0.300]", "3 of 3"),
    ]


def test_without_doing_nothing_there_is_no_difference():
    assert "do_nothing" not in text(an_evaluation(arms=("synthetic",), mae_hu=(10.0,)))


@pytest.mark.parametrize("name", ["bone_mean_hu", "bone_sd_hu", "core_slope_soft_tissue", "clipped_percent"])
def test_absent_tissues_and_spreads_are_left_to_the_files(name):
    value = np.nan if name == "bone_mean_hu" else 1.0
    shown = text(an_evaluation(mae_hu=(1.0, 2.0), **{name: (value, value)}))
    assert "mae_hu" in shown
    assert name not in shown


def test_notes_and_the_first_failures_follow():
    shown = text(an_evaluation([Failure(f"image{i}", "broken [1]") for i in range(12)], mae_hu=(1.0, 2.0)))
    assert "Read this." in shown
    assert "image0: broken [1]" in shown
    assert "image11" not in shown
    assert "and 2 more" in shown


def test_an_evaluation_of_nothing_still_shows_why():
    empty = Evaluation(pd.DataFrame(), pd.DataFrame(), True, {}, (), (Failure("a", "broken"),), pd.DataFrame())
    assert "a: broken" in text(empty)


def test_subjects_that_the_model_has_seen_have_a_table_of_their_own():
    seen = an_evaluation(mae_hu=(5.0, 40.0))
    shown = text(replace(an_evaluation(mae_hu=(10.0, 40.0)), seen=seen))
    first, _, second = shown.partition("subjects that the model has seen: no evidence of how it does on others")
    assert "10.0 [10.0, 10.0]" in first
    assert "5.0 [5.0, 5.0]" in second
    assert "no evidence" not in text(seen)
