import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.benefit.routes.table import render, routes_table

DICE = {
    ("mr", 2): [0.2, 0.4, 0.6],
    ("mr", 4): [0.5, 0.6, 0.7],
    ("synthetic_ct", 2): [0.5, 0.5, 0.5],
    ("synthetic_ct", 4): [0.5, 0.7, 0.6],
    ("threshold", 0): [0.4, 0.5, 0.7],
}


def rows(seeds=(0, 1)):
    return pd.DataFrame(
        [
            {"route": route, "labelled": labelled, "fold": 0, "seed": seed, "subject": f"s{number}"}
            # Seeds differ, and their mean is the value: they are no evidence of their own.
            | {"dice": value + 0.1 * (2 * seed - 1) * bool(labelled), "surface_dice": value / 2}
            for (route, labelled), values in DICE.items()
            for seed in (seeds if labelled else (0,))
            for number, value in enumerate(values)
        ]
    )


def cell(table, labelled, route, metric="dice"):
    chosen = table[(table["labelled"] == labelled) & (table["route"] == route) & (table["metric"] == metric)]
    return chosen.iloc[0]


@pytest.fixture(scope="module")
def table():
    return routes_table(rows(), [4, 2])


@pytest.mark.parametrize("labelled", [2, 4])
@pytest.mark.parametrize("route", ["synthetic_ct", "threshold"])
def test_routes_are_compared_with_mr_of_as_many_labels_by_subject(table, labelled, route):
    own = DICE[route, labelled] if (route, labelled) in DICE else DICE[route, 0]
    found = cell(table, labelled, route)
    assert found["mean"] == pytest.approx(np.mean(own))
    assert found["difference"] == pytest.approx(np.mean(own) - np.mean(DICE["mr", labelled]))
    assert found["difference_lower"] <= found["difference"] <= found["difference_upper"]
    assert found["n"] == 3


def test_mr_is_the_reference_and_a_threshold_is_the_same_for_every_number(table):
    assert np.isnan(cell(table, 2, "mr")["difference"])
    assert cell(table, 2, "threshold")["mean"] == cell(table, 4, "threshold")["mean"]
    assert cell(table, 2, "threshold", "surface_dice")["mean"] == pytest.approx(1.6 / 6)


def test_the_numbers_rise_and_routes_keep_their_order(table):
    dice = table[table["metric"] == "dice"]
    assert list(zip(dice["labelled"], dice["route"], strict=True)) == [
        (number, route) for number in (2, 4) for route in ("mr", "synthetic_ct", "threshold")
    ]


def test_a_number_without_figures_is_left_out_and_without_mr_there_is_no_difference():
    frame = rows()
    table = routes_table(frame[frame["route"] != "mr"], [2, 4, 8])
    assert set(table[table["labelled"] == 8]["route"]) == {"threshold"}
    assert table["difference"].isna().all()


def test_every_line_is_told_with_its_interval_in_80_columns(table, tmp_path):
    with (tmp_path / "told").open("w+", encoding="utf-8") as stream:
        Console(file=stream, width=80).print(render(table))
        stream.seek(0)
        told = stream.read()
    assert "Dice of bone" in told
    assert "Surface Dice of bone, 2 mm" in told
    line = next(line for line in told.splitlines() if "sCT segmenter" in line)
    assert "0.500 [0.500, 0.500]" in line
    assert "+0.100 [" in line
