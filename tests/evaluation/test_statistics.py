"""Statistics against scipy, and by how often an interval holds the truth."""

import json
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import expit

from medgan.errors import DataError
from medgan.evaluation.statistics import (
    EFFECT,
    compare,
    compare_arms,
    holm,
    interval_text,
    paired_difference,
    plain,
    signed_rank_p,
    slope,
    summarise,
    t_interval,
    verdict,
)


def errors(n=12, seed=0):
    return np.random.default_rng(seed).gamma(3.0, 10.0, n)


@pytest.mark.parametrize("n", [2, 4, 12, 24])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_an_interval_is_that_of_scipys_t_test(n, level):
    values = errors(n)
    found = t_interval(values, level=level)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert (found.lower, found.upper, found.n) == pytest.approx((expected.low, expected.high, n))
    assert found.mean == pytest.approx(values.mean())


def test_an_interval_of_three_subjects_by_hand():
    found = t_interval(
        [1.0, 2.0, 3.0]
    )  # t of 2 degrees of freedom is 4.3027 in every table; the mean's error 1 / sqrt 3
    assert (found.lower, found.upper) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_a_higher_level_gives_a_wider_interval():
    narrow, wide = (t_interval(errors(), level=level) for level in (0.5, 0.99))
    assert wide.lower < narrow.lower < narrow.mean < narrow.upper < wide.upper


@pytest.mark.parametrize(
    ("values", "mean", "n"), [([], np.nan, 0), ([np.nan], np.nan, 0), ([4.0], 4.0, 1), ([4.0, np.nan], 4.0, 1)]
)
def test_below_two_subjects_there_is_no_interval(values, mean, n):
    found = t_interval(values)
    np.testing.assert_equal((found.mean, found.lower, found.upper, found.n), (mean, np.nan, np.nan, n))


def test_missing_values_are_left_out_and_counted_out():
    with_gaps = np.concatenate([errors(), [np.nan, np.nan]])
    assert t_interval(with_gaps) == t_interval(errors())
    assert t_interval(with_gaps).n == 12


def test_equal_values_leave_no_doubt():
    found = t_interval([3.0, 3.0, 3.0])
    assert (found.mean, found.lower, found.upper) == (3, 3, 3)


def test_an_infinite_value_gives_an_infinite_mean_without_bounds():
    found = t_interval([40.0, np.inf, 38.0])
    np.testing.assert_equal((found.mean, found.lower, found.upper, found.n), (np.inf, np.nan, np.nan, 3))


def by_id(values):
    return pd.Series(values, index=[f"s{i}" for i in range(len(values))])


def test_a_paired_difference_is_matched_by_subject_whatever_their_order():
    a, b = by_id(errors(seed=0)), by_id(errors(seed=1))
    found = paired_difference(a, b.sample(frac=1, random_state=0))
    assert found.mean == pytest.approx(np.mean(a - b))
    assert found.p_value == pytest.approx(stats.wilcoxon(a - b).pvalue)
    assert (found.lower, found.upper) == pytest.approx(tuple(stats.ttest_rel(a, b).confidence_interval()))


def test_pairing_tells_a_small_constant_gain_from_large_differences_between_subjects():
    a = by_id(errors())
    noise = np.random.default_rng(1).normal(0, 0.1, len(a))
    found = paired_difference(a - 1 + noise, a)
    assert found.upper < -0.8
    assert found.p_value < 0.01


def test_subjects_that_one_side_lacks_are_left_out():
    found = paired_difference(by_id([1.0, 2.0, np.nan, 9.0]), by_id([0.0, 0.0, 0.0]))
    assert (found.mean, found.n) == (1.5, 2)


def test_without_any_difference_the_test_says_so():
    assert paired_difference(by_id([1.0, 2.0]), by_id([1.0, 2.0])).p_value == 1


@pytest.mark.parametrize("values", [[], [1.0]])
def test_a_difference_needs_two_subjects(values):
    found = paired_difference(by_id(values), by_id(values))
    assert np.isnan([found.lower, found.upper, found.p_value]).all()


def rows():
    return pd.DataFrame(
        [
            ("s1", "synthetic", 10.0),
            ("s1", "synthetic", 20.0),
            ("s2", "synthetic", 5.0),
            ("s1", "do_nothing", 30.0),
            ("s1", "do_nothing", 30.0),
            ("s2", "do_nothing", 20.0),
        ],
        columns=["subject", "arm", "mae_hu"],
    )


def test_the_summary_averages_a_subjects_images_first_and_holds_the_difference_to_the_baseline():
    table = summarise(rows(), ["mae_hu"], baseline="do_nothing").set_index("arm")
    assert table.loc["synthetic", ["mean", "n", "difference", "change_percent"]].tolist() == [10, 2, -15, -60]
    assert table.loc["do_nothing", "mean"] == 25
    assert np.isnan(table.loc["do_nothing", "difference"])


def test_the_summary_has_students_intervals_of_means_and_of_paired_differences():
    subjects, a, b = [f"s{i}" for i in range(6)], errors(6), errors(6, seed=1)
    frame = pd.concat(
        pd.DataFrame({"subject": subjects, "arm": arm, "mae_hu": values}) for arm, values in (("a", a), ("b", b))
    )
    row = summarise(frame, ["mae_hu"], baseline="b").set_index("arm").loc["a"]
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(stats.ttest_1samp(a, 0).confidence_interval()))
    paired = tuple(stats.ttest_rel(a, b).confidence_interval())
    assert (row["difference_lower"], row["difference_upper"]) == pytest.approx(paired)
    against = compare(frame, ["mae_hu"], "a", away_from_zero).iloc[0]
    assert (against["lower"], against["upper"]) == pytest.approx(paired)


def test_one_subject_has_means_and_differences_without_intervals():
    row = (
        summarise(rows().query("subject == 's1'"), ["mae_hu"], baseline="do_nothing").set_index("arm").loc["synthetic"]
    )
    assert (row["mean"], row["difference"], row["n"]) == (15, -15, 1)
    assert row[["lower", "upper", "difference_lower", "difference_upper", "p_value"]].isna().all()


def test_without_a_baseline_there_are_no_differences():
    assert summarise(rows(), ["mae_hu"])["difference"].isna().all()


def test_an_infinite_baseline_gives_no_difference():
    frame = rows().assign(mae_hu=[1.0, 1.0, 2.0, np.inf, np.inf, np.inf])
    found = summarise(frame, ["mae_hu"], baseline="do_nothing").set_index("arm").loc["synthetic"]
    assert found["difference"] == -np.inf
    assert np.isnan([found["difference_lower"], found["change_percent"]]).all()


def away_from_zero(name, values):
    return values.abs() if name == "mae_hu" else None


def test_an_arm_is_compared_with_every_other_one_subject_by_subject():
    more = pd.DataFrame([("s1", "constant", 15.0), ("s2", "constant", 4.0)], columns=["subject", "arm", "mae_hu"])
    found = compare(pd.concat([rows(), more]), ["mae_hu"], "synthetic", away_from_zero).set_index("baseline")
    assert list(found.index) == ["do_nothing", "constant"]
    assert found.loc["do_nothing", ["difference", "n", "better_in"]].tolist() == [-15, 2, 2]
    assert found.loc["constant", ["difference", "n", "better_in"]].tolist() == [0.5, 2, 0]  # a tie, and worse by 1


def test_figures_without_a_best_value_are_compared_and_not_counted():
    frame = rows().rename(columns={"mae_hu": "mean_hu"})
    found = compare(frame, ["mean_hu"], "synthetic", away_from_zero).iloc[0]
    assert found["difference"] == -15
    assert np.isnan(found["better_in"])


def test_of_two_perfect_arms_neither_is_better():
    frame = rows().assign(mae_hu=np.inf)
    found = compare(frame, ["mae_hu"], "synthetic", lambda _, values: -values).iloc[0]
    assert found["n"] == 0
    assert np.isnan(found["better_in"])


def test_an_arm_that_is_not_there_is_compared_with_nothing():
    assert compare(rows(), ["mae_hu"], "other", away_from_zero).empty


def test_values_that_differ_by_rounding_are_equal():
    found = t_interval([3.0, 3.0 + 1e-15, 3.0 - 1e-15])
    assert found.lower == found.upper == found.mean


def drawn(n, kind):
    rng = np.random.default_rng(n)
    whole = {"distinct": rng.normal(size=n), "ties": rng.integers(1, 4, n) * rng.choice([-1, 1], n)}
    return whole.get(kind, rng.integers(-2, 3, n)).astype(float)


@pytest.mark.parametrize("n", [4, 8, 12])
def test_over_1000_null_studies_the_t_interval_covers_and_wilcoxon_keeps_its_level(n):
    rng = np.random.default_rng(n)
    studies = expit(rng.normal(1.5, 1, (1000, 1, n)) + rng.normal(0, 0.5, (1000, 2, n)))  # Dice of two equal arms
    differences = studies[:, 0] - studies[:, 1]
    intervals = [t_interval(each) for each in differences]
    assert 0.93 <= np.mean([i.lower <= 0 <= i.upper for i in intervals]) <= 0.97
    assert np.mean([signed_rank_p(each) < 0.05 for each in differences]) < 0.065  # .05 and two standard errors


@pytest.mark.parametrize("kind", ["distinct", "ties", "ties and zeros"])
@pytest.mark.parametrize("n", [2, 5, 8, 20])
def test_the_signed_rank_test_is_that_of_scipy(n, kind):
    values = drawn(n, kind)
    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values).pvalue)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_subjects_that_all_agree_give_the_lowest_p_there_is(n):
    assert signed_rank_p(np.arange(1, n + 1)) == 2.0 ** (1 - n)


def test_differences_of_zero_say_nothing():
    assert signed_rank_p([0.0, 0.0, 0.0]) == 1
    assert signed_rank_p([1.0, 2.0, -4.0, 0.0, np.nan]) == signed_rank_p([1.0, 2.0, -4.0])


def closed_testing(p):
    """Holm by its definition: a hypothesis falls when every intersection with it falls by Bonferroni."""
    every = [set(c) for size in range(1, len(p) + 1) for c in combinations(range(len(p)), size)]
    return [max(min(1.0, len(some) * min(p[i] for i in some)) for some in every if i in some) for i in range(len(p))]


@given(arrays(np.float64, st.integers(1, 7), elements=st.floats(0, 1)))
@settings(max_examples=15, deadline=None)
def test_holm_is_closed_testing_with_bonferroni(p):
    np.testing.assert_allclose(holm(p), closed_testing(p))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1, 1])


def test_a_p_value_that_is_not_known_is_not_counted():
    np.testing.assert_allclose(holm([np.nan, 0.02, np.nan, 0.03]), [np.nan, 0.04, np.nan, 0.04])
    assert holm([]).size == 0


def test_in_null_studies_of_seven_arms_holm_finds_something_in_one_of_twenty_at_most():
    rng = np.random.default_rng(1)
    figures = rng.normal(size=(200, 8, 9))
    p = [[signed_rank_p(study[0] - arm) for arm in study[1:]] for study in figures]
    found = [each for each in p if min(each) < 0.05]  # a correction finds nothing anew
    assert len(found) > 0.1 * len(p)
    assert sum(holm(each).min() < 0.05 for each in found) < 0.07 * len(p)


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
    assert tuple(found.columns) == EFFECT
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
    shown = [name for name in EFFECT if name != "trainings"]
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


PLACES = [0.0, 0.5, 1.0]


def measured(subjects=12, places=PLACES, rise=-0.4, noise=0.1, seed=0):
    random = np.random.default_rng(seed)
    levels = random.normal(0, 5, (subjects, 1))
    return pd.DataFrame(
        levels + rise * np.array(places) + random.normal(0, noise, (subjects, len(places))), columns=places
    )


@pytest.mark.parametrize("places", [PLACES, [0.0, 0.1, 1.0, 2.5], [3, 4]])
def test_the_slope_is_that_of_the_least_squares_line_through_all_points(places):
    values = measured(places=places)
    x = np.tile(np.array(places, dtype=float), len(values))
    assert slope(values).mean == pytest.approx(np.polyfit(x, values.to_numpy().ravel(), 1)[0])


def test_the_interval_is_students_of_the_subjects_own_slopes():
    values = measured(subjects=6)
    own = [np.polyfit(PLACES, row, 1)[0] for row in values.to_numpy()]
    found = slope(values)
    assert (found.lower, found.upper) == pytest.approx(tuple(stats.ttest_1samp(own, 0).confidence_interval()))


def test_one_subject_has_a_slope_without_an_interval():
    found = slope(measured(subjects=1))
    assert np.isfinite(found.mean)
    assert np.isnan([found.lower, found.upper]).all()


def test_differences_between_subjects_do_not_widen_the_interval():
    found = slope(measured(rise=-0.4, noise=0.05))
    assert found.lower < -0.4 < found.upper
    assert found.upper - found.lower < 0.15
    assert found.n == 12


def test_the_interval_covers_what_is_true_in_about_95_of_a_hundred_studies():
    inside = 0
    for seed in range(60):
        found = slope(measured(subjects=20, rise=0.0, noise=1.0, seed=seed))
        inside += found.lower <= 0 <= found.upper
    assert inside >= 51  # of 60; 57 are expected


def test_subjects_that_were_not_measured_everywhere_are_left_out():
    values = measured()
    values.loc[3, 0.5] = np.nan
    assert slope(values).n == 11
    assert slope(values).mean == pytest.approx(slope(values.drop(index=3)).mean)
    assert slope(values.iloc[:0]).n == 0


NAN = np.nan


@pytest.mark.parametrize(
    ("numbers", "form", "text"),
    [
        ((0.1, 0.02, 0.18), ".3f", "0.100 [0.020, 0.180]"),
        ((0.1, -0.02, 0.22), "+.2f", "+0.10 [-0.02, +0.22]"),
        ((0.1, NAN, NAN), ".3f", "0.100"),
        ((np.inf, NAN, NAN), ".1f", "inf"),
        ((NAN, NAN, NAN), ".1f", "none"),
    ],
)
def test_an_interval_as_text(numbers, form, text):
    assert interval_text(*numbers, form, missing="none") == text


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (-0.1, 0.1, "not shown"),
        (0.0, 0.1, "not shown"),
        (-0.1, 0.0, "not shown"),
        (NAN, NAN, "unknown"),
    ],
)
def test_a_verdict_is_whether_the_interval_leaves_out_zero(lower, upper, expected):
    assert verdict({"lower": lower, "upper": upper}) == expected


def test_figures_that_json_has_no_number_for_become_null_or_text():
    table = pd.DataFrame({"metric": ["psnr_db", "mae_hu"], "mean": [np.inf, np.nan], "n": [2, 3]})
    content = {"table": table, "pooled": {"real": -np.inf}, "notes": ("a", 1.5)}
    assert json.loads(json.dumps(plain(content), allow_nan=False)) == {
        "table": [{"metric": "psnr_db", "mean": "inf", "n": 2}, {"metric": "mae_hu", "mean": None, "n": 3}],
        "pooled": {"real": "-inf"},
        "notes": ["a", 1.5],
    }
