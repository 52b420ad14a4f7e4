import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medgan.class_losses import fake_loss, feature_matching, labelled_loss, real_loss

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


def test_one_class_is_the_binary_game():
    scores = torch.tensor([[-1.5], [0.0], [2.0]])
    torch.testing.assert_close(real_loss(scores), F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores)))
    torch.testing.assert_close(fake_loss(scores), F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores)))


def test_scores_that_overflow_an_exponential_give_numbers_and_gradients():
    scores = torch.tensor([[200.0, -200.0], [-200.0, -300.0]], requires_grad=True)
    assert real_loss(scores).item() == pytest.approx(100.0)
    assert fake_loss(scores).item() == pytest.approx(100.0)
    (real_loss(scores) + fake_loss(scores)).backward()
    assert torch.isfinite(scores.grad).all()


def test_nothing_known_costs_the_logarithm_of_the_choices():
    scores = torch.zeros(5, 4)
    assert float(labelled_loss(scores, torch.arange(4).repeat(2)[:5])) == pytest.approx(math.log(4))
    assert float(real_loss(scores)) == pytest.approx(math.log(5 / 4))
    assert float(fake_loss(scores)) == pytest.approx(math.log(5))


def test_features_match_where_their_means_do_whatever_the_images():
    real = torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    assert float(feature_matching(real, torch.tensor([[2.0, 2.0]]))) == 0
    assert float(feature_matching(real, torch.tensor([[5.0, 2.0], [3.0, 2.0]]))) == pytest.approx((2.0**2 + 0) / 2)


def test_matching_moves_the_generator_and_leaves_the_discriminator_of_real_images_alone():
    real, fake = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    feature_matching(real, fake).backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0
