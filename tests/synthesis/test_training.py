import json

import numpy as np
import pytest
import torch

from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, DataError, ModelError
from medgan.segmentation.labelled import Labelled
from medgan.segmentation.settings import SegmenterDescription
from medgan.synthesis.generators import SynthesisConfig
from medgan.synthesis.training import GeneratorDescription, generator_task
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model

PATCHES = {"2d": {"dimensions": 2, "size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}


def case(number):
    random = np.random.default_rng(number)
    labels = np.zeros((32, 32, 8), dtype=np.uint8)
    labels[12:18, 14:19, 2:6] = 1
    voxels = (100 + 60 * labels + random.normal(0, 5, labels.shape)).astype(np.float32)
    return Labelled(f"s{number}", Prepared(voxels, np.eye(4), ((0, 32), (0, 32), (0, 8)), (0.0, 200.0)), labels)


def settings(dimensions="2d", **fit):
    fit = {"epochs": 2, "iterations_per_epoch": 2, "batch_size": 2, "precision": "32"} | fit
    network = {"kind": "spade", "channels": 4, "downs": 1, "hidden": 4, "norm": "group"}
    game = {"network": network, "warm_up_iterations": 1, "discriminator": {"receptive_field": 16, "channels": 4}}
    return SynthesisConfig(patch=PATCHES[dimensions], generator={"kind": "mask_to_lesion", **game}, fit=fit)


def trained(folder, config, **changes):
    given = {"train": [case(0), case(1)], "validation": [case(2)], "seed": 3} | changes
    task = generator_task(given.pop("train"), given.pop("validation"), config, seed=given.pop("seed"))
    return task.train(folder, make_fabric("cpu", "32"), **given)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.network.state_dict().values()])


@pytest.fixture(scope="module", params=PATCHES)
def run(request, tmp_path_factory):
    """A trained generator, and the folder of its run."""
    folder = tmp_path_factory.mktemp("run")
    return trained(folder, settings(request.param), origin=Origin(split_hash="abc", phantom=True)), folder


def test_a_model_folder_is_all_that_drawing_needs(run):
    made, folder = run
    config, loaded = made.description.config, read_model(folder / "model", GeneratorDescription)
    assert loaded.description.config == config
    assert loaded.description.subjects == ("s0", "s1")
    assert torch.equal(weights(made), weights(loaded))
    card = (folder / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "mask_to_lesion" in card
    assert "the built-in digital phantom, no patient" in card
    context, hidden = torch.zeros(1, 1, *config.shape), torch.ones(1, 1, *config.shape)
    assert loaded.network(context, hidden, hidden, torch.zeros(1, 0)).shape == context.shape
    with pytest.raises(ModelError, match="a model for synthesis, not for segmentation; use it with `medgan augment`"):
        read_model(folder / "model", SegmenterDescription)


@pytest.mark.parametrize(("share", "unused"), [(0.8, ""), (1.0, " (no patch of these is shown)")])
def test_the_card_counts_whom_lesions_were_learnt_from(tmp_path, share, unused):
    healthy = Labelled("h", case(3).image, np.zeros_like(case(3).labels))
    config = settings(epochs=1, iterations_per_epoch=1).model_copy(update={"lesion_share": share})
    again = Labelled("s0", healthy.image, healthy.labels)  # one with a lesion, whose other image has none
    made = trained(tmp_path, config, train=[case(0), again, case(1), healthy])
    assert (made.description.subjects, made.description.healthy) == (("s0", "s1", "h"), ("h",))
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| Learnt from | training subjects: 2 with a lesion, 1 healthy{unused}; real studies |" in card


def test_equal_seeds_give_equal_models_and_others_do_not(run, tmp_path):
    made, _ = run
    again, other = (trained(tmp_path / str(seed), made.description.config, seed=seed) for seed in (3, 4))
    assert torch.equal(weights(made), weights(again))
    assert not torch.equal(weights(made), weights(other))


def test_somebody_must_teach_and_somebody_choose(tmp_path):
    with pytest.raises(DataError, match="no labelled case to learn from"):
        trained(tmp_path, settings(), train=[])
    with pytest.raises(DataError, match=r"no labelled case to choose the epoch; add one, or set fit.keep=last"):
        trained(tmp_path, settings(), validation=[])
    once = settings(keep="last", epochs=1, iterations_per_epoch=1)
    assert trained(tmp_path, once, validation=[]).description.validated == 0


def test_other_settings_are_not_resumed_and_an_altered_weight_file_is_refused(run):  # the last of this run
    made, folder = run
    config = made.description.config
    other = config.model_copy(update={"fit": config.fit.model_copy(update={"batch_size": 3})})
    with pytest.raises(ConfigError, match=r"config.yaml: the training was begun with other settings"):
        trained(folder, other, resume=True)
    description = folder / "model" / "model.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    description.write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        read_model(folder / "model", GeneratorDescription)
