import math

import numpy as np
import pytest

from medgan.evaluation.synthesis.memorisation import Nearest, Threshold
from medgan.evaluation.synthesis.verdicts import collapse_verdict, memorisation_verdict

THRESHOLD = Threshold(distance=0.4, ratio=0.8, certain=0.1)
REAL = {"modes": 10.0, "diversity": 1.0, "shape_diversity": 1.0, "twins_percent": 0.0}


def near(distances, ratio=0.5):
    return Nearest(np.zeros(len(distances), int), np.array(distances), np.full(len(distances), ratio))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (near([0.5] * 40), "none found. 0 of 40 samples (0%)"),
        (near([0.3, *[0.5] * 39]), "none found. 1 of 40 samples (2%)"),
        (near([0.3] * 10 + [0.5] * 30), "COPIES. 10 of 40 samples (25%) are copies of training patches; see"),
        (near([0.3] * 10 + [0.5] * 30, ratio=1.0), "none found. 0 of 40"),
        (near([0.05, *[0.5] * 39]), "COPIES. 1 of 40 samples (2%) are copies of training patches, 1 of them beyond"),
    ],
    ids=["none", "by chance", "too many", "smooth", "certain"],
)
def test_memorisation_is_said_where_chance_does_not_explain_it(found, verdict):
    assert memorisation_verdict(found, THRESHOLD).startswith(f"Memorisation: {verdict}")


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "none found. Samples come in 10 of 10 kinds"),
        ({"diversity": 0.3}, "COLLAPSED"),
        ({"shape_diversity": 0.3}, "COLLAPSED"),
        ({"modes": 4.0}, "COLLAPSED. Samples come in 4 of 10 kinds"),
        ({"twins_percent": 40.0}, "IN PART. 40 % of the samples have a twin"),
        ({"diversity": math.nan, "shape_diversity": math.nan}, "none found. Samples come in 10 of 10"),
    ],
)
def test_collapse_is_said_by_any_of_its_signs(change, verdict):
    assert collapse_verdict(REAL | change, REAL, 10).startswith(f"Mode collapse: {verdict}")
