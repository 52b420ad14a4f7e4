"""Comparisons of arms against figures worked out by hand, and against a loop over scipy."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medgan.errors import DataError
from medgan.evaluation.comparisons import FOUND, compare_arms
from medgan.evaluation.statistics import holm

PAIRS = (("real+standard", "real"), ("real+synthetic", "real"), ("oracle", "real+standard"))
ARMS = ("real", "real+standard", "real+synthetic", "oracle")
SUBJECTS = ("s1", "s2", "s3", "s4", "s5", "s6")


def study(arms=ARMS, seeds=(0, 1), subsets=(0, 1), subjects=SUBJECTS):
    rng = np.random.default_rng(0)
    keys = list(product(arms, seeds, subsets, ("in", "out"), subjects, ("kidney", "liver")))
    frame = pd.DataFrame(keys, columns=["arm", "seed", "subset", "test_set", "subject", "organ"])
    return frame.assign(dice=rng.beta(8, 2, len(frame)), hd95_mm=rng.gamma(3, 2, len(frame)))


def compared(rows, metrics=("dice",), pairs=PAIRS):
    return compare_arms(rows, pairs, metrics)


def test_each_pair_test_set_organ_and_metric_has_a_row():
    found = compared(study(), ("dice", "hd95_mm"))
    assert tuple(found.columns) == FOUND
    assert len(found) == len(PAIRS) * 2 * 2 * 2
    assert not found.duplicated(["arm", "reference", "test_set", "organ", "metric"]).any()


def test_effects_are_those_of_subjects_averaged_over_seeds_and_subsets():
    rows = study()
    for found in compared(rows).to_dict("records"):
        own = rows[(rows["test_set"] == found["test_set"]) & (rows["organ"] == found["organ"])]
        arm, other = (own[own["arm"] == found[key]].groupby("subject")["dice"].mean() for key in ("arm", "reference"))
        expected = stats.ttest_rel(arm, other)
        assert found["mean"] == pytest.approx((arm - other).mean())
        assert (found["lower"], found["upper"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert (found["n"], found["p_value"]) == (6, pytest.approx(stats.wilcoxon(arm, other).pvalue))


def test_repeating_every_training_makes_nothing_surer():
    once = study(seeds=(0,), subsets=(0,))
    often = pd.concat([once.assign(seed=seed) for seed in range(5)])
    shown = [name for name in FOUND if name != "trainings"]
    pd.testing.assert_frame_equal(compared(once)[shown], compared(often)[shown])


def test_p_values_are_corrected_over_the_arms_of_one_organ_and_test_set():
    for _, own in compared(study()).groupby(["test_set", "organ"]):
        np.testing.assert_allclose(own["p_holm"], holm(own["p_value"]))


def test_the_trainings_are_told_apart_by_hand():
    rows = pd.DataFrame(
        [
            ("a", 0, "s1", 0.9), ("a", 0, "s2", 0.7), ("a", 1, "s1", 0.5), ("a", 1, "s2", 0.5),
            ("b", 0, "s1", 0.5), ("b", 0, "s2", 0.5), ("b", 1, "s1", 0.6), ("b", 1, "s2", 0.6),
        ],
        columns=["arm", "seed", "subject", "dice"],
    ).assign(subset=0, test_set="out", organ="liver")  # fmt: skip
    (found,) = compared(rows, pairs=[("a", "b")]).to_dict("records")
    assert (found["trainings"], found["n"]) == (2, 2)
    assert (found["lowest_training"], found["highest_training"]) == pytest.approx((-0.1, 0.3))
    assert found["mean"] == pytest.approx(0.1)  # s1: .4 and -.1, s2: .2 and -.1


def test_a_subject_counts_where_both_arms_know_it_in_the_same_training():
    rows = study(arms=("a", "b"), seeds=(0,), subsets=(0,))
    rows.loc[(rows["arm"] == "a") & (rows["subject"] == "s1"), "dice"] = np.nan
    missing = rows[~((rows["arm"] == "b") & (rows["subject"] == "s2"))]
    assert set(compared(missing, pairs=[("a", "b")])["n"]) == {4}


def test_one_subject_gives_a_difference_without_an_interval():
    for found in compared(study(subjects=("s1",))).to_dict("records"):
        assert found["n"] == 1
        assert np.isfinite(found["mean"])
        assert np.isnan([found["lower"], found["upper"], found["p_value"], found["p_holm"]]).all()


def test_what_is_defined_for_nobody_has_no_row():
    found = compared(study().assign(lesion_f1=np.nan), ("dice", "lesion_f1"))
    assert set(found["metric"]) == {"dice"}


def test_pairs_of_arms_that_were_not_trained_are_passed_over():
    found = compared(study(arms=("real", "real+standard")))
    assert set(found["arm"]) == {"real+standard"}
    assert compared(study(arms=("oracle",))).empty


def test_several_ratios_of_one_arm_are_no_repetitions():
    rows = study()
    with pytest.raises(DataError, match=r"more than one row for arm real, .* one ratio"):
        compared(pd.concat([rows, rows]))
