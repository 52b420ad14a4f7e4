import dataclasses
import math

import numpy as np
import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.masks import body_mask
from medgan.training.learner import HeldOut
from medgan.translators.validation import paired_metrics, unpaired_metrics

CT = {"modality": "CT", "unit": "HU", "air": -1024.0, "window": Window(lower=-300.0, upper=700.0)}
PAIR = DomainPair(source=Domain(name="contrast", **CT), target=Domain(name="plain", **CT), paired=True)
CT_PAIR = PAIR.model_copy(update={"paired": False})
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1.0, upper=99.0, percentiles=True))
MR_PAIR = CT_PAIR.model_copy(update={"source": MR})


@pytest.fixture
def known(held_out):
    """Source subjects with their hidden truth, (X, Y, Z) in HU."""
    subjects = held_out(0, 3)
    return [study.voxels for study in subjects.source], [study.voxels for study in subjects.target]


@pytest.fixture
def subjects(held_out):
    """The same source subjects, and other, real target subjects."""
    return HeldOut(held_out(0, 3).source, held_out(10, 3).target)


@pytest.fixture
def drawn(subjects, mr):
    """The same, their source in MR."""
    return HeldOut([mr(study) for study in subjects.source], subjects.target)


def test_the_score_is_the_sum_of_what_is_left_and_of_what_was_touched_and_falls_on_the_way_to_the_truth(
    subjects, known
):
    sources, truth = known
    scores = []
    for share in (0.0, 0.5, 1.0):
        way = [source + share * (real - source) for source, real in zip(sources, truth, strict=True)]
        scores.append(unpaired_metrics(subjects, way, CT_PAIR))
    assert [metrics["val/untouchable_change_hu"] for metrics in scores[::2]] == [0, 0]
    scores.append(unpaired_metrics(subjects, [source - 40 for source in sources], CT_PAIR))
    assert scores[-1]["val/untouchable_change_hu"] == pytest.approx(40, abs=0.1)
    for metrics in scores:
        touched, left = metrics["val/untouchable_change_hu"], metrics["val/distribution_distance_hu"]
        assert metrics["val/score_hu"] == pytest.approx(left + touched)
        assert left < 2 if metrics is scores[2] else left > 5
    nothing, half, best, _ = (metrics["val/score_hu"] for metrics in scores)
    assert nothing > half > best
    assert nothing > 5 * best


@pytest.mark.parametrize(
    "fake",
    [
        # The target's mean intensity, wherever there is body.
        lambda sources, truth, others: [
            np.where(source > -300, truth[0][truth[0] > -300].mean(), source) for source in sources
        ],
        # A perfect target image, of somebody else: the distribution is right, and nothing is where it was.
        lambda sources, truth, others: [np.roll(study.voxels, 6, axis=0) for study in others],
        # Everything moved by 40 HU.
        lambda sources, truth, others: [source - 40 for source in sources],
        # The truth, but for the bones, which no contrast agent enters.
        lambda sources, truth, others: [
            np.where(source > 600, 700, real) for source, real in zip(sources, truth, strict=True)
        ],
    ],
    ids=["repainted", "anatomy of another", "darker", "other bones"],
)
def test_repainting_scores_worse_than_the_truth(subjects, known, fake):
    best = unpaired_metrics(subjects, known[1], CT_PAIR)["val/score_hu"]
    assert unpaired_metrics(subjects, fake(*known, subjects.target), CT_PAIR)["val/score_hu"] > 5 * best


def test_a_tissue_that_nobody_has_does_not_spoil_the_score(subjects, known):
    boneless = [dataclasses.replace(study, voxels=np.minimum(study.voxels, 300.0)) for study in subjects.source]
    assert math.isfinite(unpaired_metrics(HeldOut(boneless, subjects.target), known[1], CT_PAIR)["val/score_hu"])


@pytest.mark.parametrize(
    "fake",
    [
        lambda source, real: source - 40,
        lambda source, real: np.where(real > 600, 60, real).astype(np.float32),
        lambda source, real: np.where(real > -500, 50, real).astype(np.float32),
    ],
    ids=["darker", "other values", "one tissue everywhere"],
)
def test_from_another_unit_the_score_is_the_distance_over_the_whole_body(drawn, known, fake):
    best = unpaired_metrics(drawn, known[1], MR_PAIR)
    assert best.keys() == {"val/distribution_distance_hu", "val/score_hu"}
    assert best["val/score_hu"] == best["val/distribution_distance_hu"]
    worse = unpaired_metrics(drawn, [fake(*each) for each in zip(*known, strict=True)], MR_PAIR)
    assert worse["val/score_hu"] > 2 * best["val/score_hu"]


def test_from_another_unit_all_of_the_body_counts_and_the_air_around_it_does_not(drawn, known):
    _, truth = known
    best = unpaired_metrics(drawn, truth, MR_PAIR)["val/score_hu"]
    bodies = [body_mask(study.voxels, MR_PAIR.source) for study in drawn.source]
    around = [np.where(body, real, 3000) for body, real in zip(bodies, truth, strict=True)]
    assert unpaired_metrics(drawn, around, MR_PAIR)["val/score_hu"] == best
    moved = unpaired_metrics(drawn, [real + 400 for real in truth], MR_PAIR)
    assert moved["val/score_hu"] == pytest.approx(400, abs=best)


def test_paired_metrics_are_the_mean_error_around_the_body_beside_that_of_doing_nothing(held_out):
    pairs = held_out()
    differences = [source.voxels - target.voxels for source, target in zip(pairs.source, pairs.target, strict=True)]
    metrics = paired_metrics(pairs, [study.voxels + 7 for study in pairs.target], PAIR)
    assert metrics["val/mae_hu"] == pytest.approx(7, abs=1e-3)
    nothing = np.mean([np.abs(difference)[1:31, 1:31].mean() for difference in differences])
    assert metrics["val/mae_do_nothing_hu"] == pytest.approx(nothing, rel=1e-4)


def test_paired_metrics_count_only_where_the_pairs_may_be_compared(held_out):
    pairs, inside = held_out(), np.zeros((32, 32, 8), dtype=np.float32)
    inside[10:20, 10:20] = 1
    regions = [dataclasses.replace(study, voxels=inside, bounds=(0.0, 1.0)) for study in pairs.target]
    wrong_outside = [np.where(inside > 0, study.voxels + 3, 999) for study in pairs.target]
    metrics = paired_metrics(HeldOut(pairs.source, pairs.target, regions), wrong_outside, PAIR)
    assert metrics["val/mae_hu"] == pytest.approx(3, abs=1e-3)


def test_from_mr_there_is_no_doing_nothing_but_bone(held_out):
    pairs, pair = held_out(), PAIR.model_copy(update={"source": MR})
    whole, missed = (
        paired_metrics(pairs, [np.minimum(study.voxels, most) for study in pairs.target], pair) for most in (9999, 150)
    )
    assert whole == {"val/mae_hu": 0.0, "val/bone_dice": 1.0}
    assert missed["val/bone_dice"] == 0


def test_between_mr_images_errors_are_percent_of_the_sources_window(held_out):
    pairs, mr = held_out(), {"unit": "arbitrary", "modality": "MR"}
    source, target = (side.model_copy(update=mr) for side in (PAIR.source, PAIR.target))
    pair = DomainPair(source=source, target=target, paired=True)
    metrics = paired_metrics(pairs, [study.voxels + 50 for study in pairs.target], pair)
    lower, upper = pairs.source[0].bounds
    assert metrics.keys() == {"val/mae_percent", "val/mae_do_nothing_percent"}
    assert metrics["val/mae_percent"] == pytest.approx(100 * 50 / (upper - lower), rel=1e-4)
