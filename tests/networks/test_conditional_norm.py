"""Conditional norm against the plain one and against values by hand."""

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.blocks import normalisation
from medgan.networks.conditional_norm import ConditionalNorm

SHAPES = pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)], ids=["2d", "3d"])
STATISTICS = pytest.mark.parametrize("statistics", ["batch", "instance"])


@pytest.fixture
def seeded():
    torch.manual_seed(0)


def classes(*numbers):
    return F.one_hot(torch.tensor(numbers), 3).float()


@SHAPES
@STATISTICS
def test_equal_gammas_and_betas_are_the_plain_norm(seeded, shape, statistics):
    norm, plain = ConditionalNorm(len(shape), 4, 3, statistics), normalisation(statistics, 4, len(shape))
    with torch.no_grad():
        for part in (norm.scale, norm.shift):
            part.weight.copy_(torch.randn(4, 1).expand(4, 3))
    x = torch.randn(5, 4, *shape) * 3 + 1
    gamma = (norm.scale.weight[:, 0] + norm.scale.bias).view(-1, *[1] * len(shape))
    beta = (norm.shift.weight[:, 0] + norm.shift.bias).view(-1, *[1] * len(shape))
    torch.testing.assert_close(norm(x, classes(0, 1, 2, 0, 1)), gamma * plain(x) + beta)


@SHAPES
@STATISTICS
def test_each_class_has_its_own_mean_and_deviation_of_each_channel(seeded, shape, statistics):
    norm = ConditionalNorm(len(shape), 2, 3, statistics)
    x = torch.randn(1, 2, *shape)
    for number in range(3):
        each = norm(x, classes(number)).flatten(2)[0]
        torch.testing.assert_close(each.mean(dim=1), (norm.shift.weight[:, number] + norm.shift.bias).detach())
        expected = (norm.scale.weight[:, number] + norm.scale.bias).detach().abs()
        torch.testing.assert_close(each.std(dim=1, correction=0), expected, rtol=1e-3, atol=1e-4)


@SHAPES
def test_blocks_of_a_condition_add_up(seeded, shape):
    norm = ConditionalNorm(len(shape), 2, 3, "instance")
    x = torch.randn(1, 2, *shape)
    rows = ([0.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0], [1.0, 0, 1])
    none, first, second, both = (norm(x, torch.tensor([row])) for row in rows)
    torch.testing.assert_close(both - none, (first - none) + (second - none))


@SHAPES
@STATISTICS
def test_the_gradient_reaches_the_condition(seeded, shape, statistics):
    condition = classes(0, 1).requires_grad_()
    norm = ConditionalNorm(len(shape), 4, 3, statistics)
    norm(torch.randn(2, 4, *shape), condition).square().sum().backward()
    assert (condition.grad != 0).all()


def test_a_batchs_statistics_are_kept_for_later(seeded):
    norm = ConditionalNorm(2, 1, 2)
    for _ in range(200):
        norm(torch.randn(16, 1, 8, 8) * 2 + 5, torch.zeros(16, 2))
    norm.eval()
    with torch.no_grad():
        alone = norm(torch.full((1, 1, 8, 8), 7.0), torch.zeros(1, 2))
    torch.testing.assert_close(alone.mean(), norm.scale.bias[0].detach() * 1.0, rtol=0.1, atol=0)
