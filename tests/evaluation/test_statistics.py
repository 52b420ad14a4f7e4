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
    share_interval,
    signed_rank_p,
    slope,
    summarise,
    t_interval,
    verdict,
)

NAN = np.nan


def errors(n=12, seed=0):
    return np.random.default_rng(seed).gamma(3.0, 10.0, n)


def bounds(interval):
    return interval.mean, interval.lower, interval.upper, interval.n


@pytest.mark.parametrize("n", [2, 4, 12, 24])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_an_interval_is_that_of_scipys_t_test(n, level):
    values = errors(n)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert bounds(t_interval(values, level=level)) == pytest.approx((values.mean(), expected.low, expected.high, n))
    assert t_interval([*values, NAN, NAN], level=level) == t_interval(values, level=level)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (NAN, NAN, NAN, 0)),
        ([NAN], (NAN, NAN, NAN, 0)),
        ([4.0], (4, NAN, NAN, 1)),
        ([4.0, NAN], (4, NAN, NAN, 1)),
        ([3.0, 3.0, 3.0], (3, 3, 3, 3)),
        ([3.0, 3.0 + 1e-15, 3.0 - 1e-15], (3, 3, 3, 3)),
        ([40.0, np.inf, 38.0], (np.inf, NAN, NAN, 3)),
    ],
)
def test_below_two_finite_subjects_there_is_no_interval_and_equal_values_leave_no_doubt(values, expected):
    np.testing.assert_equal(bounds(t_interval(values)), expected)


def by_id(values):
    return pd.Series(values, index=[f"s{i}" for i in range(len(values))])


def test_a_paired_difference_is_matched_by_subject_whatever_their_order():
    a, b = by_id(errors(seed=0)), by_id(errors(seed=1))
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert paired_difference(a, b.sample(frac=1, random_state=0)) == pytest.approx(
        {"mean": np.mean(a - b), "lower": expected.low, "upper": expected.high, "n": 12}
        | {"p_value": stats.wilcoxon(a - b).pvalue}
    )


def test_subjects_that_one_side_lacks_are_left_out_and_two_are_needed():
    found = paired_difference(by_id([1.0, 2.0, NAN, 9.0]), by_id([0.0, 0.0, 0.0]))
    assert (found["mean"], found["n"]) == (1.5, 2)
    assert paired_difference(by_id([1.0, 2.0]), by_id([1.0, 2.0]))["p_value"] == 1
    for values in (by_id([]), by_id([1.0])):
        assert np.isnan([paired_difference(values, values)[name] for name in ("lower", "upper", "p_value")]).all()


def rows(subjects=("s1", "s1", "s2"), synthetic=(10.0, 20.0, 5.0), do_nothing=(30.0, 30.0, 20.0)):
    """Images of two arms."""
    arms = {"synthetic": synthetic, "do_nothing": do_nothing}
    parts = [pd.DataFrame({"subject": subjects, "arm": arm, "mae_hu": values}) for arm, values in arms.items()]
    return pd.concat(parts, ignore_index=True)


def summary(frame, baseline="do_nothing"):
    return summarise(frame, ["mae_hu"], baseline=baseline).set_index("arm")


def test_the_summary_averages_a_subjects_images_first_and_holds_the_difference_to_the_baseline():
    table = summary(rows())
    assert table.loc["synthetic", ["mean", "n", "difference", "change_percent"]].tolist() == [10, 2, -15, -60]
    assert table.loc["do_nothing", "mean"] == 25
    assert np.isnan(table.loc["do_nothing", "difference"])
    assert summary(rows(), None)["difference"].isna().all()


def test_the_summary_has_students_intervals_of_means_and_of_paired_differences():
    subjects, a, b = [f"s{i}" for i in range(6)], errors(6), errors(6, seed=1)
    frame = rows(subjects, a, b)
    row = summary(frame).loc["synthetic"]
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(stats.ttest_1samp(a, 0).confidence_interval()))
    paired = tuple(stats.ttest_rel(a, b).confidence_interval())
    assert (row["difference_lower"], row["difference_upper"]) == pytest.approx(paired)
    against = compare(frame, ["mae_hu"], "synthetic", away_from_zero).iloc[0]
    assert (against["lower"], against["upper"]) == pytest.approx(paired)


def test_one_subject_or_an_infinite_baseline_has_differences_without_intervals():
    row = summary(rows(["s1"], [15.0], [30.0])).loc["synthetic"]
    assert (row["mean"], row["difference"], row["n"]) == (15, -15, 1)
    assert row[["lower", "upper", "difference_lower", "difference_upper", "p_value"]].isna().all()
    row = summary(rows(synthetic=[1.0, 1.0, 2.0], do_nothing=np.inf)).loc["synthetic"]
    assert row["difference"] == -np.inf
    assert np.isnan([row["difference_lower"], row["change_percent"]]).all()


def away_from_zero(name, values):
    return values.abs() if name == "mae_hu" else None


def test_an_arm_is_compared_with_every_other_one_subject_by_subject():
    more = pd.DataFrame([("s1", "constant", 15.0), ("s2", "constant", 4.0)], columns=["subject", "arm", "mae_hu"])
    found = compare(pd.concat([rows(), more]), ["mae_hu"], "synthetic", away_from_zero).set_index("baseline")
    assert list(found.index) == ["do_nothing", "constant"]
    assert found.loc["do_nothing", ["difference", "n", "better_in"]].tolist() == [-15, 2, 2]
    assert found.loc["constant", ["difference", "n", "better_in"]].tolist() == [0.5, 2, 0]  # a tie, and worse by 1
    assert compare(rows(), ["mae_hu"], "other", away_from_zero).empty


def test_figures_without_a_best_value_and_of_two_perfect_arms_are_compared_and_not_counted():
    found = compare(rows().rename(columns={"mae_hu": "mean_hu"}), ["mean_hu"], "synthetic", away_from_zero).iloc[0]
    assert found["difference"] == -15
    assert np.isnan(found["better_in"])
    perfect = rows().assign(mae_hu=np.inf)
    found = compare(perfect, ["mae_hu"], "synthetic", lambda _, values: -values).iloc[0]
    assert found["n"] == 0
    assert np.isnan(found["better_in"])


@pytest.mark.parametrize("n", [4, 12])
def test_over_1000_null_studies_the_t_interval_covers_and_wilcoxon_keeps_its_level(n):
    rng = np.random.default_rng(n)
    studies = expit(rng.normal(1.5, 1, (1000, 1, n)) + rng.normal(0, 0.5, (1000, 2, n)))  # Dice of two equal arms
    differences = studies[:, 0] - studies[:, 1]
    intervals = [t_interval(each) for each in differences]
    assert 0.93 <= np.mean([i.lower <= 0 <= i.upper for i in intervals]) <= 0.97
    assert np.mean([signed_rank_p(each) < 0.05 for each in differences]) < 0.065  # .05 and two standard errors


def drawn(n, kind):
    rng = np.random.default_rng(n)
    whole = {"distinct": rng.normal(size=n), "ties": rng.integers(1, 4, n) * rng.choice([-1, 1], n)}
    return whole.get(kind, rng.integers(-2, 3, n)).astype(float)


@pytest.mark.parametrize("kind", ["distinct", "ties", "ties and zeros"])
@pytest.mark.parametrize("n", [2, 5, 8, 20])
def test_the_signed_rank_test_is_that_of_scipy(n, kind):
    values = drawn(n, kind)
    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values).pvalue)


def test_subjects_that_all_agree_give_the_lowest_p_there_is_and_differences_of_zero_say_nothing():
    assert [signed_rank_p(np.arange(1, n + 1)) for n in (2, 5, 9)] == [2.0 ** (1 - n) for n in (2, 5, 9)]
    assert signed_rank_p([0.0, 0.0, 0.0]) == 1
    assert signed_rank_p([1.0, 2.0, -4.0, 0.0, NAN]) == signed_rank_p([1.0, 2.0, -4.0])


def closed_testing(p):
    """Holm by its definition: a hypothesis falls when every intersection with it falls by Bonferroni."""
    every = [set(c) for size in range(1, len(p) + 1) for c in combinations(range(len(p)), size)]
    return [max(min(1.0, len(some) * min(p[i] for i in some)) for some in every if i in some) for i in range(len(p))]


@given(arrays(np.float64, st.integers(1, 7), elements=st.floats(0, 1)))
@settings(max_examples=15, deadline=None)
def test_holm_is_closed_testing_with_bonferroni(p):
    np.testing.assert_allclose(holm(p), closed_testing(p))


def test_holm_by_hand_and_a_p_value_that_is_not_known_is_not_counted():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([NAN, 0.02, NAN, 0.03]), [NAN, 0.04, NAN, 0.04])
    assert holm([]).size == 0


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


def test_each_pair_test_set_organ_and_metric_that_is_defined_has_a_row():
    found = compared(study().assign(lesion_f1=NAN), ("dice", "hd95_mm", "lesion_f1"))
    assert tuple(found.columns) == EFFECT
    assert set(found["metric"]) == {"dice", "hd95_mm"}
    assert len(found) == len(PAIRS) * 2 * 2 * 2
    assert not found.duplicated(["arm", "reference", "test_set", "organ", "metric"]).any()


def test_effects_are_those_of_subjects_averaged_over_seeds_and_subsets_and_corrected_over_the_arms():
    rows = study()
    for found in compared(rows).to_dict("records"):
        own = rows[(rows["test_set"] == found["test_set"]) & (rows["organ"] == found["organ"])]
        arm, other = (own[own["arm"] == found[key]].groupby("subject")["dice"].mean() for key in ("arm", "reference"))
        expected = stats.ttest_rel(arm, other)
        assert found["mean"] == pytest.approx((arm - other).mean())
        assert (found["lower"], found["upper"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert (found["n"], found["p_value"]) == (6, pytest.approx(stats.wilcoxon(arm, other).pvalue))
    for _, own in compared(rows).groupby(["test_set", "organ"]):
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
    rows.loc[(rows["arm"] == "a") & (rows["subject"] == "s1"), "dice"] = NAN
    missing = rows[~((rows["arm"] == "b") & (rows["subject"] == "s2"))]
    assert set(compared(missing, pairs=[("a", "b")])["n"]) == {4}


def test_one_subject_gives_no_interval_and_pairs_of_arms_that_were_not_trained_are_passed_over():
    alone = compared(study(subjects=("s1",)))
    assert (alone["n"] == 1).all()
    assert np.isfinite(alone["mean"]).all()
    assert alone[["lower", "upper", "p_value", "p_holm"]].isna().all(axis=None)
    assert set(compared(study(arms=("real", "real+standard")))["arm"]) == {"real+standard"}
    assert compared(study(arms=("oracle",))).empty


def test_several_ratios_of_one_arm_are_no_repetitions():
    with pytest.raises(DataError, match=r"more than one row for arm real, .* one ratio"):
        compared(pd.concat([study(), study()]))


PLACES = [0.0, 0.5, 1.0]


def measured(subjects=12, places=PLACES, rise=-0.4, noise=0.1, seed=0):
    random = np.random.default_rng(seed)
    levels = random.normal(0, 5, (subjects, 1))
    values = levels + rise * np.array(places) + random.normal(0, noise, (subjects, len(places)))
    return pd.DataFrame(values, columns=places)


@pytest.mark.parametrize("places", [PLACES, [0.0, 0.1, 1.0, 2.5], [3, 4]])
def test_the_slope_is_the_least_squares_line_through_all_points_with_the_interval_of_the_subjects_own(places):
    values = measured(subjects=6, places=places)
    x = np.tile(np.array(places, dtype=float), len(values))
    found = slope(values)
    assert found.mean == pytest.approx(np.polyfit(x, values.to_numpy().ravel(), 1)[0])
    own = [np.polyfit(places, row, 1)[0] for row in values.to_numpy()]
    assert (found.lower, found.upper) == pytest.approx(tuple(stats.ttest_1samp(own, 0).confidence_interval()))


def test_subjects_that_were_not_measured_everywhere_are_left_out():
    values = measured()
    values.loc[3, 0.5] = NAN
    assert slope(values).n == 11
    assert slope(values).mean == pytest.approx(slope(values.drop(index=3)).mean)
    assert slope(values.iloc[:0]).n == 0


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
    ("bounds", "expected"),
    [
        ([(0.1, 0.2)], "higher"),
        ([(-0.2, -0.1)], "lower"),
        ([(-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0)], "not shown"),
        ([(NAN, NAN)], "unknown"),
    ],
)
def test_a_verdict_is_whether_the_interval_leaves_out_zero(bounds, expected):
    assert [verdict({"lower": lower, "upper": upper}) for lower, upper in bounds] == [expected] * len(bounds)


def test_figures_that_json_has_no_number_for_become_null_or_text():
    table = pd.DataFrame({"metric": ["psnr_db", "mae_hu"], "mean": [np.inf, NAN], "n": [2, 3]})
    content = {"table": table, "pooled": {"real": -np.inf}, "notes": ("a", 1.5)}
    assert json.loads(json.dumps(plain(content), allow_nan=False)) == {
        "table": [{"metric": "psnr_db", "mean": "inf", "n": 2}, {"metric": "mae_hu", "mean": None, "n": 3}],
        "pooled": {"real": "-inf"},
        "notes": ["a", 1.5],
    }


def test_a_share_has_the_exact_interval():
    share = share_interval(18, 20)
    assert (share.lower, share.upper) == pytest.approx((stats.beta.ppf(0.025, 18, 3), stats.beta.ppf(0.975, 19, 2)))
    assert np.isnan(share_interval(0, 0).mean)
