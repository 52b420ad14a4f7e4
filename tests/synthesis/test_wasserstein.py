"""One turn of the game by hand, and the length of its critic's gradient on eight modes in a ring."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from medgan.synthesis.game import CRITIC, WassersteinConfig, WassersteinGame
from medgan.synthesis.generator import GENERATOR

BENCH = Path(__file__).parents[2] / "bench" / "ring.py"
SHAPES = pytest.mark.parametrize("shape", [(4, 6), (2, 4, 3)], ids=["2d", "3d"])


class Plane(nn.Module):
    """A critic whose gradient is its weight, everywhere."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, 0.3))

    def forward(self, image, condition):
        return (image * self.weight).flatten(1).sum(dim=1, keepdim=True)


@pytest.fixture
def make_game():
    """A game of a plane critic against a generator that is one image, by plain gradient descent at rate .1."""

    def descend(optimizer, terms):
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()

    def make(shape, **settings):
        critic, image = Plane((1, *shape)), nn.Parameter(torch.full((1, *shape), 0.5))
        optimizers = {CRITIC: SGD(critic.parameters(), 0.1), GENERATOR: SGD([image], 0.1)}
        game = WassersteinGame(WassersteinConfig(**settings), critic, optimizers, descend)
        return game, critic, image

    return make


@SHAPES
def test_the_critics_terms_are_distance_penalty_and_drift(make_game, shape):
    game, _, image = make_game(shape, gradient_penalty=7.0, drift=0.01)
    real = torch.randn(3, 1, *shape)
    fake = image.detach().repeat(3, *[1] * image.dim())[:, 0].reshape(3, 1, *shape)
    terms = game.critic_terms(real, fake, torch.zeros(3, 0))
    scores = (0.3 * real).flatten(1).sum(dim=1)
    length = 0.3 * real[0].numel() ** 0.5
    torch.testing.assert_close(terms["critic"], 0.3 * 0.5 * real[0].numel() - scores.mean())
    torch.testing.assert_close(terms["gradient_penalty"].item(), 7 * (length - 1) ** 2, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(terms["drift"], 0.01 * scores.square().mean())


@SHAPES
def test_a_turn_moves_the_critic_first_and_the_generator_up_the_moved_critics_slope(make_game, shape):
    game, critic, image = make_game(shape, gradient_penalty=0.0, drift=0.0)
    real, before = torch.randn(3, 1, *shape), image.detach().clone()
    game.turn(0, real, torch.zeros(3, 0), lambda: image.expand(3, *image.shape[1:]).reshape(3, 1, *shape))
    moved = 0.3 + 0.1 * (real.mean(dim=0) - before)
    torch.testing.assert_close(critic.weight.detach(), moved)
    torch.testing.assert_close(image.detach(), before + 0.1 * moved)
    assert critic.weight.requires_grad


@pytest.mark.parametrize("steps", [1, 3])
def test_the_generator_moves_in_every_so_many_th_turn(make_game, steps):
    game, critic, image = make_game((4, 4), critic_steps=steps)
    for turn in range(6):
        before = image.detach().clone(), critic.weight.detach().clone()
        terms = game.turn(turn, torch.randn(2, 1, 4, 4), torch.zeros(2, 0), lambda: image.expand(2, 4, 4)[:, None])
        due = turn % steps == steps - 1
        assert torch.equal(image.detach(), before[0]) != due
        assert (GENERATOR in terms) == due
        assert not torch.equal(critic.weight.detach(), before[1])
        assert not any(term.requires_grad for term in terms.values())


@pytest.fixture(scope="module")
def bench():
    """The bench's module, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("ring", BENCH)
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
