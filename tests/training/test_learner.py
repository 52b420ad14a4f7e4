import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import nn

from medgan.errors import ConfigError
from medgan.networks.blocks import constant_maps, convolution
from medgan.training.device import make_fabric
from medgan.training.learner import Learner, joined


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


class Two(Weight):
    """Two weights that play against each other: the first steps first, and each sees the other."""

    trained = optimized = ("first", "second")

    def __init__(self, twice=False):
        super().__init__()
        self.twice = twice
        for name in self.trained:
            setattr(self, name, nn.Linear(1, 1, bias=False))
            nn.init.ones_(getattr(self, name).weight)
            setattr(self, f"{name}_optimizer", torch.optim.SGD(getattr(self, name).parameters(), 0.5))
        self.attach(make_fabric("cpu", "32"), self.networks(), self.optimizers())

    def training_step(self, batch):
        first, second, level = self.first.weight, self.second.weight, batch["level"].mean()
        terms = {"first": (first * second.detach() * level).sum()}
        for _ in range(1 + self.twice):
            self.descend(self.first_optimizer, dict(terms))
            terms["first"] = (first * level).sum()
        # The first is not frozen, and what it is left with is not its own step's.
        terms["second"] = (second * first * level).sum()
        self.descend(self.second_optimizer, {"second": terms["second"]})
        return {name: term.detach() for name, term in terms.items()}

    def values(self):
        return self.first.weight.item(), self.second.weight.item()


def test_a_batch_in_parts_steps_once_down_the_mean_of_their_gradients_and_players_meet_as_they_were():
    batch = {"level": torch.tensor([1.0, 2.0, 3.0, 6.0])}
    whole, parts = Two(), Two()
    whole.iterate(batch)
    assert whole.values() == (-0.5, 1.75), "1 - .5 x 3, then 1 - .5 x 3 x -.5"
    for number in (1, 2):
        terms = parts.iterate(batch, parts=number * 2)
        assert parts.iteration == number
    assert Two().iterate(batch, parts=2)["second"] == 3
    assert parts.values() == (-0.5 - 0.5 * 3 * -0.5, -0.5 - 0.5 * 3 * -0.5), "both 1 - .5 x 3 x 1 after one, and again"
    assert terms["second"] == 0.25 * 3


def test_who_steps_twice_in_an_iteration_gets_no_parts():
    Two(twice=True).iterate({"level": torch.ones(2)})
    with pytest.raises(ConfigError, match="Two steps twice in an iteration, so that no batch has parts: set"):
        Two(twice=True).iterate({"level": torch.ones(2)}, parts=2)


def test_an_iteration_that_failed_between_two_steps_is_tried_again_without_the_first():
    learner, batch = Two(), {"level": torch.tensor([2.0, 4.0])}
    descend = learner.descend

    def fail(optimizer, terms):
        if optimizer is learner.second_optimizer:
            learner.first.requires_grad_(False)
            raise torch.OutOfMemoryError
        descend(optimizer, terms)

    learner.descend = fail
    with pytest.raises(torch.OutOfMemoryError):
        learner.iterate(batch)
    assert (learner.values(), learner.iteration) == ((-0.5, 1.0), 0)
    learner.abandon()
    learner.descend = descend
    learner.iterate(batch, parts=2)
    assert (learner.values(), learner.iteration) == ((-0.5, 1.75), 1), "as the whole batch has it"
    learner.iterate(batch)
    assert learner.values() == pytest.approx((-0.5 - 0.5 * 3 * 1.75, 1.75 - 0.5 * 3 * (-0.5 - 0.5 * 3 * 1.75)))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)], ids=["2d", "3d"])
@pytest.mark.parametrize("norm", ["instance", "group", "none", "batch"])
def test_batches_that_go_through_a_network_together_come_out_as_alone(shape, norm):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.passes = convolution(len(shape), 1 + 2, 16, 3, norm=norm), 0

        def forward(self, image, condition):
            self.passes += 1
            return self.network(torch.cat([image, constant_maps(condition, image)], dim=1))

    both, condition = Both(), torch.randn(2, 2)
    batches = [torch.randn(2, 1, *shape), 3 + torch.randn(2, 1, *shape)]
    together = joined(both, batches, condition)
    assert both.passes == (2 if norm == "batch" else 1)
    for batch, result in zip(batches, together, strict=True):
        torch.testing.assert_close(result, both(batch, condition))


def test_in_16_bits_all_players_step_by_the_scale_of_their_losses():
    batch, scaler = {"level": torch.tensor([1.0, 2.0, 3.0, 6.0])}, torch.amp.GradScaler("cpu", 8.0, growth_interval=1)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    for parts in (1, 2):
        plain, scaled = Two(), Two()
        wrapped = {name: fabric.setup_optimizers(each) for name, each in scaled.optimizers().items()}
        scaled.attach(fabric, scaled.networks(), wrapped)
        for _ in range(2):  # the scale doubles after each step
            for learner in (plain, scaled):
                learner.iterate(batch, parts)
        assert scaled.values() == plain.values()
    assert scaler.get_scale() == 8 * 2 ** (2 * 2 + 2)
