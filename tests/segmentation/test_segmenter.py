import math

import numpy as np
import pytest
import torch
from lightning_fabric import seed_everything
from torch import nn

from medgan.segmentation.labelled import LabelledHeldOut
from medgan.segmentation.segmenter import Segmenter


@pytest.fixture
def segmenter(config, fabric):
    def make(dimensions="2", **changes):
        seed_everything(0, verbose=False)
        made = Segmenter(config(dimensions, **changes))
        made.attach(fabric, made.networks(), made.optimizers())
        return made

    return make


def batch(dimensions):
    spatial = (16, 16, 8) if dimensions == "3" else (16, 16)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (4, 1, *spatial)))
    return {"image": torch.zeros(4, 3 if dimensions == "2.5" else 1, *spatial), "labels": labels}


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_terms_are_soft_dice_of_the_names_over_the_batch_and_cross_entropy(segmenter, dimensions):
    learner, given = segmenter(dimensions), batch(dimensions)
    with torch.no_grad():
        learner.segmenter.train()
        shares = torch.softmax(learner.segmenter(given["image"]), dim=1)
    truth = torch.stack([given["labels"][:, 0] == number for number in range(3)], dim=1).float()
    axes = [axis for axis in range(truth.dim()) if axis != 1]
    dice = 2 * (shares * truth).sum(axes) / (shares.sum(axes) + truth.sum(axes))
    terms = learner.training_step(given)
    assert float(terms["dice"]) == pytest.approx(float(1 - dice[1:].mean()), abs=1e-5)
    entropy = -(truth * shares.log()).sum(1).mean()
    assert float(terms["cross_entropy"]) == pytest.approx(float(entropy), abs=1e-5)


def test_steps_descend(segmenter):
    learner, given = segmenter(rate=0.01), batch("2")
    given["image"] = given["labels"].float() - 1
    sums = [float(sum(learner.training_step(given).values())) for _ in range(40)]
    assert sums[-1] < 0.5 * sums[0]


class Always(nn.Module):
    """A network that is sure of one class everywhere."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, image):
        scores = torch.zeros(len(image), 3, *image.shape[2:])
        scores[:, self.number] = 9
        return scores


def test_validation_is_the_mean_dice_over_subjects_and_names(segmenter, subjects):
    held_out = LabelledHeldOut.of(subjects(2))
    metrics = segmenter().validate(held_out, {"segmenter": Always(1)}).metrics
    shares = [np.mean(labels == 1) for labels in held_out.labels]
    expected = np.mean([2 * share / (share + 1) for share in shares])
    assert metrics["val/dice_disc"] == pytest.approx(expected)
    assert metrics["val/dice_square"] == 0
    assert metrics["val/dice"] == pytest.approx(expected / 2)
    assert metrics["val/dice_loss"] == pytest.approx(1 - expected / 2)


def test_a_name_that_nobody_has_says_nothing(segmenter, subjects):
    (subject,) = subjects(1)
    subject.labels[subject.labels == 2] = 0
    held_out = LabelledHeldOut.of([subject])
    metrics = segmenter().validate(held_out, {"segmenter": Always(1)}).metrics
    assert "val/dice_square" not in metrics
    assert metrics["val/dice"] == metrics["val/dice_disc"] > 0
    subject.labels[:] = 0
    assert math.isnan(segmenter().validate(held_out, {"segmenter": Always(0)}).metrics["val/dice_loss"])


def test_a_panel_shows_image_truth_and_finding_where_the_truth_is_largest(segmenter, subjects):
    (subject,) = subjects(1)
    subject.labels[:] = 0
    subject.labels[2:6, :, 3] = 2
    panel = segmenter().validate(LabelledHeldOut.of([subject]), {"segmenter": Always(1)}).panel
    image, truth, found = panel[:, :24], panel[:, 24:48], panel[:, 48:]
    assert len(np.unique(image)) > 10
    assert (truth == 255).sum() == 4 * 24
    assert set(np.unique(truth)) == {0, 255}
    assert set(np.unique(found)) <= {0, 128}
