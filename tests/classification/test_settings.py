import json

import pytest
import torch
from pydantic import ValidationError

from medgan.classification.settings import ClassifierDescription, ClassifierNetworkConfig
from medgan.errors import ModelError
from medgan.training.model_folder import read_model


@pytest.mark.parametrize("dimensions", ["2", "3"])
@pytest.mark.parametrize("norm", ["group", "instance", "none"])
def test_the_network_scores_every_class_of_a_patch(config, dimensions, norm):
    made = config(dimensions, network=ClassifierNetworkConfig(channels=4, norm=norm))
    assert made.classes == ("healthy", "spot", "cyst")
    assert made.build()(torch.zeros(5, 1, *made.shape)).shape == (5, 3)


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_what_it_says_of_a_patch_does_not_depend_on_the_others(config, dimensions):
    torch.manual_seed(0)
    made = config(dimensions)
    network, patches = made.build().train(), torch.randn(4, 1, *made.shape)
    torch.testing.assert_close(network(patches)[:1], network(patches[:1]))


def test_healthy_is_no_name(config):
    with pytest.raises(ValidationError, match="'healthy' is what a patch is that holds none of the names"):
        config(names=("healthy", "spot"))


def test_a_shape_that_no_network_halves_is_refused(config):
    with pytest.raises(ValidationError, match="none can be halved"):
        config(shape=(7, 7))


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


def test_weights_of_other_classes_are_refused(saved):
    folder = saved()
    description = json.loads((folder / "model.json").read_text())
    description["config"]["names"] = ["spot"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="weights do not fit"):
        read_model(folder, ClassifierDescription)
