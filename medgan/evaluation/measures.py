"""What is known of a figure by its name: which value is right, how many digits it has, whether the table shows it."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Measure:
    """A kind of figure."""

    pattern: str
    """Of its names, with or without ``core_`` before them."""
    ideal: float | None = None
    """The best value; infinite where more is better, nothing where none is best."""
    digits: int = 1
    shown: bool = True
    """In the terminal; the files hold everything."""


MEASURES = (
    Measure("mae_hu|mae_bone_hu|mae_percent|enhancing_mae_percent", 0),
    Measure("mae_(soft_tissue|air_inside|air_around)_hu", 0, shown=False),
    Measure("mae_in_.*_hu|.*_distance_hu", 0),
    Measure("bias_hu", 0),
    Measure("bias_.*_hu", 0, shown=False),
    Measure("psnr_db", math.inf),
    Measure("ssim", 1, digits=3),
    Measure("ms_ssim", 1, digits=3, shown=False),
    Measure("slope_bone|high_frequency_power_ratio", 1, digits=2),
    Measure("slope_.*", 1, digits=2, shown=False),
    Measure("bone_dice|bone_surface_dice|enhancing_dice", 1, digits=3),
    Measure("false_bone_percent", 0, digits=2),
    Measure("false_enhancement_percent_of_voxels", 0),
    Measure("enhancement_percent|true_enhancement_percent"),
    Measure("false_bone_ml|clipped_percent|false_enhancement_percent|elsewhere_mae_percent", 0, shown=False),
    Measure("uncertainty_spearman", math.inf, digits=2),
    Measure("uncertainty_spearman_where_unsure", math.inf, digits=2, shown=False),
    Measure("error_in_most_unsure_tenth", math.inf, digits=2),
    Measure(".*_(sd|p5|p50|p95)_hu|enhancing_percent_of_voxels", shown=False),
)

_ANY = Measure(".*")


def measure(name: str) -> Measure:
    """The kind of a figure; the first whose pattern is its whole name, else one that is shown and has no best value."""
    plain = name.removeprefix("core_")
    return next((known for known in MEASURES if re.fullmatch(known.pattern, plain)), _ANY)


def distance_to_ideal(name: str, values: pd.Series) -> pd.Series | None:
    """How far values are from the best one; less is better. Nothing for figures of which none is best."""
    ideal = measure(name).ideal
    if ideal is None:
        return None
    return -values if math.isinf(ideal) else np.abs(values - ideal)
