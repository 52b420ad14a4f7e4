"""Translators on a device, and batches for them."""

from collections.abc import Callable

import pytest
import torch

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
