"""No step waits for its device: on torch's meta device, whose tensors have no values, none can be read."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.data import default_collate

from medgan.classification.classifier import ClassifierConfig, SupervisedConfig
from medgan.classification.sgan import SGANConfig
from medgan.config import load
from medgan.data.domains import Domain, Window
from medgan.data.patches import PatchConfig, PatchDataset
from medgan.data.preparation import GridConfig
from medgan.segmentation.segmenter import Segmenter
from medgan.segmentation.settings import SegmenterConfig
from medgan.synthesis.generators import SynthesisConfig, learner_of
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

META = torch.device("meta")
CT = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1000.0, upper=1000.0))
SPATIAL = {"2": (16, 16), "3": (16, 16, 8)}
TRANSLATORS = {
    "cyclegan": {"kind": "cyclegan", "pool": 2, "anchor": 1.0, "ramp_iterations": 4},
    "cyclegan-wasserstein": {"kind": "cyclegan", "adversarial": "wasserstein", "change": 1.0},
    "cut": {"kind": "cut", "patches": 4},
    "pix2pix": {"kind": "pix2pix", "dropout": 0.5, "norm": "batch", "bone_weight": 2.0, "rim_weight": 0.0},
    "registered": {"kind": "registered"},
}
PAINTER = {
    "network": {"kind": "spade", "channels": 4, "downs": 1, "hidden": 4},
    "discriminator": {"receptive_field": 16, "channels": 4, "norm": "none"},
}
GAMES = {
    kind: {"kind": kind, "generator": {"latent": 4, "channels": 4}, "discriminator": {"channels": 4}}
    for kind in ("dcgan", "conditional", "acgan")
} | {
    "progressive": {"kind": "progressive", "latent": 4, "channels": 4, "shares": [1, 1, 1]},
    "mask_to_lesion": {"kind": "mask_to_lesion", "grain": 1.0, "warm_up_iterations": 1} | PAINTER,
    "inpainting": {"kind": "inpainting", "adversarial": "wasserstein", "warm_up_iterations": 0} | PAINTER,
}


class NoCopies(TorchFunctionMode):
    """Refuses what waits on a GPU until values have come from the memory of the CPU."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        moved = isinstance(result, torch.Tensor) and result.device == META
        if function in (torch.tensor, torch.as_tensor):
            assert not moved, f"torch.{function.__name__} makes a tensor of numbers on the device; make it there"
        elif moved and function in (torch.Tensor.to, torch.Tensor.cuda) and arguments[0].device != META:
            assert options.get("non_blocking"), "a tensor is moved to the device without non_blocking=True"
        return result


def step(learner, batch):
    """One iteration of a learner whose networks and patches are on the meta device."""
    fabric = make_fabric("cpu", "32")
    optimizers = learner.optimizers()
    for name, network in learner.networks().items():
        values = list(network.parameters())
        network.to(META)
        moved = dict(zip(values, network.parameters(), strict=True))
        for group in (group for optimizer in optimizers.values() for group in optimizer.param_groups):
            group["params"] = [moved.get(value, value) for value in group["params"]]
            group["fused"] = False  # for which there is no such device
        setattr(learner, name, fabric.setup_module(network, move_to_device=False))
    learner.attach(fabric, learner.networks(), optimizers)
    learner.budget = 4
    with NoCopies():
        for _ in range(2):
            moved = {key: value.to(META, non_blocking=True) for key, value in learner.prepare(batch).items()}
            terms = learner.iterate(moved, parts=2)
    assert {term.device for term in terms.values()} == {META}


def images(spatial, *keys, channels=1):
    return {key: torch.rand(4, channels, *spatial) * 2 - 1 for key in keys}


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("case", TRANSLATORS.values(), ids=TRANSLATORS)
def test_no_translator_waits_for_its_device(make_translator, case, dimensions):
    learner = make_translator(**case, dimensions=dimensions)
    keys = "source", "target", "region", "anchor_source", "anchor_target"
    step(learner, images(learner.patch.shape, *keys, channels=learner.patch.channels))


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_patches_are_varied_without_waiting(held_out, dimensions):
    every = {"gamma": 0.3, "bias_field": 0.3, "contrast": 0.3, "brightness": 0.1, "noise": 0.1}
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, intensity=every)
    studies = held_out()
    dataset = PatchDataset(studies.source, studies.target, paired=True, config=patch, seed=0)
    batch = default_collate([dataset[number] for number in range(4)])
    with NoCopies():
        varied = dataset.augmented({key: value.to(META, non_blocking=True) for key, value in batch.items()})
    assert varied["source"].shape == (4, patch.channels, *patch.shape)


@pytest.mark.parametrize("dimensions", ["2", "3"])
@pytest.mark.parametrize("case", GAMES.values(), ids=GAMES)
def test_no_generator_of_lesions_waits_for_its_device(case, dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 16, "depth_voxels": 8 if dimensions == "3" else None}
    settings = {"labels": {"dim": 1, "bright": 2}, "patch": patch, "condition": {"classes": True}, "generator": case}
    learner = learner_of(load(SynthesisConfig, settings))
    labels = torch.randint(3, (4, 1, *SPATIAL[dimensions]))
    step(learner, images(SPATIAL[dimensions], "image") | {"labels": labels, "condition": torch.eye(3)[[0, 1, 2, 0]]})


@pytest.mark.parametrize("dimensions", SPATIAL)
def test_no_segmenter_waits_for_its_device(dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 16, "depth_voxels": 8 if dimensions == "3" else None}
    settings = {"labels": {"vessel": 1}, "domain": CT, "grid": {"spacing_mm": (None,) * 3}, "patch": patch}
    learner = Segmenter(load(SegmenterConfig, settings | {"network": {"channels": 4, "downs": 1}}))
    labels = torch.randint(2, (4, 1, *SPATIAL[dimensions]))
    step(learner, images(SPATIAL[dimensions], "image") | {"labels": labels})


@pytest.mark.parametrize("dimensions", SPATIAL)
@pytest.mark.parametrize("method", [SupervisedConfig(), SGANConfig(latent=4, channels=4)], ids=["supervised", "sgan"])
def test_no_classifier_waits_for_its_device(dimensions, method):
    shape, grid = SPATIAL[dimensions], GridConfig(spacing_mm=(None, None, None))
    config = ClassifierConfig(names=("spot",), domain=CT, shape=shape, network={"channels": 4}, grid=grid)
    learner = method.learner(config, LesionConfig(labels={"spot": 1}))
    step(learner, images(shape, "image", "unlabelled") | {"class": torch.tensor([0, 1, 0, 1])})
