import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from labelled_cases import boxed_case
from medgan.classification.classifier import ClassifierDescription, ClassifierNetworkConfig, Supervised, cut_labelled
from medgan.classification.few_labels import FewLabelsConfig
from medgan.errors import ModelError
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric
from medgan.training.model_folder import read_model

SIZES = {"2": {"size_voxels": 8}, "3": {"dimensions": 3, "size_voxels": 8, "depth_voxels": 8}}
BOTH = pytest.mark.parametrize("dimensions", ["2", "3"])
HELD_OUT = LabelledHeldOut.of([boxed_case((40, 40, 8), [np.s_[6:10, 6:10, 3:5]], level=60, contrast=90, noise=0)])
JUDGED = 32


@BOTH
@pytest.mark.parametrize("norm", ["group", "instance", "none"])
def test_the_network_scores_every_class_of_a_patch_whatever_the_others_are(config, dimensions, norm):
    torch.manual_seed(0)
    made = config(dimensions, network=ClassifierNetworkConfig(channels=4, norm=norm))
    network, patches = made.build().train(), torch.randn(5, 1, *made.shape)
    assert made.classes == ("healthy", "spot", "cyst")
    assert network(patches).shape == (5, 3)
    torch.testing.assert_close(network(patches)[:1], network(patches[:1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("healthy", "spot")}, "'healthy' is what a patch is that holds none of the names"),
        ({"shape": (7, 7)}, "none can be halved"),
    ],
)
def test_names_and_shapes_that_cannot_be_are_refused(config, changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


@BOTH
def test_a_model_is_read_back_as_it_was_written(saved, config, dimensions):
    model = read_model(saved(dimensions, seed=3), ClassifierDescription)
    torch.manual_seed(3)
    fresh, patches = config(dimensions).build(), torch.randn(2, 1, *model.description.config.shape)
    torch.testing.assert_close(model.network(patches), fresh.eval()(patches), rtol=1e-5, atol=1e-7)
    assert model.description.config == config(dimensions)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_card_says_what_it_learnt_from_and_is_for_and_weights_of_other_classes_are_refused(saved):
    folder = saved(phantom=True)
    card = (folder / "MODEL_CARD.md").read_text()
    for words in (
        "Not a medical device", "healthy, spot, cyst", "9 healthy, 5 spot, 4 cyst and 100 patches without a label",
        "by `sgan`", "digital phantom", "medgan classify", "| `val/accuracy` | 0.75 |", "8 x 8 voxels",
    ):  # fmt: skip
        assert words in card
    description = json.loads((folder / "model.json").read_text())
    description["config"]["names"] = ["spot"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="weights do not fit"):
        read_model(folder, ClassifierDescription)


@BOTH
def test_a_cut_patch_is_of_the_class_that_its_mask_says(dimensions):
    boxes = [np.s_[10:14, 10:14, 3:5], np.s_[40:44, 12:16, 3:5]]
    case = boxed_case((60, 60, 8), boxes, contrast=30, noise=0)
    patch = {"dimensions": dimensions, "size_voxels": 8, "depth_voxels": 4 if dimensions == "3" else None}
    cut = cut_labelled([case], LesionConfig(labels={"dim": 1, "bright": 2}, patch=patch, lesion_share=0.6), 40, seed=0)
    assert set(cut.classes.tolist()) == {0, 1, 2}
    torch.testing.assert_close(cut.images.flatten(1).amax(1), cut.classes * 0.3)


class BySight(nn.Module):
    """Sure of "lesion" where anything is brighter than 0, else of "healthy"."""

    def forward(self, image):
        seen = 9.0 * (image.flatten(1).amax(1) > 0)
        return torch.stack([9 - seen, seen], dim=1)


class Always(nn.Module):
    """The scores 1 for healthy and 0 for lesion, whatever is shown."""

    def forward(self, image):
        return torch.tensor([1.0, 0.0]).repeat(len(image), 1)


@pytest.fixture(params=SIZES)
def learner(request, monkeypatch):
    monkeypatch.setattr("medgan.classification.classifier.JUDGED", JUDGED)
    config = FewLabelsConfig(patch=SIZES[request.param], network={"channels": 4}, lesion_share=0.5)
    made = Supervised(config.classifier, config, 0.01)
    made.attach(make_fabric("cpu", "32"), made.networks(), made.optimizers())
    return made


def test_it_is_judged_over_held_out_patches_and_the_panel_has_a_row_for_each_class_that_may_be_empty(learner):
    right, always = (learner.validate(HELD_OUT, {"classifier": network()}) for network in (BySight, Always))
    assert right.metrics["val/accuracy"] == 1
    assert right.metrics["val/cross_entropy"] == pytest.approx(np.log1p(np.exp(-9)), rel=1e-3)
    healthy = always.metrics["val/accuracy"]
    assert 0.2 < healthy < 0.8
    assert healthy * JUDGED == int(healthy * JUDGED)
    assert always.metrics["val/cross_entropy"] == pytest.approx(np.log1p(np.exp(1)) - healthy, rel=1e-4)
    healthy, lesion = right.panel.rows
    assert (healthy.caption, lesion.caption) == ("taken for healthy", "taken for lesion")
    assert {tile.title for tile in lesion.tiles} == {"is lesion"}
    assert max(tile.view.pixels.max() for tile in lesion.tiles) > max(tile.view.pixels.max() for tile in healthy.tiles)
    assert always.panel.rows[1].tiles == [None]
    assert min(always.panel.picture().image.size) > 256


def test_steps_descend(learner):
    batch = {"image": torch.rand(6, 1, *learner.lesions.shape), "class": torch.tensor([0, 1] * 3)}
    terms = [float(learner.training_step(batch)["labelled"]) for _ in range(40)]
    assert terms[-1] < 0.5 * terms[0]
