"""One turn of every game, what an adversary is good for, and the Wasserstein game by hand."""

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import SGD

from medgan.synthesis.acgan import ACGANConfig
from medgan.synthesis.conditional import ConditionalConfig
from medgan.synthesis.dcgan import DCGAN, DCGANConfig
from medgan.synthesis.game import CRITIC, WassersteinConfig, WassersteinGame
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.patches import LesionConfig

CONFIGS = DCGANConfig, ConditionalConfig, ACGANConfig


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


@pytest.mark.parametrize("adversarial", ["vanilla", "least_squares", "hinge", "wasserstein"])
@pytest.mark.parametrize("kind", ["dcgan", "conditional", "acgan"])
def test_a_turn_moves_both_networks_and_tells_their_terms(game, patch, kind, adversarial):
    learner, batch = game(kind, patch, adversarial)
    before = {name: weights(network) for name, network in learner.networks().items()}
    terms = learner.training_step(batch)
    for name, network in learner.networks().items():
        assert not torch.equal(weights(network), before[name]), name
    penalised = {"gradient_penalty"} if adversarial == "wasserstein" else set()
    named = {"class", "generator_class"} if kind == "acgan" else set()
    assert set(terms) == {"generator", "discriminator"} | penalised | named
    assert all(math.isfinite(term) and not term.requires_grad for term in terms.values())
    if adversarial == "vanilla" and learner.lesions.spatial == 2:  # an untrained discriminator is undecided
        assert float(terms["discriminator"]) == pytest.approx(math.log(2), abs=0.15)


@pytest.mark.parametrize(("receptive_field", "scores"), [(16, (6, 1, 6, 6)), ("whole", (6, 1))])
@pytest.mark.parametrize(("kind", "judged"), [("dcgan", {}), ("conditional", {"judged": "concatenation"})])
def test_the_discriminator_may_judge_fields_or_the_whole(game, kind, judged, receptive_field, scores):
    learner, batch = game(kind, discriminator={"channels": 8, "receptive_field": receptive_field}, **judged)
    assert learner.discriminator(learner.joint(batch), batch["condition"]).shape == scores
    learner.training_step(batch)


FIELDS, GROUPS = {"discriminator": {"receptive_field": 16}}, {"generator": {"norm": "group"}}


@pytest.mark.parametrize(
    ("config", "wrong", "advice"),
    [
        *((each, {"adversarial": "wasserstein"}, r"set discriminator\.norm=instance or none") for each in CONFIGS),
        (ConditionalConfig, FIELDS, "judged=concatenation"),
        (ConditionalConfig, GROUPS, "entry=concatenation"),
        (ACGANConfig, FIELDS, "discriminator.receptive_field=whole"),
        (ACGANConfig, GROUPS | {"entry": "normalisation"}, "entry=concatenation"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_with_advice(config, wrong, advice):
    with pytest.raises(ValidationError, match=advice):
        config(**wrong)


def test_the_defaults_are_dcgans():
    config = DCGANConfig()
    assert config.adversarial == "vanilla"
    for optimizer in DCGAN(config, LesionConfig()).optimizers().values():
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (2e-4, (0.5, 0.999))
    assert (config.generator.norm, config.discriminator.norm) == ("batch", "batch")
    assert config.generator.upsampling == "transposed"


RING = torch.stack([torch.cos(torch.arange(8) * torch.pi / 4), torch.sin(torch.arange(8) * torch.pi / 4)], dim=1)
SLOPES = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij"))


def on_ring(number):
    """Slopes of eight directions as images: the ring of eight modes, in a plane of the images' space."""
    points = RING[torch.randint(8, (number,))] + 0.15 * torch.randn(number, 2)
    return 0.6 * torch.einsum("bp,pxy->bxy", points, SLOPES)[:, None]


def modes_found(network, draws=400):
    """Modes with at least a quarter of their share of the samples within three deviations of them."""
    network.eval()
    with torch.no_grad():
        image = network(torch.randn(draws, network.latent))[:, 0]
    points = torch.einsum("bxy,pxy->bp", image, SLOPES) / (0.6 * SLOPES[0].square().sum())
    distance, nearest = torch.cdist(points, RING).min(dim=1)
    return int((torch.bincount(nearest[distance < 0.45], minlength=8) >= draws / 8 / 4).sum())


@pytest.mark.parametrize(("frozen", "least", "most"), [(False, 7, 8), (True, 0, 6)], ids=["adversary", "frozen"])
def test_the_modes_of_a_ring_are_found_against_an_adversary_and_missed_without(game, frozen, least, most):
    networks = {"generator": {"latent": 8, "channels": 16}, "discriminator": {"channels": 16, "norm": "none"}}
    rates = {"generator_rate": 1e-3, "discriminator_rate": 1e-3}
    learner, _ = game("dcgan", {"size_voxels": 8}, names=("lesion",), **networks, **rates)
    for iteration in range(300):
        if frozen and iteration == 20:
            learner.optimizers()["discriminator"].param_groups[0]["lr"] = 0.0
        image = on_ring(64)
        learner.training_step({"image": image, "labels": (image > 0).long(), "condition": torch.zeros(64, 0)})
    assert least <= modes_found(copy.deepcopy(learner.generator)) <= most


class Plane(nn.Module):
    """A critic whose gradient is its weight, everywhere."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, 0.3))

    def forward(self, image, condition):
        return (image * self.weight).flatten(1).sum(dim=1, keepdim=True)


def wasserstein(shape, **settings):
    """A game of a plane critic against a generator that is one image, by plain gradient descent at rate .1."""

    def descend(optimizer, terms):
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()

    critic, image = Plane((1, *shape)), nn.Parameter(torch.full((1, *shape), 0.5))
    optimizers = {CRITIC: SGD(critic.parameters(), 0.1), GENERATOR: SGD([image], 0.1)}
    return WassersteinGame(WassersteinConfig(**settings), critic, optimizers, descend), critic, image


SHAPES = pytest.mark.parametrize("shape", [(4, 6), (2, 4, 3)], ids=["2d", "3d"])


@SHAPES
def test_the_critics_terms_are_distance_penalty_and_drift(shape):
    game, _, image = wasserstein(shape, gradient_penalty=7.0, drift=0.01)
    real = torch.randn(3, 1, *shape)
    terms = game.critic_terms(real, image.detach().expand(3, 1, *shape), torch.zeros(3, 0))
    scores = (0.3 * real).flatten(1).sum(dim=1)
    length = 0.3 * real[0].numel() ** 0.5
    torch.testing.assert_close(terms["critic"], 0.3 * 0.5 * real[0].numel() - scores.mean())
    torch.testing.assert_close(terms["gradient_penalty"].item(), 7 * (length - 1) ** 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(terms["drift"], 0.01 * scores.square().mean())


@SHAPES
def test_a_turn_moves_the_critic_first_and_the_generator_up_the_moved_critics_slope(shape):
    game, critic, image = wasserstein(shape, gradient_penalty=0.0, drift=0.0)
    real, before = torch.randn(3, 1, *shape), image.detach().clone()
    game.turn(0, real, torch.zeros(3, 0), lambda: image.expand(3, 1, *shape))
    moved = 0.3 + 0.1 * (real.mean(dim=0) - before)
    torch.testing.assert_close(critic.weight.detach(), moved)
    torch.testing.assert_close(image.detach(), before + 0.1 * moved)
    assert critic.weight.requires_grad


@pytest.mark.parametrize("steps", [1, 3])
def test_the_generator_moves_in_every_so_many_th_turn(steps):
    game, critic, image = wasserstein((4, 4), critic_steps=steps)
    for turn in range(6):
        before, due = (weights(critic), image.detach().clone()), turn % steps == steps - 1
        terms = game.turn(turn, torch.randn(2, 1, 4, 4), torch.zeros(2, 0), lambda: image.expand(2, 4, 4)[:, None])
        assert (torch.equal(weights(critic), before[0]), torch.equal(image, before[1])) == (False, not due)
        assert (GENERATOR in terms) == due
        assert not any(term.requires_grad for term in terms.values())


@pytest.fixture(scope="module")
def bench():
    """bench/ring.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("ring", Path(__file__).parents[2] / "bench" / "ring.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_critics_gradient_keeps_length_one_on_a_ring_of_eight_modes(bench):
    # The short form of bench/ring.py, where five seeds are played for longer and the modes are counted.
    played = bench.play(0, 300, WassersteinConfig(critic_steps=3))
    assert 0.8 < sum(played.settled) / len(played.settled) < 1.2


def test_modes_are_counted_by_the_points_near_them(bench):
    centres = bench.centres()
    torch.testing.assert_close(centres.norm(dim=1), torch.full((8,), bench.RADIUS))
    assert bench.judged(bench.ring(4000)) == (8, pytest.approx(0.989, abs=0.01))  # 1 - exp(-9 / 2) lie within 3 sigma
    assert bench.judged(centres[:3].repeat(50, 1)) == (3, 1.0)
    assert bench.judged(torch.zeros(10, 2)) == (0, 0.0)
