"""Translators on a device, and batches for them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from medgan.data.preparation import Prepared
from medgan.training.device import make_fabric


@pytest.fixture(scope="session")
def attached(make_translator) -> Callable[..., object]:
    """A tiny translator as the loop leaves it, its networks wrapped: ``attached("cyclegan", "2.5", cycle=0)``."""

    def make(*arguments, precision="32", **settings):
        torch.manual_seed(1)
        translator = make_translator(*arguments, **settings)
        fabric = make_fabric("cpu", precision)
        wrapped = {name: fabric.setup_module(network) for name, network in translator.networks().items()}
        placed = {name: fabric.setup_optimizers(each) for name, each in translator.optimizers().items()}
        translator.attach(fabric, wrapped, placed)
        return translator

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., dict[str, torch.Tensor]]:
    """Random patches that fit a translator: ``make_batch(translator)``, each (2, channels, *shape)."""

    def make(translator, seed=0):
        random = torch.Generator().manual_seed(seed)
        shape = (2, translator.patch.channels, *translator.patch.shape)
        return {name: torch.rand(shape, generator=random) * 2 - 1 for name in ("source", "target")}

    return make


@pytest.fixture(scope="session")
def weights() -> Callable[..., dict[str, torch.Tensor]]:
    """A copy of the weights of a translator's networks: ``weights(translator, "to_target")``, or of all of them."""
    return lambda translator, *names: {
        name: torch.cat([value.detach().flatten() for value in network.parameters()])
        for name, network in translator.networks().items()
        if name in names or not names
    }


@pytest.fixture(scope="session")
def mr() -> Callable[[Prepared], Prepared]:
    """A made-up CT seen by MR, in arbitrary units: fat bright, muscle grey, lung, bone and air dark."""
    hu, signal = (-1000, -900, -750, -300, -100, 50, 300, 900), (0, 2, 60, 300, 900, 500, 450, 80)

    def seen(study: Prepared) -> Prepared:
        return dataclasses.replace(study, voxels=np.interp(study.voxels, hu, signal).astype("f4"), bounds=(0.0, 950.0))

    return seen
