import pytest
import torch
from torch import nn

from medgan.training.device import make_fabric
from medgan.training.learner import Learner


class Weight(Learner):
    """One number, and an optimiser that takes whole steps."""

    trained = optimized = kept = ("weight",)
    best = "val/nothing"

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(1, 1, bias=False)
        self.weight_optimizer = torch.optim.SGD(self.weight.parameters(), 1.0)

    def training_step(self, batch):
        return {}

    def validate(self, held_out, kept):
        raise NotImplementedError


def test_a_step_goes_down_the_sum_of_the_terms_and_forgets_the_gradients_before_it():
    learner = Weight()
    weight = learner.weight.weight
    nn.init.zeros_(weight)
    with pytest.raises(AssertionError, match="attach comes first"):
        learner.descend(learner.weight_optimizer, {"one": weight.sum()})
    learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
    for height in (-5, -10):
        learner.descend(learner.weight_optimizer, {"one": 2 * weight.sum(), "other": 3 * weight.sum()})
        assert weight.item() == height


def test_a_learner_has_no_state_and_no_advice_of_itself_but_must_tell_how_it_is_judged():
    learner = Weight()
    assert learner.state_dict() == {}
    learner.load_state_dict({})
    assert learner.diagnose({"train/one": 0.0}) is None
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Weight,), {"validate": Learner.validate})()
