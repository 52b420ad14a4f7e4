import csv
import math

import numpy as np
import pytest
import torch
from lightning_fabric import seed_everything
from PIL import Image
from torch import nn

from medgan.errors import ConfigError, DataError
from medgan.evaluation.tissues import overlap
from medgan.segmentation.apply import segment_prepared
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.segmentation.segmenter import Segmenter, segmenter_task
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.fit import Fit, Interrupted
from medgan.training.model_folder import Origin, read_model

ORIGIN = Origin(split_hash="abc", phantom=True)


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


class Always(nn.Module):
    """A network that is sure of one class everywhere."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, image):
        scores = torch.zeros(len(image), 3, *image.shape[2:])
        scores[:, self.number] = 9
        return scores


def test_validation_is_the_mean_dice_over_subjects_and_those_names_that_somebody_has(segmenter, subjects):
    given = subjects(2)

    def judged(number):
        return segmenter().validate(LabelledHeldOut.of(given), {"segmenter": Always(number)}).metrics

    shares = [np.mean(each.labels == 1) for each in given]
    expected = np.mean([2 * share / (share + 1) for share in shares])
    dice = {"disc": expected, "square": 0}
    means = {"val/dice": expected / 2, "val/dice_loss": 1 - expected / 2}
    assert judged(1) == pytest.approx({f"val/dice_{name}": value for name, value in dice.items()} | means)
    for each in given:
        each.labels[each.labels == 2] = 0
    assert judged(1) == pytest.approx({"val/dice_disc": expected, "val/dice": expected, "val/dice_loss": 1 - expected})
    for each in given:
        each.labels[:] = 0
    assert math.isnan(judged(0)["val/dice_loss"])


def test_a_panel_shows_image_truth_and_finding_where_the_truth_is_largest(segmenter, subjects):
    (subject,) = subjects(1)
    subject.labels[:] = 0
    subject.labels[2:6, :, 3] = 2
    panel = segmenter().validate(LabelledHeldOut.of([subject]), {"segmenter": Always(1)}).panel
    axial, *_ = panel.rows
    assert axial.caption.startswith("case 1: axial, slice 4 of ")
    image, truth, found = axial.tiles
    assert np.array_equal(image.view.pixels, subject.image.voxels[::-1, ::-1, 3].T)
    assert not image.outlines
    disc, square = truth.outlines
    assert (disc.mask.sum(), square.mask.sum()) == (0, 4 * 24)
    assert [outline.name for outline in found.outlines] == ["disc", "square"]
    assert not found.outlines[1].mask.any()


@pytest.fixture(scope="module")
def trained_in(config, subjects, fabric):
    """A short training in a folder: ``trained_in(folder, "3", seed=1)``."""

    def run(folder, dimensions="2", *, seed=0, train=None, validation=None, settings=None, extra=(), share=0.0, **more):
        train = subjects(2) if train is None else train
        validation = subjects(1, 10) if validation is None else validation
        settings = settings or config(dimensions, fit={"epochs": 2})
        task = segmenter_task(train, validation, settings, seed=seed, extra=extra, extra_share=share)
        return task.train(folder, fabric, **more)

    return run


@pytest.fixture(scope="module")
def one(trained_in, tmp_path_factory):
    """The folder and the model of a short training that nobody stopped."""
    folder = tmp_path_factory.mktemp("one")
    return folder, trained_in(folder, origin=ORIGIN)


def weights(model):
    return torch.cat([value.flatten() for value in model.network.state_dict().values()])


def test_a_segmenter_learns_what_its_labels_look_like_and_its_best_epoch_is_kept(trained, subjects, fabric):
    folder, model = trained
    unseen = subjects(6, 20)
    found = [segment_prepared(model.network, each.image, model.description.config, fabric) for each in unseen]
    for name in (1, 2):
        dice = [overlap(one == name, each.labels == name) for one, each in zip(found, unseen, strict=True)]
        assert np.mean(dice) > 0.8
    with (folder / "metrics.csv").open() as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    dice = [row["val/dice"] for row in rows]
    assert dice == pytest.approx([(row["val/dice_disc"] + row["val/dice_square"]) / 2 for row in rows])
    assert model.description.epoch == int(np.argmax(dice)) + 1
    assert model.description.metrics["val/dice"] == pytest.approx(max(dice))
    assert Image.open(folder / "samples" / "epoch_0001.png").size[0] > 3 * 256


def test_equal_seeds_give_equal_models_and_the_folder_tells_where_the_subjects_come_from(trained_in, one, tmp_path):
    first, again = (trained_in(tmp_path / name, "3") for name in ("first", "again"))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(one[1]), weights(trained_in(tmp_path / "other", seed=1)))
    assert read_model(one[0] / "model", SegmenterDescription).description.origin == ORIGIN


def test_more_subjects_do_not_mean_more_steps_and_without_validation_the_last_epoch_is_kept(
    trained_in, subjects, tmp_path, config
):
    last = config(fit={"keep": "last", "epochs": 2})
    description = trained_in(tmp_path, train=subjects(5), validation=[], settings=last).description
    assert (description.trained, description.epoch, description.metrics) == (5, 2, {})
    assert torch.load(tmp_path / "state" / "last.pt", weights_only=True)["progress"]["iteration"] == 2 * 4


def test_an_interrupted_training_goes_on_to_the_same_model_and_with_its_own_settings_alone(
    trained_in, one, tmp_path, monkeypatch, config
):
    finish = Fit._finish_epoch

    def stop_after_one(self):
        finish(self)
        raise Interrupted

    monkeypatch.setattr(Fit, "_finish_epoch", stop_after_one)
    with pytest.raises(Interrupted):
        trained_in(tmp_path)
    monkeypatch.undo()
    for _ in range(2):  # and once more where there is nothing left to do
        assert torch.equal(weights(trained_in(tmp_path, resume=True)), weights(one[1]))
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        trained_in(tmp_path, resume=True, settings=config(rate=0.5, fit={"epochs": 2}))


def test_extra_subjects_are_what_a_share_of_the_patches_shows(trained_in, one, subjects, tmp_path):
    mixed = trained_in(tmp_path / "mixed", extra=subjects(2, 30), share=0.5)
    only = trained_in(tmp_path / "only", train=[], extra=subjects(2), share=1.0)
    assert (mixed.description.extra, mixed.description.extra_share) == (2, 0.5)
    assert not torch.equal(weights(mixed), weights(one[1]))
    assert torch.equal(weights(only), weights(one[1])), "whoever is drawn, a patch is a function of seed and number"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"train": []}, DataError, "no labelled subject to train on"),
        ({"validation": []}, DataError, "choose the epoch; add one, or set fit.keep=last"),
        ({"share": 0.5}, ConfigError, "extra_share=0.5 with 0 extra subjects"),
    ],
)
def test_a_training_that_cannot_be_is_refused(trained_in, tmp_path, asked, error, message):
    with pytest.raises(error, match=message):
        trained_in(tmp_path, **asked)
    assert list(tmp_path.iterdir()) == []
