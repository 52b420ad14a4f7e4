import numpy as np
import pytest
import torch
from torch import nn

from medgan.training.device import make_fabric
from medgan.training.learner import Learner, panel


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


def test_a_panel_shows_a_case_a_row_seen_from_the_feet_at_a_fixed_window():
    image = np.zeros((4, 6, 3), dtype=np.float32)
    image[0, 5, 1] = 100.0  # left and in front, since x grows to the patient's right and y to the front
    other = np.full((2, 3, 1), 50.0, dtype=np.float32)
    picture = panel([[image, other], [other, image]], 0.0, 100.0)
    assert (picture.shape, picture.dtype) == ((2 * 6, 2 * 4), np.uint8)
    # The front is above, and the patient's left is on the right.
    assert picture[0, 3] == picture[6, 7] == 255
    assert (picture[0:3, 4:6] == 128).all()
    assert (picture[3:6, 4:8] == 0).all()


def test_a_panel_clips_what_lies_beyond_its_window():
    image = np.array([-1000.0, 0.0, 3000.0], dtype=np.float32).reshape(3, 1, 1)
    assert panel([[image]], -100.0, 100.0).tolist() == [[255, 128, 0]]
