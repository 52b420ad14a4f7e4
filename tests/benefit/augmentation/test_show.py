import numpy as np
import pandas as pd
from rich.console import Console

from medgan.benefit.augmentation.show import render

KEY = {"arm": "standard+generator", "reference": "standard", "metric": "dice"}


def told(tmp_path, *tables):
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as stream:
        Console(file=stream, width=200).print(render(*tables, ["standard", "standard+generator"]))
        stream.seek(0)
        return stream.read()


def test_all_sizes_and_seeds_stand_in_one_line(tmp_path):
    means = pd.DataFrame(
        [
            {"arm": arm, "size": size, "organ": organ, "metric": "dice", "mean": 0.8, "lower": 0.7, "upper": 0.9}
            for arm in ("standard", "standard+generator")
            for size in (5, 10)
            for organ in ("front", "mean")
        ]
    )
    comparisons = pd.DataFrame(
        [
            KEY | {"organ": "mean", "size": size, "seed": seed, "mean": mean, "lower": low, "upper": 0.03, "p_holm": p}
            for size, seed, mean, low, p in [
                (5, "all", 0.012, 0.002, 0.04), (5, "0", 0.015, 0.0, 0.1), (5, "1", 0.009, 0.0, 0.1),
                (10, "all", -0.004, np.nan, np.nan),
            ]
        ]
    )  # fmt: skip
    slopes = pd.DataFrame([KEY | {"organ": "mean", "mean": -0.016, "lower": -0.02, "upper": -0.01}])
    text = told(tmp_path, means, comparisons, slopes)
    assert "n=5" in text
    assert "n=10" in text
    assert "+0.012 [+0.002, +0.030]" in text
    assert "p 0.04" in text
    assert "seeds +0.015 +0.009" in text
    assert "-0.004" in text
    assert "-0.016 [-0.020, -0.010]" in text
    assert "esion" not in text


def test_lesions_are_told_where_they_are_counted(tmp_path):
    means = pd.DataFrame(
        [
            {
                "arm": "standard",
                "size": 5,
                "organ": "lesion",
                "metric": metric,
                "mean": value,
                "lower": 0.4,
                "upper": 0.6,
            }
            for metric, value in (("dice", 0.5), ("lesion_f1", 0.55), ("false_lesions", 0.51))
        ]
    )
    empty = pd.DataFrame(columns=["arm", "reference", "organ", "metric", "size", "seed", "mean", "lower", "upper"])
    text = told(tmp_path, means, empty, empty)
    assert "Lesion-wise F1 of lesion" in text
    assert "0.550 [0.400, 0.600]" in text
    assert "False lesions per subject of lesion" in text
    assert "0.510 [0.400, 0.600]" in text
    assert "fewer are better" in text
