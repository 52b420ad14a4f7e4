"""What is known of figures by their names."""

import re

import numpy as np
import pandas as pd
import pytest

from medgan.evaluation.measures import MEASURES, distance_to_ideal, measure


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("core_mae_hu", 10, 20),
        ("mae_in_liver_hu", 10, 20),
        ("bias_hu", -2, 5),
        ("core_bias_bone_hu", 3, -50),
        ("psnr_db", np.inf, 40),
        ("ssim", 0.9, 0.8),
        ("core_bone_dice", 0.6, 0.3),
        ("core_slope_bone", 1.2, 0.7),
        ("core_high_frequency_power_ratio", 0.8, 1.9),
        ("core_false_bone_percent", 0.1, 0.5),
        ("enhancing_mae_percent", 4, 9),
        ("enhancing_dice", 0.5, 0.1),
        ("false_enhancement_percent_of_voxels", 1, 2),
    ],
)
def test_the_better_of_two_values_is_nearer_to_the_ideal(name, better, worse):
    near, far = distance_to_ideal(name, pd.Series([better, worse], dtype=float))
    assert near < far


@pytest.mark.parametrize("name", ["change_fat_hu", "soft_tissue_mean_hu", "enhancement_percent", "bone_p95_hu"])
def test_figures_that_describe_have_no_best_value(name):
    assert distance_to_ideal(name, pd.Series([1.0])) is None


def test_what_is_not_known_is_shown():
    assert measure("anything").shown
    assert not measure("core_bias_bone_hu").shown
    assert not measure("fat_sd_hu").shown


@pytest.mark.parametrize("known", MEASURES, ids=lambda known: known.pattern)
def test_no_pattern_hides_behind_an_earlier_one(known):
    for name in re.sub(r"\(.*?\)|\.\*", "bone", known.pattern).split("|"):
        if not known.pattern.startswith(("bias_.*", "slope_.*")):
            assert measure(name).ideal == known.ideal
