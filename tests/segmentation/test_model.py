import json
import shutil

import pytest
import torch

from medgan.errors import ModelError
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_model


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained[0] / "model", tmp_path / "model")


def test_a_model_is_read_back_as_it_was_written(trained, folder):
    model = read_model(folder, SegmenterDescription)
    assert model.description == trained[1].description
    assert model.description.names == {1: "disc", 2: "square"}
    assert not model.network.training
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(model.network(image), trained[1].network(image))


def test_a_description_tells_what_it_was_trained_on(folder):
    content = json.loads((folder / "model.json").read_text())
    assert content["task"] == "segmentation"
    assert (content["trained"], content["extra"], content["validated"], content["seed"]) == (4, 0, 2, 3)
    assert {"medgan", "torch", "monai"} <= set(content["versions"])


def test_the_card_says_what_is_segmented_and_that_it_is_no_medical_device(folder):
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| Segments | 1 disc, 2 square |" in card
    assert "Not a medical device" in card
    assert "4 train and 0 extra, 2 validation; real studies" in card
    assert "window -200 to 300 HU" in card
    assert "`val/dice`" in card


def test_an_altered_model_is_refused(folder):
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelError, match="was changed or damaged"):
        read_model(folder, SegmenterDescription)


def test_a_network_of_other_settings_is_refused(folder):
    content = json.loads((folder / "model.json").read_text())
    content["config"]["network"]["channels"] = 8
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="weights do not fit the networks described"):
        read_model(folder, SegmenterDescription)


def test_a_segmenter_and_a_translator_are_not_taken_for_one_another(folder, tmp_path):
    with pytest.raises(ModelError, match="is a model for segmentation, not for translation; use it with `medgan segme"):
        read_model(folder, TranslationDescription)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "task": "translation"}))
    with pytest.raises(ModelError, match="is a model for translation, not for segmentation; use it with `medgan conv"):
        read_model(folder, SegmenterDescription)
