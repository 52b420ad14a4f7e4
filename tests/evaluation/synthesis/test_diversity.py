import math

import numpy as np
import pytest

from medgan.evaluation.synthesis import controls
from medgan.evaluation.synthesis.diversity import collapse, diversity_ratio, shape_diversity_ratio, twins_percent
from medgan.evaluation.synthesis.patches import Origin, Patches


@pytest.fixture(scope="module")
def real(shape, make_lesions):
    return make_lesions(40, shape)


@pytest.fixture(scope="module")
def others(shape, make_lesions):
    return make_lesions(40, shape, seed=1)


def half(patches, fake):
    """Half as given, half ``fake``."""
    return Patches(
        np.concatenate([patches.images[:20], fake.images[:20]]),
        np.concatenate([patches.labels[:20], fake.labels[:20]]),
        (*patches.origins[:20], *fake.origins[:20]),
    )


def test_other_real_patches_are_as_diverse(real, others):
    assert diversity_ratio(others, real) == pytest.approx(1, abs=0.15)
    assert shape_diversity_ratio(others, real) == pytest.approx(1, abs=0.15)
    assert twins_percent(others, real) == 0
    assert collapse(others, real) is None


def test_one_patch_with_noise_has_collapsed(real, others):
    one = controls.collapsed(others, seed=0)
    assert diversity_ratio(one, real) < 0.1
    assert twins_percent(one, real) == 100
    assert collapse(one, real).startswith("mode collapse: images differ by")


def test_half_of_it_has_collapsed_in_part(real, others):
    mixed = half(others, controls.collapsed(others, seed=0))
    assert diversity_ratio(mixed, real) > 0.5
    assert twins_percent(mixed, real) == pytest.approx(50, abs=5)
    assert collapse(mixed, real).startswith("partial mode collapse: 5")


def test_one_shape_in_many_anatomies_has_collapsed(real, others):
    one_shape = Patches(others.images, np.repeat(others.labels[:1], len(others), axis=0), others.origins)
    assert shape_diversity_ratio(one_shape, real) == 0
    assert "labelled shapes" in collapse(one_shape, real)


def test_blurred_patches_are_less_diverse_but_no_twins(real, others):
    assert diversity_ratio(controls.blurred(others), real) < diversity_ratio(others, real)
    assert twins_percent(controls.blurred(others), real) == 0


def test_classes_are_compared_within_themselves():
    """Two classes of which each sample is the same: far from each other, without any diversity of their own."""
    images = np.zeros((8, 8, 8), np.float32)
    images[4:] = 1
    labels = np.ones((8, 8, 8), np.uint8)
    labels[4:] = 2
    origins = tuple(Origin(f"s{n}", f"s{n}#1") for n in range(8))
    varied = Patches(images + np.arange(8, dtype=np.float32)[:, None, None], labels, origins)
    assert diversity_ratio(Patches(images, labels, origins), varied) == 0
    assert diversity_ratio(varied, varied) == pytest.approx(1)


def test_patches_of_one_subject_are_compared_only_where_there_is_no_other(make_lesions):
    patches = make_lesions(8, (16, 16))
    one = Patches(patches.images, patches.labels, tuple(Origin("s", f"s#{number}") for number in range(8)))
    lone = Patches(patches.images, patches.labels, tuple(Origin("s", "s#1") for _ in range(8)))
    assert diversity_ratio(one, patches) == pytest.approx(1)
    assert math.isnan(diversity_ratio(lone, patches))
    assert math.isnan(twins_percent(lone, patches))
