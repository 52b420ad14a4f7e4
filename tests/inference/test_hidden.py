"""Generators that hide their input, and honest ones, made by hand; in slices, neighbour slices and blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medgan.data.domains import Domain, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared
from medgan.inference.hidden import DISTURBANCES, NOISE_SHARE, cycle_errors
from medgan.networks.outputs import centre_channel
from medgan.training.device import make_fabric

DOMAIN = Domain(name="contrast", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1200.0, upper=1200.0))
DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
SHOWN, FAINT = 2 / 17, 1e-4


class Way(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(centre_channel(image))


def coarse(image):
    return torch.round(image / SHOWN) * SHOWN


hiding = Way(lambda image: coarse(image) + FAINT * (image - coarse(image)))
"""Shows seventeen grey values, and hides the rest of the image in what the eye does not see."""
reading = Way(lambda image: coarse(image) + (image - coarse(image)) / FAINT)
darker, brighter = Way(lambda image: image - 0.05), Way(lambda image: image + 0.05)


@pytest.fixture
def study(ct):
    voxels = ct(0, contrast=True, shape=(32, 32, 4))
    return Prepared(voxels, np.diag([2.0, 2.0, 5.0, 1.0]), ((1, 31), (1, 31), (0, 4)), (-1200.0, 1200.0))


def errors(there, back, study, dimensions="2"):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, depth_voxels=4 if dimensions == "3" else None)
    return cycle_errors(there, back, study, DOMAIN, patch=patch, multiple=2, fabric=make_fabric("cpu", "32"))


@DIMENSIONS
def test_a_hidden_input_is_lost_by_eight_bits_and_by_noise(study, dimensions):
    row = errors(hiding, reading, study, dimensions)
    assert row["cycle_percent"] < 0.1
    assert row["cycle_8bit_excess_percent"] > 5
    assert row["cycle_noise_excess_percent"] > 5


@DIMENSIONS
def test_an_honest_way_back_loses_no_more_than_the_disturbance(study, dimensions):
    row = errors(darker, brighter, study, dimensions)
    assert row["cycle_percent"] < 0.1
    for name in DISTURBANCES:
        error, excess = row[f"cycle_{name}_percent"], row[f"cycle_{name}_excess_percent"]
        assert excess <= 1e-3
        assert error == pytest.approx(error - row["cycle_percent"] - excess, rel=0.1)
    assert len(row) == 1 + 2 * len(DISTURBANCES)


def test_the_error_is_in_percent_of_the_window_inside_the_body(study):
    shifted = errors(Way(lambda image: image), Way(lambda image: image + 0.1), study)
    assert shifted["cycle_percent"] == pytest.approx(5.0, rel=1e-4)


def test_a_study_without_a_body_has_no_error(study):
    empty = replace(study, voxels=np.full((32, 32, 4), -1000, np.float32))
    assert np.isnan(list(errors(hiding, reading, empty).values())).all()


def test_noise_has_the_size_that_is_stated():
    image = np.zeros((64, 64, 8), np.float32)
    assert DISTURBANCES["noise"](image).std() / 2 == pytest.approx(NOISE_SHARE, rel=0.02)
    assert np.array_equal(DISTURBANCES["noise"](image), DISTURBANCES["noise"](image))
    assert np.abs(DISTURBANCES["noise"](image + 1)).max() == 1


def test_eight_bits_are_what_an_image_file_holds():
    image = np.linspace(-1, 1, 10_001, dtype=np.float32)
    stored = np.uint8(np.rint((image + 1) * 127.5))
    np.testing.assert_allclose(DISTURBANCES["8bit"](image), stored / 127.5 - 1, atol=1e-6)
