import math

import pytest
import torch

from medgan import losses
from medgan.errors import ConfigError
from medgan.synthesis.acgan import ACGANConfig
from medgan.synthesis.patches import LesionConfig

UNNORMED = {"channels": 8, "norm": "none"}


def named(scores, classes):
    """Mean of -log p(class), written out."""
    return -torch.log(torch.softmax(scores, dim=1)[torch.arange(len(classes)), classes]).mean()


def test_the_first_answer_is_of_the_source_and_the_others_name_the_class(game, patch):
    learner, batch = game("acgan", patch, class_weight=0.5, discriminator=UNNORMED)
    real, condition = learner.joint(batch), batch["condition"]
    classes = condition[:, :3].argmax(1)
    fake = learner.generator(learner.noise(real), condition).detach()
    of_real, of_fake = learner.discriminator(real), learner.discriminator(fake)
    assert of_real.shape == (6, 1 + 3)
    terms = learner.discriminator_terms(real, fake, condition)
    source = losses.discriminator_loss("vanilla", of_real[:, :1], of_fake[:, :1])
    torch.testing.assert_close(terms["discriminator"], source)
    torch.testing.assert_close(
        terms["class"], 0.5 * (named(of_real[:, 1:], classes) + named(of_fake[:, 1:], classes)) / 2
    )
    terms = learner.generator_terms(fake, condition)
    torch.testing.assert_close(terms["generator"], losses.generator_loss("vanilla", of_fake[:, :1]))
    torch.testing.assert_close(terms["generator_class"], 0.5 * named(of_fake[:, 1:], classes))


def test_steps_teach_the_discriminator_the_classes_and_the_generator_to_draw_them(game):
    learner, batch = game("acgan", number=12, generator_rate=0.003, discriminator_rate=0.003, discriminator=UNNORMED)
    terms = [learner.training_step(batch) for _ in range(35)]
    for name in ("class", "generator_class"):
        assert float(terms[0][name]) == pytest.approx(math.log(3), abs=0.2)
        assert float(terms[-1][name]) < 0.2


@pytest.mark.parametrize("entry", ["concatenation", "normalisation"])
def test_the_condition_reaches_the_sample(game, entry):
    learner, _ = game("acgan", entry=entry)
    condition = torch.zeros(3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(learner.generator(torch.randn(3, 8), condition).square().sum(), condition)
    assert (gradient != 0).all()


def test_without_classes_there_is_nothing_to_name():
    with pytest.raises(ConfigError, match=r"set condition\.classes=true, or choose dcgan"):
        ACGANConfig().build(LesionConfig(condition={"location": True}))
