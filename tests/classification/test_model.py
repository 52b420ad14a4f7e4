import json

import pytest
import torch

from medgan.classification.settings import ClassifierDescription
from medgan.errors import ModelError
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_model


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_a_model_is_read_back_as_it_was_written(saved, config, dimensions):
    model = read_model(saved(dimensions, seed=3), ClassifierDescription)
    torch.manual_seed(3)
    fresh, patches = config(dimensions).build(), torch.randn(2, 1, *model.description.config.shape)
    torch.testing.assert_close(model.network(patches), fresh.eval()(patches), rtol=1e-5, atol=1e-7)
    assert model.description.config == config(dimensions)
    assert model.description.config.classes == ("healthy", "spot", "cyst")
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_card_says_what_it_learnt_from_and_is_for(saved):
    card = (saved(phantom=True) / "MODEL_CARD.md").read_text()
    for words in (
        "Not a medical device", "healthy, spot, cyst", "9 healthy, 5 spot, 4 cyst and 100 patches without a label",
        "by `sgan`", "digital phantom", "medgan classify", "| `val/accuracy` | 0.75 |", "8 x 8 voxels",
    ):  # fmt: skip
        assert words in card


def test_an_altered_file_is_refused(saved):
    folder = saved()
    with (folder / "weights.safetensors").open("ab") as stream:
        stream.write(b"0")
    with pytest.raises(ModelError, match="was changed or damaged"):
        read_model(folder, ClassifierDescription)


def test_weights_of_other_classes_are_refused(saved):
    folder = saved()
    description = json.loads((folder / "model.json").read_text())
    description["config"]["names"] = ["spot"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="weights do not fit"):
        read_model(folder, ClassifierDescription)


@pytest.mark.parametrize("kind", [SegmenterDescription, TranslationDescription])
def test_other_commands_name_the_one_that_it_is_for(saved, kind):
    with pytest.raises(ModelError, match=r"is a model for classification.*use it with `medgan classify`"):
        read_model(saved(), kind)


def test_a_model_for_something_else_is_refused(saved):
    folder = saved()
    (folder / "model.json").write_text('{"schema_version": 1, "task": "segmentation"}')
    with pytest.raises(ModelError, match="use it with `medgan segment`"):
        read_model(folder, ClassifierDescription)
