import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.errors import ConfigError, DataError
from medgan.evaluation.tissues import overlap
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterDescription
from medgan.segmentation.training import segmenter_task
from medgan.training.fit import Fit, Interrupted
from medgan.training.model_folder import Origin, read_model

ORIGIN = Origin(split_hash="abc", phantom=True)


@pytest.fixture(scope="module")
def trained_in(config, subjects, fabric):
    """A short training in a folder: ``trained_in(folder, "3", seed=1)``."""

    def run(folder, dimensions="2", *, seed=0, given=None, validation=None, settings=None, **more):
        train = subjects(2) if given is None else given
        chooses = subjects(1, 10) if validation is None else validation
        settings = settings or config(dimensions, fit={"epochs": 2})
        extra = {key: more.pop(key) for key in ("extra", "extra_share") if key in more}
        return segmenter_task(train, chooses, settings, seed=seed, **extra).train(folder, fabric, **more)

    return run


@pytest.fixture(scope="module")
def one(trained_in, tmp_path_factory):
    """The folder and the model of a short training that nobody stopped."""
    folder = tmp_path_factory.mktemp("one")
    return folder, trained_in(folder, origin=ORIGIN)


@pytest.fixture
def copy(one, tmp_path):
    """That folder, to be changed."""
    return shutil.copytree(one[0], tmp_path / "copy")


def weights(model):
    return torch.cat([value.flatten() for value in model.network.state_dict().values()])


def test_a_segmenter_learns_what_its_labels_look_like(trained, subjects, fabric):
    _, model = trained
    for unseen in subjects(2, 20):
        found = segment_study(model, unseen.image, fabric)
        assert overlap(found == 1, unseen.labels == 1) > 0.85
        assert overlap(found == 2, unseen.labels == 2) > 0.85


def test_the_epoch_with_the_highest_mean_dice_is_kept(trained):
    folder, model = trained
    with (folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    dice = [float(row["val/dice"]) for row in rows]
    assert model.description.epoch == int(np.argmax(dice)) + 1
    assert model.description.metrics["val/dice"] == pytest.approx(max(dice))
    for row in rows:
        assert float(row["val/dice"]) == pytest.approx(
            (float(row["val/dice_disc"]) + float(row["val/dice_square"])) / 2
        )
    assert Image.open(folder / "samples" / "epoch_0001.png").size == (3 * 24, 2 * 24)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_equal_seeds_give_equal_models(trained_in, one, tmp_path, dimensions):
    first = one[1] if dimensions == "2" else trained_in(tmp_path / "first", dimensions)
    assert torch.equal(weights(first), weights(trained_in(tmp_path / "again", dimensions)))
    if dimensions == "2":
        assert not torch.equal(weights(first), weights(trained_in(tmp_path / "other", seed=1)))


def test_more_subjects_do_not_mean_more_steps(trained_in, one, subjects, tmp_path):
    assert trained_in(tmp_path, given=subjects(5)).description.trained == 5
    states = [torch.load(folder / "state" / "last.pt", weights_only=True) for folder in (one[0], tmp_path)]
    assert [state["progress"]["iteration"] for state in states] == [2 * 4, 2 * 4]


def test_an_interrupted_training_goes_on_to_the_same_model(trained_in, one, tmp_path, monkeypatch):
    monkeypatch.setattr(Fit, "_finish_epoch", stopping_after_the_first_epoch(Fit._finish_epoch))
    with pytest.raises(Interrupted):
        trained_in(tmp_path)
    monkeypatch.undo()
    assert torch.equal(weights(trained_in(tmp_path, resume=True)), weights(one[1]))


def stopping_after_the_first_epoch(finish):
    def stop(self):
        finish(self)
        raise Interrupted

    return stop


def test_a_finished_training_that_is_resumed_is_the_same_model_and_takes_no_other_settings(
    trained_in, one, copy, config
):
    assert torch.equal(weights(one[1]), weights(trained_in(copy, resume=True)))
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        trained_in(copy, resume=True, settings=config(rate=0.5, fit={"epochs": 2}))


def test_extra_subjects_are_what_a_share_of_the_patches_shows(trained_in, one, subjects, tmp_path):
    mixed = trained_in(tmp_path / "mixed", extra=subjects(2, 30), extra_share=0.5)
    only = trained_in(tmp_path / "only", given=[], extra=subjects(2), extra_share=1.0)
    assert (mixed.description.extra, mixed.description.extra_share) == (2, 0.5)
    assert not torch.equal(weights(mixed), weights(one[1]))
    assert torch.equal(weights(only), weights(one[1])), "whoever is drawn, a patch is a function of seed and number"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"given": []}, DataError, "no labelled subject to train on"),
        ({"validation": []}, DataError, "choose the epoch; add one, or set fit.keep=last"),
        ({"extra_share": 0.5}, ConfigError, "extra_share=0.5 with 0 extra subjects"),
    ],
)
def test_a_training_that_cannot_be_is_refused(trained_in, tmp_path, asked, error, message):
    with pytest.raises(error, match=message):
        trained_in(tmp_path, **asked)
    assert list(tmp_path.iterdir()) == []


def test_without_validation_the_last_epoch_is_kept(trained_in, config, tmp_path):
    model = trained_in(tmp_path, validation=[], settings=config(fit={"keep": "last", "epochs": 2}))
    assert (model.description.epoch, model.description.metrics) == (2, {})


def test_where_the_subjects_come_from_is_in_the_model_folder(one):
    assert read_model(one[0] / "model", SegmenterDescription).description.origin == ORIGIN
