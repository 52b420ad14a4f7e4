import pytest
import torch
from torch import nn

from medgan.training.device import make_fabric
from medgan.training.learner import Learner


class Weight(Learner):
    """One number, and an optimiser that takes whole steps."""

    kept = ("weight",)
    best = "val/nothing"

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(1, 1, bias=False)
        self.optimizer = torch.optim.SGD(self.weight.parameters(), 1.0)

    def networks(self):
        return {"weight": self.weight}

    def optimizers(self):
        return {"sgd": self.optimizer}

    def attach(self, fabric, networks, optimizers):
        self.fabric = fabric

    def training_step(self, batch):
        return {}

    def validate(self, held_out, kept):
        raise NotImplementedError


@pytest.fixture
def learner():
    learner = Weight()
    learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
    nn.init.zeros_(learner.weight.weight)
    return learner


def test_a_step_goes_down_the_sum_of_the_terms(learner):
    weight = learner.weight.weight
    learner.descend(learner.optimizer, {"one": 2 * weight.sum(), "other": 3 * weight.sum()})
    assert weight.item() == -5


def test_a_step_forgets_the_gradients_before_it(learner):
    weight = learner.weight.weight
    for _ in range(3):
        learner.descend(learner.optimizer, {"one": weight.sum()})
    assert weight.item() == -3


def test_there_is_no_step_before_a_device_is_known():
    learner = Weight()
    with pytest.raises(AssertionError, match="attach comes first"):
        learner.descend(learner.optimizer, {"one": learner.weight.weight.sum()})


def test_a_learner_without_memory_has_nothing_to_restore_and_nothing_to_advise(learner):
    assert learner.memory() == {}
    learner.remember(learner.memory())
    assert learner.diagnose({"train/one": 0.0}) is None


def test_what_a_learner_must_tell_cannot_be_left_out():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Weight,), {"training_step": Learner.training_step})()
