import numpy as np
import pytest

from medgan.evaluation.synthesis.modes import Modes


def ring(which, seed=0):
    """Samples of a ring of eight narrow modes, from the modes asked for."""
    angles = np.pi / 4 * np.asarray(which)
    noise = np.random.default_rng(seed).normal(0, 0.02, (len(angles), 2))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + noise


@pytest.mark.parametrize("present", [8, 5, 1])
def test_of_a_ring_the_modes_that_samples_come_in_are_counted(present):
    modes = Modes(ring(np.arange(8)))
    samples = ring(np.arange(40) % present, seed=1)
    assert modes.covered(samples) == present
    assert modes.counts(samples).sum() == 40


def test_clusters_of_real_samples_are_all_covered_by_themselves():
    real = ring(np.arange(80) % 8)
    modes = Modes.of(real, seed=0)
    assert 8 <= len(modes.centres) <= 10
    assert modes.covered(real) == len(modes.centres)
    assert modes.covered(real[::8]) <= 3


def test_few_real_samples_make_few_modes():
    assert len(Modes.of(np.random.default_rng(0).standard_normal((11, 2)), seed=0).centres) == 2
