import json

import pytest
import torch

from medgan.config import from_overrides, load, to_yaml
from medgan.errors import ConfigError
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.training.model_folder import read_model


def test_a_label_is_one_value_or_several_and_settings_are_read_back_as_they_were_written(tmp_path, config):
    labels = load(SegmenterConfig, from_overrides(["labels={kidney: [7, 8], liver: 5}"])).labels
    assert labels == {"kidney": (7, 8), "liver": (5,)}
    (tmp_path / "config.yaml").write_text(to_yaml(config("2.5")))
    assert load(SegmenterConfig, tmp_path / "config.yaml") == config("2.5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("labels={}", "labels"),
        ("labels={a: 1, b: [1, 2]}", "value 1 belongs to both a and b"),
        ("labels={a: 0}", "greater than 0"),
        ("labels={a/b: 1}", "labels"),
        ("augmentation=strong", "augmentation"),
    ],
)
def test_settings_that_mean_nothing_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load(SegmenterConfig, {"labels": {}}, from_overrides([override]))


def test_standard_augmentation_mirrors_nothing_and_none_changes_nothing(config):
    assert not config().training_patch.flip
    assert config().training_patch.intensity.varies
    still = config(augmentation="none", patch={"flip": True, "mirroring": True}).training_patch
    assert (still.flip, still.mirroring, still.rotation_degrees, still.scaling) == (False, False, 0, 0)
    assert not still.intensity.varies
    assert still.shape == config().patch.shape


@pytest.mark.parametrize(("dimensions", "shape"), [("2", (1, 16, 12)), ("2.5", (3, 16, 12)), ("3", (1, 16, 12, 8))])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_network_scores_every_voxel_for_background_and_each_name(config, dimensions, shape, norm):
    network = config(dimensions, network={"norm": norm}).build()
    assert network(torch.zeros(2, *shape)).shape == (2, 3, *shape[1:])


def test_a_model_is_read_back_as_it_was_written_and_tells_what_it_was_trained_on(trained):
    folder, written = trained[0] / "model", trained[1]
    model = read_model(folder, SegmenterDescription)
    assert model.description == written.description
    assert model.description.names == {1: "disc", 2: "square"}
    assert not model.network.training
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(model.network(image), written.network(image))
    content = json.loads((folder / "model.json").read_text())
    assert [content[key] for key in ("trained", "extra", "validated", "seed")] == [4, 0, 2, 3]
    card = (folder / "MODEL_CARD.md").read_text()
    for words in (
        "| Segments | 1 disc, 2 square |", "4 train and 0 extra, 2 validation; real studies",
        "window -200 to 300 HU", "`val/dice`",
    ):  # fmt: skip
        assert words in card
