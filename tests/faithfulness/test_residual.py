"""What the input explains is no place to look at; what was drawn in, or left no trace, is, where it is."""

import numpy as np
import pytest

from made_up_bodies import SPACING, ball, body, translated
from medgan.evaluation.fidelity import body_mask
from medgan.faithfulness.residual import FLOOR, Relation, unexplained

PLACE = np.array((22, 30, 10))
LESION = -70 * ball(PLACE, 10)


def blobs(source, synthetic, **known):
    return unexplained(source.astype(np.float32), synthetic, body_mask(source), SPACING, **known)


def test_a_translation_that_maps_intensities_leaves_nothing_to_explain():
    source = body(0)
    assert [blob for blob in blobs(source, translated(source, 0)) if blob.score > FLOOR + 1] == []


def test_a_lesion_that_is_drawn_into_the_translation_is_the_oddest_place_and_is_darker():
    source = body(0)
    worst, *others = blobs(source, translated(source, 0) + LESION)
    assert np.linalg.norm((worst.voxels.mean(axis=0) - PLACE) * SPACING) < 4
    assert worst.contrast < -15
    assert worst.source_contrast > 0  # there the input shows an organ, and nothing dark
    assert all(blob.score < worst.score / 2 for blob in others)


def test_a_lesion_of_the_input_without_a_trace_is_the_oddest_place_and_the_input_shows_it():
    source = body(0)
    worst, *_ = blobs(source + LESION, translated(source, 0))
    assert np.linalg.norm((worst.voxels.mean(axis=0) - PLACE) * SPACING) < 4
    assert worst.contrast > 0  # brighter than such a dark place would be
    assert worst.source_contrast < -15


def test_a_lesion_that_both_show_is_explained():
    source = body(0) + LESION
    near = [
        blob for blob in blobs(source, translated(source, 0))
        if np.linalg.norm((blob.voxels.mean(axis=0) - PLACE) * SPACING) < 12 and blob.score > FLOOR + 1
    ]  # fmt: skip
    assert near == []


def test_between_modalities_the_relation_of_other_subjects_tells_what_is_explained():
    def crossed(hu, seed):
        return 900 - 2 * translated(hu, seed)

    inside = body_mask(body(0))
    others = [Relation.of(body(seed)[inside], crossed(body(seed), seed)[inside], 96) for seed in (1, 2, 3)]
    source = body(0)
    known = {"relation": Relation.mean(others)}
    worst, *_ = blobs(source, crossed(source, 0) + 3 * LESION, **known)
    assert np.linalg.norm((worst.voxels.mean(axis=0) - PLACE) * SPACING) < 4
    assert [blob for blob in blobs(source, crossed(source, 0), **known) if blob.score > FLOOR + 2] == []


def test_a_relation_is_the_median_by_intensity():
    random = np.random.default_rng(0)
    key = random.uniform(0, 100, 50_000)
    relation = Relation.of(key, 3 * key + random.normal(0, 2, key.size), 50)
    rest, scaled = relation.rest(key, 3 * key)
    assert np.abs(rest).mean() < 0.5
    assert relation.spread[5:-5] == pytest.approx(2, rel=0.5)
    assert np.abs(scaled).mean() < 0.5


def test_no_body_has_no_place():
    empty = np.full((8, 8, 4), -1000.0)
    assert unexplained(empty, empty, np.zeros(empty.shape, bool), SPACING) == []


def test_finer_voxels_are_averaged_and_the_place_is_the_same():
    source, output = body(0), translated(body(0), 0) + LESION
    fine = [image.repeat(3, axis=0).repeat(3, axis=1)[:-1] for image in (source, output, body_mask(source))]
    worst, *_ = unexplained(fine[0], fine[1], fine[2] > 0, (1.0, 1.0, 4.0))
    assert np.linalg.norm((worst.voxels.mean(axis=0) - (PLACE * (3, 3, 1) + (1, 1, 0))) * (1, 1, 4)) < 4
    volume_ml = len(worst.voxels) * 4 / 1000
    known, *_ = blobs(source, output)
    assert volume_ml == pytest.approx(len(known.voxels) * np.prod(SPACING) / 1000, rel=0.5)
