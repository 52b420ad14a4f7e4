import math

import pytest

from medgan.evaluation.synthesis import controls
from medgan.evaluation.synthesis.figures import MEASURES, Judge
from medgan.evaluation.synthesis.memorisation import nearest


@pytest.fixture(scope="module")
def found(shape, make_lesions):
    """Figures by arm."""
    training, held_out = make_lesions(50, shape), make_lesions(40, shape, seed=1)
    judge = Judge(training, held_out, training, 1, seed=0)
    arms = {
        "real": held_out, "new": make_lesions(40, shape, seed=2), "blurred": controls.blurred(held_out),
        "collapsed": controls.collapsed(held_out, 0), "copied": controls.copied(training, 40, 0),
    }  # fmt: skip
    return {name: judge.figures(arm, nearest(arm, training, real=False)) for name, arm in arms.items()}


def test_every_measure_is_there_and_finite(found):
    for figures in found.values():
        assert set(figures) == set(MEASURES)
        assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("measure", ["frechet", "kernel", "sliced_wasserstein"])
def test_distances_tell_collapsed_from_real_patches(found, measure):
    assert found["collapsed"][measure] > 3 * max(found["real"][measure], found["new"][measure])


def test_the_distance_of_fine_detail_tells_blurred_from_real_patches(found):
    floor = max(found["real"]["fine_wasserstein"], found["new"]["fine_wasserstein"])
    assert found["blurred"]["fine_wasserstein"] > 2 * floor


@pytest.mark.parametrize("measure", ["recall", "coverage", "modes", "diversity", "shape_diversity"])
def test_variety_tells_collapsed_from_real_patches(found, measure):
    assert found["collapsed"][measure] < 0.5 * min(found["real"][measure], found["new"][measure])


def test_only_copies_are_copies_and_only_repeated_patches_are_twins(found):
    copies = {name: figures["copies_percent"] for name, figures in found.items()}
    assert copies.pop("copied") == 100
    assert max(copies.values()) < 10
    twins = {name: figures["twins_percent"] for name, figures in found.items()}
    assert twins["collapsed"] == 100
    assert max(twins["real"], twins["new"], twins["blurred"]) == 0


def test_figures_on_features_carry_the_features_name(make_lesions):
    training = make_lesions(10, (16, 16))
    judge = Judge(training, make_lesions(9, (16, 16), seed=1), training, 1, seed=2)
    assert judge.full_name("frechet") == "frechet[autoencoder-20 trained on 10 real patches, seed 2]"
    assert judge.full_name("sliced_wasserstein") == "sliced_wasserstein"
