"""A sweep: its grid, its trainings, and its table against values by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medgan.config import from_overrides
from medgan.data.splits import Split
from medgan.errors import ConfigError
from medgan.evaluation.statistics import plain
from medgan.studies.engine import read_json
from medgan.studies.sweep import Sweep, _paired_table, grid, headlines, higher_is_better, metrics_of
from medgan.studies.translator import Cell
from tables import printed, row_of


def test_every_training_has_the_studys_split_and_the_files_hold_the_figures(golden):
    folder = golden.resumed("sweep").folder
    record, rows = read_json(folder / "study.json"), pd.read_csv(folder / "study.csv")
    splits = {Split.load(path).hash for path in folder.rglob("split.json")}
    assert splits == {record["split_hash"]}
    assert list(rows.columns[:5]) == ["cell", "seed", "subject", "image", "arm"]
    cells = ["pix2pix.l1=10", "pix2pix.l1=100"]
    assert list(dict.fromkeys(rows["cell"])) == cells
    by_hand = rows[rows["arm"] == "synthetic"].groupby(["cell", "subject"])["mae_hu"].mean().unstack("cell")
    table = pd.read_csv(folder / "table.csv").set_index(["cell", "metric"])
    expected = (by_hand[cells[1]] - by_hand[cells[0]]).mean()
    assert table.loc[(cells[1], "mae_hu"), "difference"] == pytest.approx(expected, abs=1e-3)
    facts = {"kind": "sweep", "reference": cells[0], "seeds": [0, 1], "cells": {cell: [cell] for cell in cells}}
    assert facts.items() <= record.items()
    assert (len(record["table"]), record["failures"]) == (len(table), [])


def test_a_phantom_stays_one_in_its_models_though_the_study_shares_its_files(settled, small_phantom):
    for data in ({}, {"data": None}):
        (tasks,) = settled(Sweep, "translator=pix2pix", **data).stages()
        assert {task.args[0].order.data is None for task in tasks} == {bool(data)}


def figures():
    """Two cells, two seeds, three subjects; s1 has two images."""
    rows = []
    for cell, seed, values in (
        ("a", 0, {"s1": [10, 20], "s2": [30], "s3": [40]}),
        ("a", 1, {"s1": [14, 16], "s2": [34], "s3": [44]}),
        ("b", 0, {"s1": [11, 17], "s2": [20], "s3": [41]}),
        ("b", 1, {"s1": [12, 12], "s2": [24], "s3": [49]}),
    ):
        for subject, images in values.items():
            for number, value in enumerate(images):
                rows.append((cell, seed, subject, f"{subject}_{number}", "synthetic", float(value), 0.5))
                rows.append((cell, seed, subject, f"{subject}_{number}", "do_nothing", 100.0, 0.25))
                rows.append((cell, seed, "other", "real", "real", np.nan, np.nan))
    return pd.DataFrame(rows, columns=["cell", "seed", "subject", "image", "arm", "mae_hu", "ssim"])


def line(table, cell, metric="mae_hu"):
    return row_of(table, cell=cell, metric=metric)


def test_means_and_differences_are_those_of_subjects_with_images_and_seeds_averaged():
    table = _paired_table(figures(), "a")
    a, b = [15.0, 32.0, 42.0], [13.0, 22.0, 45.0]
    assert line(table, "a")["mean"] == pytest.approx(np.mean(a))
    row = line(table, "b")
    assert row["mean"] == pytest.approx(np.mean(b))
    bounds = stats.ttest_rel(b, a).confidence_interval()
    assert row["difference"] == pytest.approx((-2 - 10 + 3) / 3)
    assert (row["difference_lower"], row["difference_upper"]) == pytest.approx((bounds.low, bounds.high))
    assert (row["n"], row["seeds"]) == (3, 2)
    assert np.isnan(line(table, "a")["difference"])
    same = line(table, "b", "ssim")
    assert (same["difference"], same["difference_lower"], same["difference_upper"], same["p_value"]) == (0, 0, 0, 1)
    # Baselines follow the cells, and real images are no baseline.
    assert list(dict.fromkeys(table["cell"])) == ["a", "b", "do_nothing"]
    nothing = line(table, "do_nothing")
    assert (nothing["mean"], nothing["seeds"]) == (100, 0)
    assert nothing["difference"] == pytest.approx(100 - 89 / 3)


def test_what_is_missing_is_said_and_not_made_up():
    rows = figures()
    fewer = _paired_table(rows[(rows["cell"] == "a") | (rows["seed"] == 0)], "a")
    assert (line(fewer, "a")["seeds"], line(fewer, "b")["seeds"]) == (2, 1)
    alone = _paired_table(rows[rows["cell"] == "b"], "a")
    assert line(alone, "b")["mean"] == pytest.approx(80 / 3)
    assert alone["difference"].isna().all()
    assert set(_paired_table(rows.assign(dice=np.nan), "a")["metric"]) == {"mae_hu", "ssim"}
    listed = json.loads(json.dumps(plain(_paired_table(rows.assign(psnr_db=np.inf), "a")), allow_nan=False))
    assert listed[0]["difference"] is None
    assert next(row for row in listed if row["metric"] == "psnr_db")["mean"] == "inf"


def test_the_table_names_the_reference_and_holds_every_cell(settled):
    study = settled(Sweep)
    study.reference = "a"
    text = printed(study.summary(figures()).shown)
    assert "difference to a" in text
    low, high = stats.ttest_1samp([13, 22, 45], 0).confidence_interval()
    assert f"26.67 [{low:.2f}, {high:.2f}]" in text
    assert "+0.000 [+0.000, +0.000]" in text
    assert text.index("mae_hu") < text.index("ssim")
    assert text.count("do_nothing") == 2


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["bias_hu", "ssim", "mae_hu", "core_mae_hu"], ["core_mae_hu", "mae_hu", "ssim"]),
        (["a", "b", "c", "d"], ["a", "b", "c"]),
    ],
)
def test_the_printed_metrics_are_the_main_ones_or_the_first(metrics, expected):
    assert headlines(metrics) == expected
    assert metrics_of(pd.DataFrame(columns=["cell", "seed", "subject", "image", "arm", *metrics])) == metrics
    assert [higher_is_better(metric) for metric in ("core_mae_hu", "core_bone_dice", "psnr_db")] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("1e-4, 2e-4", ["1e-4", "2e-4"]),
        ("[1,1,null],[2,2,null]", ["[1,1,null]", "[2,2,null]"]),
        ("{kind: unet, downs: 3},{kind: resnet}", ["{kind: unet, downs: 3}", "{kind: resnet}"]),
        ("[[0,1],[2,3]],[]", ["[[0,1],[2,3]]", "[]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["a,]",b],c', ['["a,]",b]', "c"]),
        ("it's,its", ["it's", "its"]),
    ],
)
def test_values_end_at_commas_outside_brackets_and_quotes(text, expected):
    assert [cell.settings for cell in grid([f"key={text}"])[1]] == [(f"key={value}",) for value in expected]


def test_a_grid_is_every_combination_with_the_first_key_slowest():
    shared, cells = grid(["pix2pix.l1=10,100", "size=small", "fit.epochs=1,2,3", "grid.spacing_mm=[1,1,null]"])
    assert shared == ["size=small", "grid.spacing_mm=[1,1,null]"]
    assert [cell.settings for cell in cells] == [
        (f"pix2pix.l1={weight}", f"fit.epochs={epochs}") for weight in (10, 100) for epochs in (1, 2, 3)
    ]
    assert cells[0].name == "pix2pix.l1=10,fit.epochs=1"
    (_, cell) = grid(["grid.spacing_mm=[1,1,null],[2,2,null]"])[1]
    assert from_overrides(cell.settings) == {"grid": {"spacing_mm": [2, 2, None]}}
    assert grid(["fit.epochs=3,4", "fit.epochs=5"])[0] == ["fit.epochs=5"]
    for text in ("1", "[1,1,null]", ""):
        assert grid([f"key={text}"]) == ([f"key={text}"], [Cell("as_configured")])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fit.epochs", "is not a setting"), ("=3", "is not a setting"), ("seed=1,2", "give them as --seeds"),
        *((f"k={text}", "without its end") for text in ("[1,2", "{a: 1", "1,2]]", "'a,b")),
        *((f"k={text}", "no value between two commas") for text in ("1,", ",1", "1,,2")),
    ],
)  # fmt: skip
def test_what_is_no_axis_is_refused(argument, message):
    with pytest.raises(ConfigError, match=message):
        grid([argument])
