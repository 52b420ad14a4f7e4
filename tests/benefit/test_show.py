import pandas as pd
from rich.console import Console

from medgan.benefit.show import render


def test_every_arm_and_difference_is_shown_with_its_interval(tmp_path):
    keys = {"organ": "liver", "metric": "dice"}
    means = pd.DataFrame(
        [
            {"arm": "real", "test_set": "in", "mean": 0.9, "lower": 0.85, "upper": 0.95} | keys,
            {"arm": "real", "test_set": "out", "mean": 0.1, "lower": float("nan"), "upper": float("nan")} | keys,
            {"arm": "real+standard", "test_set": "in", "mean": 0.8, "lower": 0.7, "upper": 0.9} | keys,
            {"arm": "real", "test_set": "in", "mean": 77.0, "lower": 1, "upper": 2} | keys | {"metric": "hd95_mm"},
        ]
    )
    difference = {"arm": "real+standard", "reference": "real", "lower": -0.25, "upper": 0.05, "p_holm": 0.03125}
    comparisons = pd.DataFrame([difference | keys | {"test_set": where, "mean": -0.1} for where in ("in", "out")])
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as stream:
        Console(file=stream, width=160).print(render(means, comparisons, ["real", "real+standard"], ("mr", "ct")))
        stream.seek(0)
        told = stream.read()
    lines = [line.replace("│", " ").split() for line in told.splitlines()]
    assert ["real", "0.900", "[0.850,", "0.950]", "0.100"] in lines
    assert ["real+standard", "0.800", "[0.700,", "0.900]"] in lines
    assert [
        *("real+standard", "real", "-0.100", "[-0.250,", "+0.050]", "-0.100", "[-0.250,", "+0.050]", "0.031"),
    ] in lines
    assert "77" not in told
    assert "mr in distribution, ct out of it" in told
