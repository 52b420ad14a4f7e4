"""What is asked of every network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def learns() -> Callable[[nn.Module, Tensor], None]:
    """Fails unless a step down this output would move every weight: ``learns(network, network(image))``."""

    def check(network, output):
        output.square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert not name.endswith("weight") or parameter.grad.abs().sum() > 0, name

    return check
