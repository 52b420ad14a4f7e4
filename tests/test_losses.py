"""Losses against values by hand and against what descending on them does."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from medgan.losses import (
    binary_cross_entropy,
    dice,
    discriminator_loss,
    fake_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    grain,
    labelled_loss,
    least_squares,
    patch_nce,
    real_loss,
    reconstruction,
    smoothness,
)

SHAPES = pytest.mark.parametrize("spatial", [(8, 8), (8, 8, 4)], ids=["2d", "3d"])
GAMES = pytest.mark.parametrize("kind", ["vanilla", "least_squares", "hinge", "wasserstein"])


def softplus(x):
    return math.log1p(math.exp(x))


@SHAPES
def test_distances_to_the_label_by_hand_from_raw_scores(spatial):
    scores = torch.full((2, 1, *spatial), 0.25)
    for real, distance, surprise in ((True, 0.75**2, softplus(-0.25)), (False, 0.25**2, softplus(0.25))):
        torch.testing.assert_close(least_squares(scores, real=real), torch.tensor(distance))
        torch.testing.assert_close(binary_cross_entropy(scores, real=real), torch.tensor(surprise))
    assert binary_cross_entropy(torch.full((2, 1, *spatial), -1e4), real=True).isfinite()


@SHAPES
@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        ("vanilla", softplus(-0.3), (softplus(-2.0) + softplus(0.3)) / 2),
        ("least_squares", 0.7**2, ((2 - 1) ** 2 + 0.3**2) / 2),
        ("hinge", -0.3, (0 + 1.3) / 2),
        ("wasserstein", -0.3, 0.3 - 2.0),
    ],
)
def test_the_losses_of_every_game_by_hand(spatial, kind, generator, discriminator):
    real, fake = torch.full((2, 1, *spatial), 2.0), torch.full((2, 1, *spatial), 0.3)
    torch.testing.assert_close(generator_loss(kind, fake), torch.tensor(generator))
    torch.testing.assert_close(discriminator_loss(kind, real, fake), torch.tensor(discriminator))
    first = torch.zeros(2, 1, *spatial)
    first[0] = 2.0  # all that counts is the first image, on average as much as both
    fake[1], real[1] = 9.0, -9.0
    torch.testing.assert_close(generator_loss(kind, fake, first), torch.tensor(generator))
    torch.testing.assert_close(discriminator_loss(kind, real, fake, first), torch.tensor(discriminator))
    real[1] = 2.0
    if kind == "hinge":  # it asks for no more than the margin
        assert discriminator_loss(kind, real, -real) == 0


@GAMES
def test_who_descends_raises_fake_scores_or_parts_real_from_fake(kind):
    scores, real, fake = (torch.linspace(0.1, 0.9, 8, requires_grad=True) for _ in range(3))
    generator_loss(kind, scores).backward()
    discriminator_loss(kind, real, fake).backward()
    assert (scores.grad < 0).all()
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@SHAPES
@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_the_squared_distance_of_its_norm_to_one(spatial, norm):
    torch.manual_seed(0)
    weight = torch.randn(1, 2, *spatial)
    weight *= norm / weight.norm()
    real, fake = torch.randn(2, 3, 2, *spatial)
    penalty = gradient_penalty(lambda image: (weight * image).flatten(1).sum(dim=1), real, fake)
    torch.testing.assert_close(penalty, torch.tensor((norm - 1) ** 2), atol=1e-5, rtol=1e-5)


@SHAPES
def test_the_penalty_is_taken_between_real_and_fake_and_teaches_the_critic_only(spatial):
    seen = []

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.1))

        def forward(self, image):
            seen.append(image.detach())
            return self.scale * image.square().flatten(1).sum(dim=1)

    critic = Quadratic()
    real = torch.full((64, 1, *spatial), 1.0, requires_grad=True)
    fake = torch.full((64, 1, *spatial), 3.0, requires_grad=True)
    gradient_penalty(critic, real, fake).backward()
    places = seen[0].flatten(1)
    assert torch.equal(places, places[:, :1].expand_as(places))
    assert 1 <= places.min() < 1.3
    assert 2.7 < places.max() <= 3
    assert critic.scale.grad != 0
    assert real.grad is None
    assert fake.grad is None


@SHAPES
def test_a_reconstruction_is_the_weighted_mean_of_the_absolute_distance(spatial):
    torch.manual_seed(0)
    fake, real, weight = torch.randn(2, 1, *spatial), torch.randn(2, 1, *spatial), torch.rand(2, 1, *spatial)
    expected = sum(
        w * abs(f - r) for w, f, r in zip(*(x.flatten().tolist() for x in (weight, fake, real)), strict=True)
    )
    torch.testing.assert_close(reconstruction(fake, real, weight), torch.tensor(expected / float(weight.sum())))
    torch.testing.assert_close(reconstruction(fake, real, 7 * weight), reconstruction(fake, real, weight))
    torch.testing.assert_close(reconstruction(fake, real, torch.ones_like(real)), (fake - real).abs().mean())
    torch.testing.assert_close(reconstruction(fake, real), (fake - real).abs().mean())
    assert reconstruction(fake, real, torch.zeros_like(real)) == 0


@SHAPES
def test_smoothness_of_a_linear_field_is_its_slopes_squared(spatial):
    axes = torch.meshgrid(*[torch.arange(float(size)) for size in spatial], indexing="ij")
    field = torch.stack([2.0 * axes[0] + 3.0 * axes[1], *torch.zeros(len(spatial) - 1, *spatial)])[None]
    torch.testing.assert_close(smoothness(field), torch.tensor((2.0**2 + 3.0**2) / len(spatial)))
    assert smoothness(torch.full_like(field, 5.0)) == 0
    # A stack of one slice has no gradient across it, and keeps those in plane.
    torch.testing.assert_close(smoothness(field[..., None]), smoothness(field))


def unit(*vectors):
    return F.normalize(torch.tensor(vectors), dim=1)[None]


def test_patch_nce_by_hand():
    queries, keys = unit((1.0, 0.0), (0.0, 1.0)), unit((0.6, 0.8), (0.0, 1.0))
    # Similarities: the first query 0.6 to its own key and 0 to the other, the second 1 to its own and 0.8 to the other.
    expected = (softplus((0 - 0.6) / 0.5) + softplus((0.8 - 1) / 0.5)) / 2
    torch.testing.assert_close(patch_nce(queries, keys, 0.5), torch.tensor(expected))
    # Where all patches are alike it is the logarithm of their number, and patches of one image are compared only.
    alike = torch.ones(2, 5, 4) / 2
    torch.testing.assert_close(patch_nce(alike, alike, 0.07), torch.tensor(math.log(5)))
    queries, keys = F.normalize(torch.randn(2, 3, 6, 4), dim=3)
    each = torch.stack([patch_nce(query[None], key[None], 0.1) for query, key in zip(queries, keys, strict=True)])
    torch.testing.assert_close(patch_nce(queries, keys, 0.1), each.mean())


def test_matching_patches_cost_less_than_shuffled_ones_and_only_queries_learn_and_turn_towards_their_keys():
    torch.manual_seed(0)
    keys = F.normalize(torch.randn(2, 16, 8), dim=2)
    shuffled, matching = (
        [float(patch_nce(queries, keys, temperature)) for temperature in (0.5, 0.25, 0.07, 0.035)]
        for queries in (keys.roll(1, dims=1), keys)
    )
    assert max(matching) < math.log(16) < min(shuffled)
    assert matching == sorted(matching, reverse=True)  # and the more so the colder
    assert shuffled == sorted(shuffled)
    queries, keys = torch.randn(2, 1, 6, 4).unbind()
    queries.requires_grad_(), keys.requires_grad_()
    loss = patch_nce(queries, keys, 1.0)
    loss.backward()
    assert keys.grad is None
    assert patch_nce(queries - 0.1 * queries.grad, keys, 1.0) < loss


@pytest.mark.parametrize("spatial", [(8, 8), (8, 8, 8)], ids=["2d", "3d"])
def test_grain_is_the_difference_of_mean_roughness_inside_by_hand(spatial):
    flat, rough, inside = (torch.zeros(2, 1, *spatial) for _ in range(3))
    middle = (4, 4, 4)[: len(spatial)]
    rough[(slice(None), 0, *middle)] = 1.0
    inside[(slice(None), 0, *[slice(at - 1, at + 2) for at in middle])] = 1
    n = 3 ** len(spatial)
    # The one voxel differs from its neighbourhood's mean by 1 - 1/n, its n - 1 neighbours from theirs by 1/n.
    torch.testing.assert_close(grain(rough, flat, inside), torch.tensor(2 * (1 - 1 / n) / n))
    torch.testing.assert_close(grain(rough, rough, inside), torch.tensor(0.0))
    assert grain(rough, flat, 0 * inside) == 0
    # It does not ask where which voxel is.
    torch.manual_seed(0)
    one, other = torch.randn(2, 4, 1, *spatial)
    everywhere = torch.ones_like(one)
    assert grain(one, other, everywhere) < 0.4 * grain(0.2 * one, other, everywhere)


CLASSES = torch.tensor([0, 2, 1, 2])

some_scores = st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=4)


def written_out(scores):
    """The C + 1 probabilities, the fake's score a zero that stands there."""
    zero = torch.zeros(len(scores), 1, dtype=scores.dtype)
    return torch.softmax(torch.cat([scores, zero], dim=1), dim=1)


@settings(deadline=None)
@given(some_scores)
def test_real_and_fake_are_the_two_sides_of_the_written_out_softmax(given_scores):
    scores = torch.tensor(given_scores, dtype=torch.float64)
    shares = written_out(scores)
    torch.testing.assert_close(real_loss(scores), -shares[:, :-1].sum(1).log().mean())
    torch.testing.assert_close(fake_loss(scores), -shares[:, -1].log().mean())


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_odenas_loss_is_the_labelled_one_and_the_real_one_together(shift):
    scores = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + shift
    odena = -written_out(scores)[torch.arange(4), CLASSES].log().mean()
    torch.testing.assert_close(labelled_loss(scores, CLASSES) + real_loss(scores), odena)


def test_scores_that_overflow_an_exponential_give_numbers_and_gradients():
    scores = torch.tensor([[200.0, -200.0], [-200.0, -300.0]], requires_grad=True)
    assert real_loss(scores).item() == pytest.approx(100.0)
    assert fake_loss(scores).item() == pytest.approx(100.0)
    (real_loss(scores) + fake_loss(scores)).backward()
    assert torch.isfinite(scores.grad).all()


def test_features_match_where_their_means_do_and_those_of_real_images_do_not_learn():
    real = torch.tensor([[1.0, 4.0], [3.0, 0.0]], requires_grad=True)
    fake = torch.tensor([[5.0, 2.0], [3.0, 2.0]], requires_grad=True)
    assert float(feature_matching(real, torch.tensor([[2.0, 2.0]]))) == 0
    matching = feature_matching(real, fake)
    assert matching.item() == pytest.approx((2.0**2 + 0) / 2)
    matching.backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


@pytest.mark.parametrize("spatial", [(8, 8), (8, 8, 4)], ids=["2d", "3d"])
def test_dice_is_that_of_monai_over_the_batch(spatial):
    from monai.losses import DiceLoss

    scores, labels = torch.randn(3, 4, *spatial, requires_grad=True), torch.randint(4, (3, 1, *spatial))
    ours = dice(scores, labels)
    theirs = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)(scores, labels)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(each, scores)[0] for each in (ours, theirs)))
