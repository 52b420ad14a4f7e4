import csv

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.errors import ConfigError, DataError
from medgan.evaluation.tissues import overlap
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterDescription
from medgan.segmentation.training import train_segmenter
from medgan.training.fit import Fit, Interrupted
from medgan.training.model_folder import Origin, read_model


@pytest.fixture
def train(config, subjects, fabric, tmp_path):
    def run(name="one", dimensions="2", *, seed=0, resume=False, given=None, validation=None, settings=None, **extra):
        return train_segmenter(
            subjects(2) if given is None else given,
            subjects(1, 10) if validation is None else validation,
            settings or config(dimensions),
            seed=seed,
            folder=tmp_path / name,
            fabric=fabric,
            resume=resume,
            **extra,
        )

    return run


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
def test_equal_seeds_give_equal_models(train, dimensions):
    one, again, other = (train(str(n), dimensions, seed=seed) for n, seed in enumerate((5, 5, 6)))
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(other))


def test_more_subjects_do_not_mean_more_steps(train, subjects, tmp_path):
    train("few")
    assert train("many", given=subjects(5)).description.trained == 5
    states = [torch.load(tmp_path / name / "state" / "last.pt", weights_only=True) for name in ("few", "many")]
    assert [state["progress"]["iteration"] for state in states] == [3 * 4, 3 * 4]


def test_an_interrupted_training_goes_on_to_the_same_model(train, monkeypatch):
    whole = train("whole")
    monkeypatch.setattr(Fit, "_finish_epoch", stopping_in_the_second_epoch(Fit._finish_epoch))
    with pytest.raises(Interrupted):
        train("cut")
    monkeypatch.undo()
    assert torch.equal(weights(train("cut", resume=True)), weights(whole))


def stopping_in_the_second_epoch(finish):
    def stop(self):
        finish(self)
        if self.epoch == 1:
            raise Interrupted

    return stop


def test_a_finished_training_that_is_resumed_is_the_same_model(train):
    assert torch.equal(weights(train("one")), weights(train("one", resume=True)))


def test_other_settings_are_not_resumed(train, config):
    train("one")
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        train("one", resume=True, settings=config(rate=0.5))


def test_extra_subjects_are_what_a_share_of_the_patches_shows(train, subjects):
    real = train("real")
    mixed = train("mixed", extra=subjects(2, 30), extra_share=0.5)
    only = train("only", given=[], extra=subjects(2), extra_share=1.0)
    assert (mixed.description.extra, mixed.description.extra_share) == (2, 0.5)
    assert not torch.equal(weights(mixed), weights(real))
    assert torch.equal(weights(only), weights(real)), "whoever is drawn, a patch is a function of seed and number"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"given": []}, DataError, "no labelled subject to train on"),
        ({"validation": []}, DataError, "choose the epoch; add one, or set fit.keep=last"),
        ({"extra_share": 0.5}, ConfigError, "extra_share=0.5 with 0 extra subjects"),
    ],
)
def test_a_training_that_cannot_be_is_refused(train, tmp_path, asked, error, message):
    with pytest.raises(error, match=message):
        train(**asked)
    assert list(tmp_path.iterdir()) == []


def test_without_validation_the_last_epoch_is_kept(train, config):
    model = train(validation=[], settings=config(fit={"keep": "last"}))
    assert (model.description.epoch, model.description.metrics) == (3, {})


def test_where_the_subjects_come_from_is_in_the_model_folder(train, tmp_path):
    train("one", origin=Origin(split_hash="abc", phantom=True))
    assert read_model(tmp_path / "one" / "model", SegmenterDescription).description.origin == Origin(
        split_hash="abc", phantom=True
    )
