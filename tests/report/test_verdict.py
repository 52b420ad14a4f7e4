"""What is said of figures whose meaning is known."""

import pytest

from medgan.report.findings import read_findings
from medgan.report.verdict import answer, caveats, details, question

SURE = {"n": 12, "p_value": 0.001, "p_holm": 0.01, "trainings": 3, "lowest_training": 0.0, "highest_training": 0.2}
ADDED = {"arm": "real+standard+synthetic", "reference": "real+standard"}


def effect(mean, lower, upper, **other):
    named = {"test_set": "out", "organ": "kidney", "metric": "dice"} | ADDED
    return named | SURE | {"mean": mean, "lower": lower, "upper": upper} | other


def of(make_study, *effects):
    return read_findings(make_study(comparisons=list(effects)))


@pytest.mark.parametrize(
    ("bounds", "p_holm", "expected"),
    [
        ((0.02, 0.18), 0.01, "kidney: yes. Dice +0.100 [+0.020, +0.180], n = 12 subjects"),
        ((0.02, 0.18), 0.30, "kidney: yes by the interval, but not after correction over the arms."),
        ((-0.02, 0.22), 0.30, "kidney: no difference is shown."),
        ((-0.02, 0.22), 0.01, "kidney: no difference is shown."),
        ((-0.30, -0.10), 0.01, "kidney: no, it harms."),
        ((None, None), None, "kidney: cannot be said."),
    ],
)
def test_the_answer_is_that_of_the_interval_and_of_the_correction(make_study, bounds, p_holm, expected):
    asked, (told,) = answer(of(make_study, effect(0.1, *bounds, p_holm=p_holm)))
    assert "real+standard+synthetic against real+standard" in asked
    assert told.startswith(expected)


def test_every_organ_has_its_own_answer(make_study):
    _, told = answer(of(make_study, effect(0.1, 0.05, 0.15), effect(0.0, -0.1, 0.1, organ="liver")))
    assert [line.split(".")[0] for line in told] == ["kidney: yes", "liver: no difference is shown"]


def test_without_standard_arms_the_plain_pair_is_asked_about(make_study):
    plain = {"arm": "real+synthetic", "reference": "real"}
    assert question(of(make_study, effect(0.1, 0.05, 0.15, **plain))) == ("real+synthetic", "real")


@pytest.mark.parametrize(
    "effects", [(), (effect(0.1, 0.0, 0.2, arm="oracle"),), (effect(0.1, 0.05, 0.2, test_set="in"),)]
)
def test_without_an_arm_to_judge_nothing_is_claimed(make_study, effects):
    asked, told = answer(of(make_study, *effects))
    assert "cannot be said" in asked
    assert told == []


@pytest.mark.parametrize(
    ("bounds", "said"), [((-0.2, -0.1), "hurts, as it must"), ((0.1, 0.2), "HELPS"), ((-0.1, 0.1), "with care")]
)
def test_the_control_is_judged(make_study, bounds, said):
    control = effect(sum(bounds) / 2, *bounds, arm="real+shuffled", reference="real")
    (told,) = details(of(make_study, control))
    assert said in told


def test_a_null_result_against_histogram_matching_is_said_plainly(make_study):
    (told,) = details(of(make_study, effect(0.01, -0.1, 0.1, reference="real+matched")))
    assert "not shown to be better than histogram matching" in told


def test_what_it_costs_in_distribution_is_said(make_study):
    (told,) = details(of(make_study, effect(-0.05, -0.08, -0.02, test_set="in")))
    assert told.startswith("In distribution, kidney: lower.")


@pytest.mark.parametrize(("n", "said"), [(5, "0.062: this study is too small"), (12, "0.00049.")])
def test_the_lowest_p_that_a_study_can_reach_is_said(make_study, n, said):
    assert list(caveats(of(make_study, effect(0.1, 0.0, 0.2, n=n))))[-1].partition("below ")[2].startswith(said)
