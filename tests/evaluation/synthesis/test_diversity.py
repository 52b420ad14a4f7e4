import math

import numpy as np
import pytest

from medgan.evaluation.synthesis.diversity import (
    collapse_verdict,
    covered_modes,
    diversity_ratio,
    find_modes,
    shape_diversity_ratio,
    twins_percent,
)
from medgan.evaluation.synthesis.patches import Patches, PatchOrigin, blurred, collapsed


@pytest.fixture(scope="module")
def real(shape, make_lesions):
    return make_lesions(40, shape)


@pytest.fixture(scope="module")
def others(shape, make_lesions):
    return make_lesions(40, shape, seed=1)


def test_other_real_patches_are_as_diverse(real, others):
    assert diversity_ratio(others, real) == pytest.approx(1, abs=0.15)
    assert shape_diversity_ratio(others, real) == pytest.approx(1, abs=0.15)
    assert twins_percent(others, real) == 0


def test_one_patch_with_noise_has_collapsed(real, others):
    one = collapsed(others, seed=0)
    assert diversity_ratio(one, real) < 0.1
    assert twins_percent(one, real) == 100
    mixed = Patches.joined([others.at(range(20)), one.at(range(20))])
    assert diversity_ratio(mixed, real) > 0.5, "half of it has collapsed in part"
    assert twins_percent(mixed, real) == pytest.approx(50, abs=5)


def test_one_shape_in_many_anatomies_has_collapsed(real, others):
    one_shape = Patches(others.images, np.repeat(others.labels[:1], len(others), axis=0), others.origins)
    assert shape_diversity_ratio(one_shape, real) == 0


def test_blurred_patches_are_less_diverse_but_no_twins(real, others):
    assert diversity_ratio(blurred(others), real) < diversity_ratio(others, real)
    assert twins_percent(blurred(others), real) == 0


def test_classes_are_compared_within_themselves():
    """Two classes of which each sample is the same: far from each other, without any diversity of their own."""
    images = np.zeros((8, 8, 8), np.float32)
    images[4:] = 1
    labels = np.ones((8, 8, 8), np.uint8)
    labels[4:] = 2
    origins = tuple(PatchOrigin(f"s{n}", f"s{n}#1") for n in range(8))
    varied = Patches(images + np.arange(8, dtype=np.float32)[:, None, None], labels, origins)
    assert diversity_ratio(Patches(images, labels, origins), varied) == 0
    assert diversity_ratio(varied, varied) == pytest.approx(1)


def test_patches_of_one_subject_are_compared_only_where_there_is_no_other(make_lesions):
    patches = make_lesions(8, (16, 16))
    one = Patches(patches.images, patches.labels, tuple(PatchOrigin("s", f"s#{number}") for number in range(8)))
    lone = Patches(patches.images, patches.labels, tuple(PatchOrigin("s", "s#1") for _ in range(8)))
    assert diversity_ratio(one, patches) == pytest.approx(1)
    assert math.isnan(diversity_ratio(lone, patches))
    assert math.isnan(twins_percent(lone, patches))


def ring(which, seed=0):
    """Samples of a ring of eight narrow modes, from the modes asked for."""
    angles = np.pi / 4 * np.asarray(which)
    noise = np.random.default_rng(seed).normal(0, 0.02, (len(angles), 2))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + noise


@pytest.mark.parametrize("present", [8, 5, 1])
def test_of_a_ring_the_modes_that_samples_come_in_are_counted(present):
    assert covered_modes(ring(np.arange(8)), ring(np.arange(40) % present, seed=1)) == present


def test_clusters_of_real_samples_are_all_covered_by_themselves():
    real = ring(np.arange(80) % 8)
    modes = find_modes(real, seed=0)
    assert 8 <= len(modes) <= 10
    assert covered_modes(modes, real) == len(modes)
    assert covered_modes(modes, real[::8]) <= 3
    assert len(find_modes(real[:11], seed=0)) == 2, "few real samples make few modes"


REAL = {"modes": 10.0, "diversity": 1.0, "shape_diversity": 1.0, "twins_percent": 0.0}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "none found. Samples come in 10 of 10 kinds"),
        ({"diversity": 0.3}, "COLLAPSED"),
        ({"shape_diversity": 0.3}, "COLLAPSED"),
        ({"modes": 4.0}, "COLLAPSED. Samples come in 4 of 10 kinds"),
        ({"twins_percent": 40.0}, "IN PART. 40 % of the samples have a twin"),
        ({"diversity": math.nan, "shape_diversity": math.nan}, "none found. Samples come in 10 of 10"),
    ],
)
def test_collapse_is_said_by_any_of_its_signs(change, verdict):
    assert collapse_verdict(REAL | change, REAL, 10).startswith(f"Mode collapse: {verdict}")
