"""Comparisons of figures made up so that the answer is known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from medgan.benefit.augmentation.tables import ALL, MEAN, comparisons, means, slopes, with_mean

SIZES, SEEDS, SUBJECTS = (4, 8, 16), (0, 1), tuple("abcdef")
PAIRS = [("standard", "real"), ("standard+generator", "standard")]
GAIN = {"real": 0.0, "standard": 0.1, "standard+generator": 0.1}


def dice(arm, size, seed, subject, organ):
    """The generator adds .06, .04, .02 to front and nothing to back; seed 1 is .02 better than seed 0 everywhere."""
    extra = {4: 0.06, 8: 0.04, 16: 0.02}[size] if (arm, organ) == ("standard+generator", "front") else 0.0
    own = 0.01 * SUBJECTS.index(subject)
    return 0.5 + GAIN[arm] + extra * (1 + own) + own + 0.02 * seed


@pytest.fixture
def rows():
    found = pd.DataFrame(
        [
            {"arm": arm, "size": size, "seed": seed, "ratio_percent": 0, "subject": subject, "organ": organ}
            | {"dice": dice(arm, size, seed, subject, organ)}
            for arm, size, seed, subject, organ in product(GAIN, SIZES, SEEDS, SUBJECTS, ("front", "back"))
        ]
    )
    return found.assign(
        hd95_mm=1.0, surface_dice=0.5, volume_error_percent=np.nan, lesion_f1=np.nan, false_lesions=np.nan
    )


def one(table, **wanted):
    for key, value in wanted.items():
        table = table[table[key] == value]
    (row,) = table.to_dict("records")
    return row


def test_the_mean_of_organs_is_a_subjects_own(rows):
    table = with_mean(rows)
    key = {"arm": "standard+generator", "size": 4, "seed": 0, "subject": "a"}
    assert one(table, organ=MEAN, **key)["dice"] == pytest.approx((0.66 + 0.6) / 2)
    assert len(table) == 1.5 * len(rows)
    single = rows[rows["organ"] == "front"]
    assert with_mean(single) is single


def test_means_are_over_subjects_with_seeds_averaged(rows):
    row = one(means(rows), arm="real", size=8, organ="back", metric="dice")
    assert row["mean"] == pytest.approx(0.5 + 0.025 + 0.01)
    assert row["n"] == len(SUBJECTS)


def test_differences_are_told_for_all_seeds_and_for_each(rows):
    table = comparisons(with_mean(rows), PAIRS)
    key = {"arm": "standard+generator", "reference": "standard", "organ": "front", "metric": "dice"}
    for size, gain in {4: 0.06, 8: 0.04, 16: 0.02}.items():
        whole = one(table, size=size, seed=ALL, **key)
        assert whole["mean"] == pytest.approx(gain * 1.025)
        assert (whole["n"], whole["trainings"]) == (len(SUBJECTS), len(SEEDS))
        assert whole["lower"] > 0
        for seed in SEEDS:
            assert one(table, size=size, seed=str(seed), **key)["mean"] == pytest.approx(gain * 1.025)
    assert one(table, size=4, seed=ALL, **key | {"organ": MEAN})["mean"] == pytest.approx(0.03 * 1.025)


def test_false_alarms_in_healthy_subjects_are_compared_where_the_f1_has_nothing_to_say(rows):
    """In healthy a and b the generator alone finds something, twice in a: 3 false lesions in 6 subjects."""
    few = rows[(rows["size"] == 4) & (rows["organ"] == "front")]
    found = {("standard+generator", "a"): 2.0, ("standard+generator", "b"): 1.0}
    counts = np.array([found.get(key, 0.0) for key in zip(few["arm"], few["subject"], strict=True)])
    healthy = few["subject"].isin(["a", "b"])
    few = few.assign(false_lesions=counts, lesion_f1=np.where(healthy, np.where(counts > 0, 0.0, np.nan), 1.0))
    table = comparisons(few, PAIRS[1:])
    for seed in (ALL, *map(str, SEEDS)):
        hidden, told = (one(table, seed=seed, metric=metric) for metric in ("lesion_f1", "false_lesions"))
        assert (hidden["mean"], hidden["n"]) == (0, 4)
        assert (told["mean"], told["n"]) == (pytest.approx(3 / 6), 6)
    assert one(means(few), arm="standard", metric="false_lesions")["mean"] == 0


def test_a_seed_that_one_arm_lacks_is_not_compared(rows):
    fewer = rows[~((rows["arm"] == "standard+generator") & (rows["seed"] == 1))]
    table = comparisons(fewer, PAIRS)
    key = {"arm": "standard+generator", "organ": "front", "metric": "dice", "size": 4}
    assert one(table, seed=ALL, **key)["mean"] == pytest.approx(0.06 * 1.025)
    assert one(table, seed=ALL, **key)["trainings"] == 1
    assert table[(table["arm"] == "standard+generator") & (table["seed"] == "1")].empty


def test_the_slope_is_what_a_gain_loses_as_subjects_double(rows):
    table = slopes(rows, PAIRS)
    row = one(table, arm="standard+generator", organ="front")
    assert row["mean"] == pytest.approx(-0.02 * 1.025)
    assert row["upper"] < 0
    assert one(table, arm="standard", organ="front")["mean"] == pytest.approx(0, abs=1e-12)


def test_one_size_has_no_slope(rows):
    assert slopes(rows[rows["size"] == 4], PAIRS).empty


def test_nothing_is_compared_where_nothing_was_found(rows):
    empty = rows.iloc[:0]
    assert means(empty).empty
    assert comparisons(empty, PAIRS).empty
    assert slopes(empty, PAIRS).empty
