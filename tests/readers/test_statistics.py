import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from medgan.readers import simulate, statistics
from medgan.readers.statistics import CHANCE, Estimate

STUDIES = 500
CROWD = simulate.Crowd(readers=5, subjects=40)


def ratings(crowd, d_prime, studies):
    """Studies in which each reader rates both images of each subject by itself, on ten levels."""
    rng = np.random.default_rng(0)
    subjects = np.tile(np.arange(crowd.subjects), 2)
    positive = np.repeat([False, True], crowd.subjects)
    edges = np.linspace(-1.5, 1.5, 9) + d_prime / 2
    for _ in range(studies):
        real, synthetic = crowd.evidence(rng, 1.0), d_prime + crowd.evidence(rng, 1.0)
        scores = np.searchsorted(edges, np.concatenate([real, synthetic], axis=1)).astype(np.float64)
        yield statistics.over_readers_and_subjects(*statistics.auc_influence(scores, positive, subjects))


@pytest.mark.parametrize("draw", [simulate.choices, ratings])
@pytest.mark.parametrize("d_prime", [0.0, 1.0, 3.0])
def test_readers_of_a_known_d_prime_are_recovered_at_nominal_coverage(draw, d_prime):
    true = stats.norm.cdf(d_prime / 2**0.5)
    studies = list(draw(CROWD, d_prime, STUDIES))
    values = np.array([each.value for each in studies])
    assert abs(values.mean() - true) < 4 * values.std() / STUDIES**0.5 + 0.002
    covered = sum(each.interval().lower <= true <= each.interval().upper for each in studies)
    lowest = stats.binomtest(covered, STUDIES).proportion_ci().high
    assert lowest >= 0.95, f"{covered} of {STUDIES} intervals hold the truth"
    assert covered / STUDIES < 0.995, "intervals so wide say nothing"
    assert statistics.d_prime(true) == pytest.approx(d_prime)


def test_identical_images_give_one_half_and_a_false_alarm_as_rarely_as_said():
    p = np.array([each.differs(CHANCE) for each in simulate.choices(CROWD, 0.0, STUDIES, seed=1)])
    assert stats.binomtest(int((p < 0.05).sum()), STUDIES, 0.05).pvalue > 0.01


def test_equivalence_is_claimed_of_readers_at_the_margin_as_rarely_as_said_and_often_within():
    at_margin, margin = 2**0.5 * stats.norm.ppf(0.6), 0.1
    crowd = simulate.Crowd(readers=6, subjects=150, of_readers=0.01, of_subjects=0.02)
    false = [each.equivalent(CHANCE, margin) < 0.05 for each in simulate.choices(crowd, at_margin, STUDIES)]
    assert stats.binomtest(sum(false), STUDIES, 0.05, alternative="greater").pvalue > 0.01
    true = [each.equivalent(CHANCE, margin) < 0.05 for each in simulate.choices(crowd, 0.0, STUDIES)]
    assert np.mean(true) > 0.8
    few = next(simulate.choices(simulate.Crowd(3, 10), 0.0, 1))
    assert few.differs(CHANCE) > 0.05
    assert few.equivalent(CHANCE, margin) > 0.05, "too little to see a difference is no evidence that there is none"


def test_areas_and_their_variance_are_those_of_others():
    rng = np.random.default_rng(0)
    positive = np.repeat([False, True], 30)
    scores = rng.integers(-5, 6, (3, 60)).astype(float) + positive
    areas, influence = statistics.auc_influence(scores, positive, np.arange(60))
    for area, own in zip(areas, scores, strict=True):
        assert area == pytest.approx(roc_auc_score(positive, own))
    np.testing.assert_allclose(influence.sum(axis=1), 0, atol=1e-12)
    own = scores[0]
    kernel = (own[positive][:, None] > own[~positive]) + 0.5 * (own[positive][:, None] == own[~positive])
    delong = kernel.mean(1).var(ddof=1) / 30 + kernel.mean(0).var(ddof=1) / 30
    one = statistics.over_readers_and_subjects(areas[:1], influence[:1])
    assert one.variance == pytest.approx(delong, rel=0.03)


def test_agreement_is_that_of_others():
    rng = np.random.default_rng(1)
    first, again = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    assert statistics.cohen_kappa(first, again) == pytest.approx(cohen_kappa_score(first, again))
    assert statistics.cohen_kappa(first, first) == statistics.fleiss_kappa([first, first, first]) == 1
    # Fleiss 1971 for two raters is Scott's pi, which pools their shares.
    pooled = np.concatenate([first, again]).mean()
    chance = pooled**2 + (1 - pooled) ** 2
    assert statistics.fleiss_kappa([first, again]) == pytest.approx(((first == again).mean() - chance) / (1 - chance))
    assert np.isnan(statistics.fleiss_kappa([[1, 1], [1, 1]]))


def test_power_agrees_with_the_literature_and_with_the_exact_test():
    assert [statistics.trials_to_see(share) for share in (0.60, 0.65, 0.70)] == [194, 85, 47]
    claims = [statistics.trials_to_claim_chance(margin) for margin in (0.10, 0.15)]
    assert np.abs(np.subtract(claims, [214, 95])).max() <= 1
    rng = np.random.default_rng(2)
    seen = [stats.binomtest(int(right), 85).pvalue < 0.05 for right in rng.binomial(85, 0.65, 1000)]
    assert statistics.power_to_see(0.65, 85) == pytest.approx(np.mean(seen), abs=0.05)


def test_the_power_of_many_readers_grows_with_subjects_more_than_with_readers():
    few, many = simulate.Crowd(3, 20), simulate.Crowd(3, 120)
    assert simulate.power(many, 0.65) > simulate.power(few, 0.65) + 0.2
    assert simulate.power(few, 0.5) < 0.12
    assert simulate.power(many, 0.9) > 0.95


def test_all_right_has_a_lower_bound_and_one_subject_none():
    all_right = statistics.over_readers_and_subjects(*statistics.share_influence(np.ones((3, 20)), np.arange(20)))
    assert all_right.interval().upper == 1
    assert 0.7 < all_right.interval().lower < 0.95
    alone = statistics.over_readers_and_subjects([0.5, 0.6], np.zeros((2, 1)))
    assert np.isnan(alone.interval().lower)


def test_a_difference_may_be_negative():
    difference = Estimate(-0.02, 0.03**2, 40, 3, 40, share=False)
    assert difference.interval().lower < -0.05
    assert difference.equivalent(0, 0.1) < 0.05 < difference.differs(0)
