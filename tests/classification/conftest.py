"""A classifier that answers by a rule, and its model folder."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medgan.classification.classifier import CLASSIFIER, ClassifierConfig, ClassifierDescription
from medgan.data.domains import Domain, Window
from medgan.data.preparation import GridConfig
from medgan.training.device import make_fabric
from medgan.training.model_folder import Model, Origin, write_model

CT = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1000.0, upper=1000.0))
SHAPES = {"2": (8, 8), "3": (8, 8, 8)}


class Brightest(nn.Module):
    """Scores of healthy, spot and cyst: the brightest voxel of a patch says whether it holds a spot."""

    def forward(self, image):
        brightest = image.flatten(1).amax(1)
        return torch.stack([torch.zeros_like(brightest), 20 * (brightest - 0.5), brightest - 9], dim=1)


@pytest.fixture(scope="session")
def fabric():
    return make_fabric("cpu", "32")


@pytest.fixture(scope="session")
def config():
    """Settings: ``config("3")``."""

    def make(dimensions="2", **changes):
        whole = {"names": ("spot", "cyst"), "domain": CT, "shape": SHAPES[dimensions], "network": {"channels": 4}}
        return ClassifierConfig(**whole | {"grid": GridConfig(spacing_mm=(None, None, None))} | changes)

    return make


@pytest.fixture(scope="session")
def saved(tmp_path_factory, config):
    """A model folder of a network as it is at the start: ``saved("3")``."""

    def save(dimensions="2", *, seed=0, phantom=False, **changes):
        torch.manual_seed(seed)
        made = config(dimensions, **changes)
        folder = tmp_path_factory.mktemp("classifier") / "model"
        write_model(
            folder, {CLASSIFIER: made.build()}, ClassifierDescription, config=made, method="sgan", seed=seed, epoch=2,
            labelled={"healthy": 9, "spot": 5, "cyst": 4}, unlabelled=100, metrics={"val/accuracy": 0.75},
            origin=Origin(split_hash="abc", phantom=phantom),
        )  # fmt: skip
        return folder

    return save


@pytest.fixture
def ruled(config):
    """A loaded classifier that follows the rule: ``ruled("3")``."""
    return lambda dimensions="2": Model(SimpleNamespace(config=config(dimensions)), {CLASSIFIER: Brightest()})
