import dataclasses
import math

import numpy as np
import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.masks import body_mask
from medgan.training.learner import HeldOut
from medgan.translators.validation import body_of, paired_metrics, unpaired_metrics

CT = {"modality": "CT", "unit": "HU", "air": -1024.0, "window": Window(lower=-300.0, upper=700.0)}
PAIR = DomainPair(source=Domain(name="contrast", **CT), target=Domain(name="plain", **CT), paired=True)
CT_PAIR = PAIR.model_copy(update={"paired": False})
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1.0, upper=99.0, percentiles=True))
MR_PAIR = CT_PAIR.model_copy(update={"source": MR})


@pytest.fixture
def subjects(held_out):
    """Source subjects with their hidden truth, and other, real target subjects."""
    known, others = held_out(0, 3), held_out(10, 3)
    return HeldOut(known.source, others.target), [study.voxels for study in known.target]


def repainted(subjects):
    """The target's mean intensity, wherever there is body."""
    held_out, truth = subjects
    return [np.where(study.voxels > -300, truth[0][truth[0] > -300].mean(), study.voxels) for study in held_out.source]


def anatomy_of_another(subjects):
    """A perfect target image, of somebody else: the distribution is right, and nothing is where it was."""
    held_out, _ = subjects
    return [np.roll(study.voxels, 6, axis=0) for study in held_out.target]


def darker(subjects):
    """Everything moved by 40 HU."""
    held_out, _ = subjects
    return [study.voxels - 40 for study in held_out.source]


def test_the_score_is_the_sum_of_what_is_left_and_of_what_was_touched(subjects):
    held_out, truth = subjects
    metrics = unpaired_metrics(held_out, darker(subjects), CT_PAIR)
    assert metrics["val/untouchable_change_hu"] == pytest.approx(40, abs=0.1)
    assert metrics["val/distribution_distance_hu"] > 10
    assert metrics["val/score_hu"] == pytest.approx(
        metrics["val/distribution_distance_hu"] + metrics["val/untouchable_change_hu"]
    )
    best = unpaired_metrics(held_out, truth, CT_PAIR)
    assert best["val/untouchable_change_hu"] == 0
    assert best["val/distribution_distance_hu"] < 2


def other_bones(subjects):
    """The truth, but for the bones, which no contrast agent enters."""
    held_out, truth = subjects
    return [np.where(study.voxels > 600, 700, real) for study, real in zip(held_out.source, truth, strict=True)]


@pytest.mark.parametrize("fake", [repainted, anatomy_of_another, darker, other_bones])
def test_doing_nothing_and_repainting_score_worse_than_the_truth(subjects, fake):
    held_out, truth = subjects
    best = unpaired_metrics(held_out, truth, CT_PAIR)["val/score_hu"]
    nothing = unpaired_metrics(held_out, [study.voxels for study in held_out.source], CT_PAIR)
    assert nothing["val/untouchable_change_hu"] == 0
    assert nothing["val/score_hu"] > 5 * best
    assert unpaired_metrics(held_out, fake(subjects), CT_PAIR)["val/score_hu"] > 5 * best


def test_half_of_the_way_scores_between_nothing_and_the_truth(subjects):
    held_out, truth = subjects
    scores = [
        unpaired_metrics(
            held_out,
            [study.voxels + share * (real - study.voxels) for study, real in zip(held_out.source, truth, strict=True)],
            CT_PAIR,
        )["val/score_hu"]
        for share in (0.0, 0.5, 1.0)
    ]
    assert scores == sorted(scores, reverse=True)


def test_a_tissue_that_nobody_has_does_not_spoil_the_score(subjects):
    held_out, truth = subjects
    boneless = [dataclasses.replace(study, voxels=np.minimum(study.voxels, 300.0)) for study in held_out.source]
    metrics = unpaired_metrics(HeldOut(boneless, held_out.target), truth, CT_PAIR)
    assert math.isfinite(metrics["val/score_hu"])


def other_values(subjects):
    """The truth's anatomy in other intensities."""
    _, truth = subjects
    return [np.where(real > 600, 60, real).astype(np.float32) for real in truth]


def flat(subjects):
    """One soft tissue everywhere in the body."""
    _, truth = subjects
    return [np.where(real > -500, 50, real).astype(np.float32) for real in truth]


@pytest.mark.parametrize("fake", [darker, other_values, flat])
def test_from_another_unit_the_score_is_the_distance_over_the_whole_body(subjects, mr, fake):
    held_out, truth = subjects
    drawn = HeldOut([mr(study) for study in held_out.source], held_out.target)
    best = unpaired_metrics(drawn, truth, MR_PAIR)
    assert best.keys() == {"val/distribution_distance_hu", "val/score_hu"}
    assert best["val/score_hu"] == best["val/distribution_distance_hu"]
    assert unpaired_metrics(drawn, fake(subjects), MR_PAIR)["val/score_hu"] > 2 * best["val/score_hu"]


def test_from_another_unit_all_of_the_body_counts_and_the_air_around_it_does_not(subjects, mr):
    held_out, truth = subjects
    drawn = HeldOut([mr(study) for study in held_out.source], held_out.target)
    best = unpaired_metrics(drawn, truth, MR_PAIR)["val/score_hu"]
    bodies = [body_mask(study.voxels, MR_PAIR.source) for study in drawn.source]
    around = [np.where(body, real, 3000) for body, real in zip(bodies, truth, strict=True)]
    assert unpaired_metrics(drawn, around, MR_PAIR)["val/score_hu"] == best
    moved = [real + 400 for real in truth]
    assert unpaired_metrics(drawn, moved, MR_PAIR)["val/score_hu"] == pytest.approx(400, abs=best)


def test_paired_metrics_are_the_mean_error_around_the_body_beside_that_of_doing_nothing(held_out):
    pairs = held_out()
    offset = [study.voxels + 7 for study in pairs.target]
    nothing = np.mean(
        [
            np.abs(one.voxels - other.voxels)[1:31, 1:31].mean()
            for one, other in zip(pairs.source, pairs.target, strict=True)
        ]
    )
    metrics = paired_metrics(pairs, offset, PAIR)
    assert metrics["val/mae_hu"] == pytest.approx(7, abs=1e-3)
    assert metrics["val/mae_do_nothing_hu"] == pytest.approx(nothing, rel=1e-4)


def test_paired_metrics_count_only_where_the_pairs_may_be_compared(held_out):
    pairs = held_out()
    regions = []
    for study in pairs.target:
        inside = np.zeros(study.voxels.shape, dtype=np.float32)
        inside[10:20, 10:20] = 1
        regions.append(dataclasses.replace(study, voxels=inside, bounds=(0.0, 1.0)))
    wrong_outside = [np.where(r.voxels > 0, s.voxels + 3, 999) for r, s in zip(regions, pairs.target, strict=True)]
    metrics = paired_metrics(HeldOut(pairs.source, pairs.target, regions), wrong_outside, PAIR)
    assert metrics["val/mae_hu"] == pytest.approx(3, abs=1e-3)


def test_from_mr_there_is_no_doing_nothing_but_bone(held_out):
    pairs = held_out()
    pair = PAIR.model_copy(update={"source": MR})
    whole, missed = (
        paired_metrics(pairs, [np.minimum(study.voxels, most) for study in pairs.target], pair) for most in (9999, 150)
    )
    assert whole == {"val/mae_hu": 0.0, "val/bone_dice": 1.0}
    assert missed["val/bone_dice"] == 0


def test_between_mr_images_errors_are_percent_of_the_sources_window(held_out):
    pairs = held_out()
    source, target = (
        side.model_copy(update={"unit": "arbitrary", "modality": "MR"}) for side in (PAIR.source, PAIR.target)
    )
    pair = DomainPair(source=source, target=target, paired=True)
    metrics = paired_metrics(pairs, [study.voxels + 50 for study in pairs.target], pair)
    lower, upper = pairs.source[0].bounds
    assert metrics.keys() == {"val/mae_percent", "val/mae_do_nothing_percent"}
    assert metrics["val/mae_percent"] == pytest.approx(100 * 50 / (upper - lower), rel=1e-4)


def test_the_body_is_its_box(held_out):
    (study,) = held_out(count=1).source
    mask = body_of(dataclasses.replace(study, body=((2, 30), (0, 32), (1, 3))))
    assert mask.shape == study.voxels.shape
    assert mask.sum() == 28 * 32 * 2
    assert mask[2, 0, 1]
    assert not mask[1].any()
