import numpy as np
import pytest
import torch
from torch import nn

from medgan.classification.learner import Supervised, SupervisedConfig
from medgan.classification.training import FewLabelsConfig
from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.training.device import make_fabric

SIZES = {"2d": {"size_voxels": 8}, "3d": {"dimensions": 3, "size_voxels": 8, "depth_voxels": 8}}


class BySight(nn.Module):
    """Sure of "lesion" where anything is brighter than 0, else of "healthy"."""

    def forward(self, image):
        seen = 9.0 * (image.flatten(1).amax(1) > 0)
        return torch.stack([9 - seen, seen], dim=1)


class Always(nn.Module):
    """The scores 1 for healthy and 0 for lesion, whatever is shown."""

    def forward(self, image):
        return torch.tensor([1.0, 0.0]).repeat(len(image), 1)


JUDGED = 32


@pytest.fixture(params=SIZES)
def learner(request, monkeypatch):
    monkeypatch.setattr("medgan.classification.learner.JUDGED", JUDGED)
    config = FewLabelsConfig(patch=SIZES[request.param], network={"channels": 4}, lesion_share=0.5)
    made = Supervised(SupervisedConfig(rate=0.01), config.classifier, config)
    made.attach(make_fabric("cpu", "32"), made.networks(), made.optimizers())
    return made


@pytest.fixture
def held_out():
    labels = np.zeros((40, 40, 8), dtype=np.uint8)
    labels[6:10, 6:10, 3:5] = 1
    voxels = (60 + 90 * labels).astype(np.float32)
    image = Prepared(voxels, np.eye(4), ((0, 40), (0, 40), (0, 8)), (0.0, 200.0))
    return LabelledHeldOut.of([Labelled("s", image, labels)])


def test_it_is_judged_by_accuracy_and_cross_entropy_over_held_out_patches(learner, held_out):
    right = learner.validate(held_out, {"classifier": BySight()})
    assert right.metrics["val/accuracy"] == 1
    assert right.metrics["val/cross_entropy"] == pytest.approx(np.log1p(np.exp(-9)), rel=1e-3)
    found = learner.validate(held_out, {"classifier": Always()}).metrics
    healthy = found["val/accuracy"]
    assert 0.2 < healthy < 0.8
    assert healthy * JUDGED == int(healthy * JUDGED)
    assert found["val/cross_entropy"] == pytest.approx(np.log1p(np.exp(1)) - healthy, rel=1e-4)


def test_the_panel_has_a_row_for_each_class_that_may_be_empty(learner, held_out):
    both = learner.validate(held_out, {"classifier": BySight()}).panel
    one = learner.validate(held_out, {"classifier": Always()}).panel
    assert both.shape == one.shape
    assert both.shape[0] == 2 * 8
    assert (one[8:] == 0).all()
    assert both[8:].max() > both[:8].max()


def test_steps_descend(learner):
    shape = learner.lesions.shape
    batch = {"image": torch.rand(6, 1, *shape), "class": torch.tensor([0, 1] * 3)}
    terms = [float(learner.training_step(batch)["labelled"]) for _ in range(40)]
    assert terms[-1] < 0.5 * terms[0]
