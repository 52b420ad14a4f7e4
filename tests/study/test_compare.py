"""The paired table against differences computed by hand."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from medgan.study.compare import headlines, higher_is_better, metrics_of, paired_table, render

COLUMNS = ["cell", "seed", "subject", "image", "arm", "mae_hu", "ssim"]


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
    return pd.DataFrame(rows, columns=COLUMNS)


def line(table, cell, metric="mae_hu"):
    (row,) = table[(table["cell"] == cell) & (table["metric"] == metric)].to_dict("records")
    return row


def test_means_and_differences_are_those_of_subjects_with_images_and_seeds_averaged():
    table = paired_table(figures(), "a")
    a, b = [15.0, 32.0, 42.0], [13.0, 22.0, 45.0]
    assert line(table, "a")["mean"] == pytest.approx(np.mean(a))
    assert line(table, "b")["mean"] == pytest.approx(np.mean(b))
    difference = stats.ttest_rel(b, a).confidence_interval()
    found = line(table, "b")
    assert found["difference"] == pytest.approx((-2 - 10 + 3) / 3)
    assert (found["difference_lower"], found["difference_upper"]) == pytest.approx((difference.low, difference.high))
    assert (found["n"], found["seeds"]) == (3, 2)
    assert np.isnan(line(table, "a")["difference"])


def test_no_difference_is_shown_as_none():
    table = paired_table(figures(), "a")
    found = line(table, "b", "ssim")
    assert (found["difference"], found["difference_lower"], found["difference_upper"]) == (0, 0, 0)
    assert found["p_value"] == 1
    assert "+0.000 [+0.000, +0.000]" in shown(table)


def test_baselines_follow_the_cells_and_real_images_are_no_baseline():
    table = paired_table(figures(), "a")
    assert list(dict.fromkeys(table["cell"])) == ["a", "b", "do_nothing"]
    nothing = line(table, "do_nothing")
    assert (nothing["mean"], nothing["seeds"]) == (100, 0)
    assert nothing["difference"] == pytest.approx(100 - 89 / 3)


def test_a_cell_that_lacks_a_seed_says_so():
    rows = figures()
    table = paired_table(rows[(rows["cell"] == "a") | (rows["seed"] == 0)], "a")
    assert (line(table, "a")["seeds"], line(table, "b")["seeds"]) == (2, 1)


def test_without_the_reference_there_are_means_and_no_differences():
    rows = figures()
    table = paired_table(rows[rows["cell"] == "b"], "a")
    assert line(table, "b")["mean"] == pytest.approx(80 / 3)
    assert table["difference"].isna().all()


def test_figures_that_no_cell_has_are_left_out():
    assert set(paired_table(figures().assign(dice=np.nan), "a")["metric"]) == {"mae_hu", "ssim"}


def shown(table):
    text = io.StringIO()
    Console(file=text, width=120).print(render(table, "a", ["mae_hu", "ssim"]))
    return text.getvalue()


def test_the_table_names_the_reference_and_holds_every_cell():
    text = shown(paired_table(figures(), "a"))
    assert "difference to a" in text
    low, high = stats.ttest_1samp([13, 22, 45], 0).confidence_interval()
    assert f"26.67 [{low:.2f}, {high:.2f}]" in text
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


@pytest.mark.parametrize(("metric", "higher"), [("core_mae_hu", False), ("core_bone_dice", True), ("psnr_db", True)])
def test_it_is_known_which_way_is_better(metric, higher):
    assert higher_is_better(metric) is higher
