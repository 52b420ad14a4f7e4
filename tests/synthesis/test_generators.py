"""Every generator by its settings: what is built and drawn, its model folder, and a training that is stopped."""

import json
import signal

import numpy as np
import pytest
import torch

from labelled_cases import boxed_case
from medgan.config import load
from medgan.errors import ConfigError, DataError, ModelError
from medgan.segmentation.labelled import Labelled
from medgan.segmentation.settings import SegmenterDescription
from medgan.synthesis.generators import LEARNERS, GeneratorDescription, SynthesisConfig, generator_task, learner_of
from medgan.training.device import make_fabric
from medgan.training.fit import Interrupted
from medgan.training.model_folder import Origin, read_model
from medgan.training.state import load_checked

KINDS = [settings().kind for settings in LEARNERS]
PATCHES = {"2d": {"dimensions": 2, "size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}
PAINTER = {
    "kind": "mask_to_lesion", "network": {"kind": "spade", "channels": 4, "downs": 1, "hidden": 4, "norm": "group"},
    "warm_up_iterations": 1, "discriminator": {"receptive_field": 16, "channels": 4},
}  # fmt: skip
GROWING = {"kind": "progressive", "latent": 4, "channels": 2, "most_channels": 4, "shares": [1, 1, 1]}


def case(number):
    return boxed_case((32, 32, 8), [np.s_[12:18, 14:19, 2:6]], number)


def settings(dimensions="2d", generator=PAINTER, **fit):
    fit = {"epochs": 2, "iterations_per_epoch": 2, "batch_size": 2, "precision": "32"} | fit
    return SynthesisConfig(patch=PATCHES[dimensions], generator=generator, fit=fit)


TRAIN, VALIDATION = (case(0), case(1)), (case(2),)


def trained(folder, config, *, train=TRAIN, validation=VALIDATION, seed=3, **how):
    return generator_task(train, validation, config, seed=seed).train(folder, make_fabric("cpu", "32"), **how)


def weights(model):
    return torch.cat([value.double().flatten() for value in model.network.state_dict().values()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_settings_name_a_generator_and_its_learner_keeps_what_they_build(kind, dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 32}
    config = load(SynthesisConfig, {"generator": {"kind": kind}, "patch": patch, "condition": {"classes": True}})
    learner = learner_of(config)
    assert config.generator.kind == kind
    assert learner.kept == ("generator",)
    networks = learner.networks()["generator"], config.generator.build(config)
    ours, theirs = ({name: part.shape for name, part in network.state_dict().items()} for network in networks)
    assert ours == theirs


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
    hidden = torch.ones(1, 1, *config.shape)
    assert loaded.network(hidden, hidden, hidden, torch.zeros(1, 0)).shape == hidden.shape
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


@pytest.mark.parametrize("dimensions", PATCHES)
@pytest.mark.parametrize(
    ("generator", "stop_after"),
    [(PAINTER, 2), (GROWING, 3), (GROWING, 4)],
    ids=["painter", "before a border of levels", "while a level fades in"],
)
def test_a_stopped_and_resumed_run_equals_one_that_was_not(tmp_path, monkeypatch, dimensions, generator, stop_after):
    config = settings(dimensions, generator, epochs=3, iterations_per_epoch=3, average_decay=0.9)
    learner, done = LEARNERS[type(config.generator)], []
    step = learner.training_step

    def stopping(self, batch):
        done.append(1)
        if len(done) == stop_after:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    trained(tmp_path / "whole", config)
    monkeypatch.setattr(learner, "training_step", stopping)
    with pytest.raises(Interrupted, match=f"stopped after iteration {stop_after}"):
        trained(tmp_path / "parts", config)
    monkeypatch.undo()
    if stop_after == 4:  # the average has grown exactly as far as the networks
        stopped = load_checked(tmp_path / "parts" / "state" / "last.pt")
        grown = np.float32(config.generator.grown(3, 9))
        assert 0 < grown % 1 < 1
        for held in (*stopped["networks"].values(), *stopped["averages"].values()):
            assert held["grown"].item() == grown
    torch.rand(7)
    trained(tmp_path / "parts", config, resume=True)
    whole, parts = (load_checked(tmp_path / name / "state" / "last.pt") for name in ("whole", "parts"))
    for part in ("networks", "averages"):
        for network, state in whole[part].items():
            for name, weight in state.items():
                assert torch.equal(weight, parts[part][network][name]), f"{part} {network} {name}"
    assert whole["progress"] == parts["progress"]
    assert whole["memory"] == parts["memory"]
    assert whole["progress"]["iteration"] == 9
