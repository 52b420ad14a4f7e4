"""Statistics against scipy, and by how often an interval holds the truth."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import expit

from medgan.evaluation.statistics import (
    by_subject,
    compare,
    holm,
    paired_difference,
    signed_rank_p,
    summarise,
    t_interval,
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


def test_images_of_one_subject_are_averaged_first():
    assert by_subject(rows(), ["mae_hu"]).loc["synthetic", "mae_hu"].to_dict() == {"s1": 15.0, "s2": 5.0}


def test_the_summary_holds_each_arm_and_its_difference_to_the_baseline():
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
