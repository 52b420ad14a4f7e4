"""Growth is continuous: exactly the smaller network at alpha = 0, nothing of it at alpha = 1."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan.networks.progressive import (
    ProgressiveCritic,
    ProgressiveGenerator,
    _halve,
    _minibatch_deviation,
    _pixel_norm,
    _stage,
    equalised,
    seen_at,
)

SHAPES = {"2d": (16, 24), "3d": (16, 24, 8)}
TABLE = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
LEVELS, CHANNELS, BATCH = 2, 3, 3


def generator(shape, condition=2, **settings):
    given = {"latent": 5, "channels": 2, "most_channels": 6} | settings
    return ProgressiveGenerator(shape, CHANNELS, levels=LEVELS, condition=condition, **given)


def critic(shape, condition=2):
    return ProgressiveCritic(shape, CHANNELS, levels=LEVELS, condition=condition, channels=2, most_channels=6)


def noise(condition=2):
    return torch.randn(BATCH, 5), torch.randn(BATCH, condition)


def repeated(image):
    for axis in range(2, image.dim()):
        image = image.repeat_interleave(2, dim=axis)
    return image


def at_size(shape, level):
    return tuple(size // 2 ** (LEVELS - level) for size in shape)


@TABLE
@pytest.mark.parametrize("level", [1, 2])
def test_at_alpha_0_networks_are_the_smaller_ones_at_twice_the_size_and_at_1_the_old_branch_has_no_influence(
    shape, level
):
    drawing, judging, given = generator(shape), critic(shape), noise()
    joint = torch.randn(BATCH, CHANNELS, *at_size(shape, level))

    def at(alpha):
        return drawing.at(*given, level, alpha), judging.at(joint, given[1], level, alpha)

    smaller = repeated(drawing.at(*given, level - 1)), judging.at(_halve(joint), given[1], level - 1)
    assert all(map(torch.equal, at(0.0), smaller))
    grown, fading = at(1.0), at(0.5)
    with torch.no_grad():
        for branch in (drawing.to_joint[level - 1], judging.from_joint[level - 1][0]):
            branch.parametrizations.weight.original.add_(1.0)
    assert all(map(torch.equal, at(1.0), grown))
    assert not any(map(torch.equal, at(0.5), fading))  # while it fades it has some: the test could see it


@TABLE
def test_output_and_score_have_no_jump_while_the_buffer_grows(shape):
    drawing, judging, given = generator(shape).eval(), critic(shape), noise()
    real = torch.rand(BATCH, CHANNELS, *shape) * 2 - 1
    drawn, scores = [], []
    for step in range(16 * LEVELS + 1):
        drawing.grown.fill_(step / 16)
        judging.grown.fill_(step / 16)
        drawn.append(drawing(*given))
        scores.append(judging(seen_at(real, step / 16, LEVELS), given[1]))
    assert torch.stack(drawn).shape == (16 * LEVELS + 1, BATCH, CHANNELS, *shape)
    assert torch.stack(drawn).abs().max() <= 1
    # A sixteenth of a level moves the output by a sixteenth of the difference at most: 2 / 16.
    assert torch.stack(drawn).diff(dim=0).abs().max() <= 2 / 16 + 1e-6
    assert torch.stack(scores).diff(dim=0).abs().max() < 0.5


@TABLE
def test_real_patches_fade_as_generated_ones_do(shape):
    real = torch.randn(2, CHANNELS, *shape)
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[len(shape)]
    assert torch.equal(seen_at(real, 2.0, LEVELS), real)
    torch.testing.assert_close(seen_at(real, 0.0, LEVELS), pool(real, 4))
    half = pool(real, 2)
    torch.testing.assert_close(seen_at(real, 0.75, LEVELS), 0.75 * half + 0.25 * repeated(pool(half, 2)))


@TABLE
def test_patches_of_every_level_have_its_size_and_how_far_a_network_has_grown_travels_with_its_weights(shape):
    network, given = generator(shape), noise()
    assert network.grown.item() == LEVELS
    for level in (0.0, 1.0, 1.25, 2.0):
        network.grown.fill_(level)
        assert network(*given, full=False).shape == (BATCH, CHANNELS, *at_size(shape, math.ceil(level)))
        fresh = generator(shape)
        fresh.load_state_dict(network.state_dict())
        assert fresh.grown.item() == level
        for other in (fresh, copy.deepcopy(network)):
            assert torch.equal(other(*given), network(*given))


@TABLE
@pytest.mark.parametrize("condition", [0, 2])
def test_every_part_learns_at_its_level_and_what_lies_beyond_rests(shape, condition):
    drawing, judging, given = generator(shape, condition), critic(shape, condition), noise(condition)
    for network in (drawing, judging):
        network.grown.fill_(0.5)
    judging(drawing(*given, full=False), given[1]).sum().backward()
    resting = ("blocks.2", "to_joint.2", "from_joint.2")
    for network, beyond in ((drawing, resting), (judging, (*resting, "blocks.1"))):
        for name, parameter in network.named_parameters():
            assert (parameter.grad is None) == name.startswith(beyond), name
            assert name.startswith(beyond) or parameter.dim() == 1 or parameter.grad.abs().sum() > 0, name


@TABLE
def test_condition_and_batch_matter_and_the_order_of_the_batch_does_not(shape):
    drawing, judging, (z, condition) = generator(shape), critic(shape), noise()
    joint = drawing(z, condition)
    scores, order = judging(joint, condition), torch.tensor([2, 0, 1])
    assert not torch.allclose(drawing(z, -condition), joint)
    assert not torch.allclose(judging(joint, -condition), scores)
    torch.testing.assert_close(judging(joint[order], condition[order]), scores[order])
    # A critic tells a collapsed batch by its deviation.
    assert not torch.allclose(judging(joint[:1].expand_as(joint), condition)[0], scores[0])


def test_the_buffer_names_level_and_alpha_widths_double_up_to_the_most_and_patches_that_cannot_be_halved_are_refused():
    stages = {0.0: (0, 1.0), 0.25: (1, 0.25), 1.0: (1, 1.0), 1.5: (2, 0.5), 2.0: (2, 1.0)}
    assert {grown: _stage(grown) for grown in stages} == stages
    assert generator((32, 48, 32), channels=4, most_channels=12).widths == [12, 8, 4]
    with pytest.raises(ValueError, match="halved 2 times"):
        generator((16, 18))


def test_a_critic_that_is_compiled_scores_the_same_and_keeps_its_second_derivative():
    network, condition = critic((8, 8)), torch.randn(BATCH, 2)
    joint = torch.randn(BATCH, CHANNELS, 8, 8, requires_grad=True)
    scores = torch.compile(network, backend="aot_eager")(joint, condition)
    assert torch.equal(scores, network(joint, condition))
    (gradient,) = torch.autograd.grad(scores.sum(), joint, create_graph=True)
    gradient.square().sum().backward()
    assert network.dense.parametrizations.weight.original.grad.abs().sum() > 0


MAPS = pytest.mark.parametrize("shape", [(6, 8), (4, 6, 4)], ids=["2d", "3d"])
LAYERS = {
    "conv-2d": (lambda: nn.Conv2d(24, 64, 3), (8, 24, 12, 12)),
    "conv-3d": (lambda: nn.Conv3d(24, 64, 3), (2, 24, 8, 8, 8)),
    "linear": (lambda: nn.Linear(96, 512), (64, 96)),
}


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_runtime_scale_is_hes_constant_on_weights_of_deviation_one_so_that_a_signal_keeps_its_size(make, shape):
    layer = equalised(make())
    original = layer.parametrizations.weight.original
    fan = nn.init._calculate_correct_fan(original, "fan_in")
    he = nn.init.calculate_gain("relu") / math.sqrt(fan)
    torch.testing.assert_close(layer.weight, he * original)
    assert [id(each) for each in layer.parameters() if each.dim() > 1] == [id(original)]
    assert original.std().item() == pytest.approx(1, rel=0.02)
    assert layer.bias.count_nonzero() == 0
    # A leaky rectifier of slope .2 keeps (1 + .04) / 2 of the mean square, and He's gain doubles it.
    signal = torch.randn(shape)
    assert equalised(make(), gain=1.0)(signal).var().item() == pytest.approx(1, rel=0.1)
    rectified = F.leaky_relu(layer(signal), 0.2)
    assert rectified.square().mean().item() == pytest.approx(1.04, rel=0.1)


def test_adam_changes_all_layers_at_one_speed():
    # The point of the equalised rate: relative to its range, a wide layer's weight moves as far as a narrow one's.
    moved = []
    for inputs in (16, 400):
        layer = equalised(nn.Linear(inputs, 256))
        before = layer.weight.detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        layer(torch.randn(8, inputs)).square().sum().backward()
        optimizer.step()
        moved.append(((layer.weight - before).abs().mean() / before.std()).item())
    assert moved[0] == pytest.approx(moved[1], rel=0.1)


@MAPS
@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_pixel_norm_gives_every_place_unit_mean_square_and_keeps_directions(shape, size):
    features = size * torch.randn(2, 16, *shape)
    normed = _pixel_norm(features)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones(2, *shape), atol=1e-3, rtol=0)
    torch.testing.assert_close(F.cosine_similarity(normed, features, dim=1), torch.ones(2, *shape))


@MAPS
def test_the_minibatch_deviation_is_the_mean_deviation_over_the_batch(shape):
    # Two items that differ by 2 in one of two features: deviations 1 and 0, the mean 1/2.
    features = torch.zeros(2, 2, *shape)
    features[1, 0] = 2
    seen = _minibatch_deviation(features)
    assert seen.shape == (2, 3, *shape)
    torch.testing.assert_close(seen[:, :2], features)
    torch.testing.assert_close(seen[:, 2], torch.full((2, *shape), 0.5), atol=1e-4, rtol=0)
    drawn = torch.randn(5, 3, *shape)
    torch.testing.assert_close(_minibatch_deviation(drawn)[0, 3, 0, 0].mean(), drawn.std(dim=0, correction=0).mean())
    for batch in (1, 3):  # of one item or of equal ones it is about none, and has a slope
        features = torch.ones(batch, 2, *shape, requires_grad=True)
        deviation = _minibatch_deviation(features)[:, 2]
        assert deviation.max().item() == pytest.approx(1e-4, rel=0.01)
        deviation.sum().backward()
        assert features.grad.isfinite().all()
