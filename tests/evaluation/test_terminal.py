"""What a terminal shows of an evaluation."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.evaluation.evaluate import Evaluation
from medgan.evaluation.judging import distance_to_ideal
from medgan.evaluation.matching import Failure
from medgan.evaluation.statistics import compare, summarise
from medgan.evaluation.terminal import render


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


def text(found, width=200, every=True):
    console = Console(file=io.StringIO(), width=width)
    console.print(render(found, every=every))
    return console.file.getvalue()


def shown_row(found, metric):
    line = next(line for line in text(found).splitlines() if metric in line)
    return [cell.strip() for cell in line.split("│")[2:-1]]


def test_a_row_shows_each_arm_its_interval_and_the_difference():
    assert shown_row(an_evaluation(mae_hu=(10.0, 40.0)), "mae_hu") == [
        *("10.0 [10.0, 10.0]", "40.0 [40.0, 40.0]", "-30.0 [-30.0, -30.0] -75 %", "3 of 3"),
    ]
    assert "do_nothing" not in text(an_evaluation(arms=("synthetic",), mae_hu=(10.0,)))


def test_no_column_vanishes_where_the_terminal_is_narrow():
    found = an_evaluation(arms=("synthetic", "do_nothing", "intensity_lookup"), change_in_vena_cava_hu=(1.0, 2.0, 3.0))
    table = [line for line in text(found, 80).splitlines() if line[0] in "┃│"]
    assert {(len(line), line[-1]) for line in table} <= {(80, "┃"), (80, "│")}
    assert any("better in" in line for line in table)


def test_with_many_arms_only_the_synthetic_one_shows_its_interval_and_the_look_up_is_what_it_is_compared_with():
    arms = ("synthetic", "intensity_lookup", "intensity_lookup_median", "constant", "true_shifted")
    found = an_evaluation(arms=arms, core_bone_dice=(0.6, 0.3, 0.2, 0.0, 0.9))
    assert "synthetic - intensity_lookup" in text(found)
    assert shown_row(found, "core_bone_dice") == [
        *("0.600 [0.600, 0.600]", "0.300", "0.200", "0.000", "0.900"),
        *("0.300 [0.300, 0.300]", "3 of 3"),
    ]


def test_names_in_brackets_are_shown_as_they_are():
    names = [f"mae_in_{organ}_hu" for organ in ("[/red]", "[bold]", ":smile:", "a\\")]
    shown = text(an_evaluation(**dict.fromkeys(names, (1.0, 2.0))))
    assert all(name in shown for name in names)


def test_absent_tissues_and_spreads_are_left_to_the_files():
    hidden = dict.fromkeys(("bone_sd_hu", "core_slope_soft_tissue", "clipped_percent"), (1.0, 1.0))
    shown = text(an_evaluation(mae_hu=(1.0, 2.0), bone_mean_hu=(np.nan, np.nan), **hidden))
    assert "mae_hu" in shown
    assert not [name for name in (*hidden, "bone_mean_hu") if name in shown]


def test_notes_and_the_first_failures_follow_also_where_nothing_was_judged():
    shown = text(an_evaluation([Failure(f"image{i}", "broken [1]") for i in range(12)], mae_hu=(1.0, 2.0)))
    assert "Read this." in shown
    assert "image0: broken [1]" in shown
    assert "image11" not in shown
    assert "and 2 more" in shown
    empty = Evaluation(pd.DataFrame(), pd.DataFrame(), True, {}, (), (Failure("a", "broken"),), pd.DataFrame())
    assert "a: broken" in text(empty)


def test_subjects_that_the_model_has_seen_have_a_table_of_their_own():
    seen = an_evaluation(mae_hu=(5.0, 40.0))
    shown = text(replace(an_evaluation(mae_hu=(10.0, 40.0)), seen=seen))
    first, _, second = shown.partition("subjects that the model has seen: no evidence of how it does on others")
    assert "10.0 [10.0, 10.0]" in first
    assert "5.0 [5.0, 5.0]" in second
    assert "no evidence" not in text(seen)


ORGANS = [f"mae_in_{organ}_hu" for organ in ("aorta", "vena_cava", "kidneys", "liver", "spleen", "stomach")]
ERRORS = dict.fromkeys([*ORGANS, "mae_over_labels_hu"], (30.0, 80.0, 45.0)) | {"mae_hu": (20.0, 19.0, 14.0)}
CHANGES = {f"change_{tissue}_hu": (0.5, 0.0, 12.0) for tissue in ("bone", "fat", "lung", "soft_tissue")}


def test_ten_rows_of_eighty_columns_and_a_verdict_on_the_mean_over_labels():
    arms = ("synthetic", "do_nothing", "intensity_lookup")
    lines = text(an_evaluation(arms=arms, **ERRORS, **CHANGES, ssim=(0.9, 0.9, 0.9)), 80, every=False).splitlines()
    rows = [line.split(maxsplit=4) for line in lines[4:14]]
    assert [row[0] for row in rows] == [
        *("aorta", "vena_cava", "kidneys", "liver", "spleen"),
        *("mae_over_labels_hu", "mae_hu", "change_bone_hu", "change_fat_hu", "change_lung_hu"),
    ]
    assert max(map(len, lines)) <= 80
    # The difference is that to the better one of the baselines.
    assert [cell.strip() for cell in rows[5][1:]] == ["30.0", "80.0", "45.0", "-15.0 [-15.0, -15.0]"]
    said = " ".join(" ".join(lines).split())
    assert "synthetic is better than intensity_lookup: mae_over_labels_hu 30.0 beside 45.0, difference -15.0" in said
    assert "nearer in 3 of 3 subjects" in said


def test_of_many_baselines_the_best_is_shown_and_the_verdict_is_on_each():
    arms = ("synthetic", "constant", "intensity_lookup", "intensity_lookup_median", "true_shifted")
    said = " ".join(text(an_evaluation(arms=arms, core_mae_hu=(40.0, 99.0, 60.0, 50.0, 1.0)), 80, every=False).split())
    assert "core_mae_hu 40.0 99.0 50.0 -10.0 [-10.0, -10.0]" in said
    assert all(f"better than {arm}: " in said for arm in arms[1:4])
    assert "true_shifted" not in said


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ((1.0, 2.0, 3.0), "is better than do_nothing"),
        ((91.0, 92.0, 93.0), "is worse than do_nothing"),
        ((45.0, 50.0, 60.0), "is not shown to differ from do_nothing"),
        ((45.0, np.nan, np.nan), "too few subjects tell synthetic and do_nothing apart"),
    ],
)
def test_the_verdict_is_what_the_interval_of_the_difference_says(own, words):
    rows = [{"subject": f"s{i}", "image": "i", "arm": "synthetic", "mae_hu": value} for i, value in enumerate(own)]
    rows += [row | {"arm": "do_nothing", "mae_hu": 50.0 + i} for i, row in enumerate(rows)]
    frame = pd.DataFrame(rows)
    summary, comparisons = summarise(frame, ["mae_hu"]), compare(frame, ["mae_hu"], "synthetic", distance_to_ideal)
    assert words in text(Evaluation(frame, summary, True, {}, (), (), comparisons), every=False)
